"""One client of the hub: its two sockets, its filters, and what it has not read yet."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence

from hil_rig.wire.frame import Frame
from hil_rig.wire.records import RECORD, Filter, Kind

_BACKLOG_RECORDS = 8_192
_SEND_BUFFER = 1 << 20
_REMEMBERED_IDS = 4_096


class ClientGone(Exception):
    """The client closed its end or died."""


class Client:
    """Hands records to one client without ever waiting for it.

    `frames` carries records both ways; `room` tells the client how many of its frames are through
    and answers its requests, so that sending and receiving never read the same socket. Until it
    has set filters a client gets no frames of others.
    """

    def __init__(
        self,
        frames: socket.socket,
        room: socket.socket,
        node: int,
        *,
        receive_own: bool,
        receive_fd: bool,
    ) -> None:
        self.frames = frames
        self.node = node
        self.through = 0
        self.receive_own = receive_own
        self._receive_fd = receive_fd
        self._room = room
        self._filters: Sequence[Filter] | None = None
        self._accepted: dict[tuple[int, bool], bool] = {}
        self._arriving: list[Filter] = []
        self._backlog: deque[bytes] = deque()
        room.setblocking(False)
        frames.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    @property
    def behind(self) -> bool:
        """Whether records wait for the client to read."""
        return bool(self._backlog)

    def add_filters(self, filters: Sequence[Filter], *, first: bool, last: bool) -> bool:
        """Take one record's part of a filter set; True when the set is complete and in force."""
        if first:
            self._arriving = []
        self._arriving += filters
        if last:
            self._filters, self._arriving = self._arriving, []
            self._accepted.clear()
        return last

    def accepts(self, frame: Frame) -> bool:
        """Say whether the filters let `frame` through."""
        if self._filters is None or (frame.fd and not self._receive_fd):
            return False
        key = (frame.arbitration_id, frame.extended)
        accepted = self._accepted.get(key)
        if accepted is None:
            accepted = not self._filters or any(each.accepts(frame) for each in self._filters)
            if len(self._accepted) >= _REMEMBERED_IDS:
                self._accepted.clear()
            self._accepted[key] = accepted
        return accepted

    def deliver(self, record: bytes, *, own: bool = False) -> bool:
        """Hand over a frame record; False if it is dropped because the client does not read.

        A confirmation (`own`) is never dropped: the transmit queue bounds their number.
        Raises ClientGone.
        """
        if not self._backlog and self._send(self.frames, record):
            return True
        if len(self._backlog) >= _BACKLOG_RECORDS and not own:
            return False
        self._backlog.append(record)
        return True

    def catch_up(self) -> None:
        """Hand over what waits, as far as the client has read. Raises ClientGone."""
        while self._backlog and self._send(self.frames, self._backlog[0]):
            self._backlog.popleft()

    def tell_room(self) -> None:
        """Tell how many of its frames are through. One such record may be lost: the next has it.

        Raises ClientGone.
        """
        self._send(self._room, RECORD.pack(Kind.ROOM, 0, 0, self._through_32, 0, b""))

    def answer(self, request: int, value: int = 0, payload: bytes = b"") -> None:
        """Answer a request of the kind `request`. Raises ClientGone."""
        record = RECORD.pack(Kind.ANSWER, request, 0, self._through_32, value, payload)
        self._send(self._room, record)

    def close(self) -> None:
        """Close both sockets."""
        self.frames.close()
        self._room.close()

    @property
    def _through_32(self) -> int:
        return self.through & 0xFFFFFFFF

    @staticmethod
    def _send(link: socket.socket, record: bytes) -> bool:
        try:
            link.send(record)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ClientGone from error
        return True
