"""The process edge of the wire: clients on a Unix socket around one medium in real time.

One loop on `select`: epoll rounds its timeout to milliseconds, select to microseconds. Nothing in
it waits for a client.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import socket
import time
from pathlib import Path

from hil_rig.wire.client import Client, ClientGone
from hil_rig.wire.frame import Frame
from hil_rig.wire.listening import listen
from hil_rig.wire.medium import Medium, Transmission
from hil_rig.wire.records import (
    RECORD,
    VERSION,
    FiltersFlag,
    JoinFlag,
    Kind,
    Record,
    Statistics,
    WireProperties,
    filters_of,
    frame_of,
    pack_frame,
    pack_properties,
    pack_statistics,
    unpack,
)
from hil_rig.wire.statistics import Tally

_LOG = logging.getLogger(__name__)

LARGEST_QUEUE = 128
_SELECTABLE = 1_024
_SPARE_DESCRIPTORS = 16
_RECORDS_A_TURN = 2 * LARGEST_QUEUE
_PR_SET_TIMERSLACK = 29


class Hub:
    """Serves one bus at the Unix socket `path`.

    The socket is open (clients can connect) once the constructor returns; raises HubError if the
    path cannot be used or a live hub serves it. `serve` runs until `stop`.
    """

    def __init__(self, path: Path, properties: WireProperties) -> None:
        self._path = path
        self._properties = properties
        self._medium = Medium(properties.rates, properties.queue_depth)
        self._tally = Tally()
        self._guests: dict[int, socket.socket] = {}
        self._clients: dict[int, Client] = {}
        self._by_node: dict[int, Client] = {}
        self._listener = listen(path)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._inode = path.stat().st_ino

    def stop(self) -> None:
        """End `serve` soon; may be called from a signal handler or another thread."""
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"x")

    def statistics(self) -> Statistics:
        """What the wire has done so far."""
        return self._tally.statistics()

    def serve(self) -> None:
        """Let clients come and go and frames pass until `stop`; then remove the socket."""
        _sharpen_timers()
        try:
            while self._turn():
                pass
        finally:
            self._close()

    def _turn(self) -> bool:
        deadline = self._medium.next_deadline()
        timeout = None if deadline is None else max(0, deadline - time.monotonic_ns()) / 1e9
        wake, listener = self._wake_reader.fileno(), self._listener.fileno()
        readers = [wake, listener, *self._guests, *self._clients]
        writers = [fd for fd, client in self._clients.items() if client.behind]
        readable, writable, _ = select.select(readers, writers, [], timeout)
        now = time.monotonic_ns()
        for ready in readable:
            if ready == wake:
                return False
            if ready == listener:
                self._accept()
            elif ready in self._guests:
                self._admit(self._guests.pop(ready))
            elif ready in self._clients:
                self._hear(self._clients[ready], now)
        self._pass_time(time.monotonic_ns())
        for fd in writable:
            if client := self._clients.get(fd):
                self._catch_up(client)
        return True

    def _pass_time(self, now_ns: int) -> None:
        for transmission in self._medium.advance(now_ns):
            self._hand_out(transmission)

    def _accept(self) -> None:
        try:
            guest, _ = self._listener.accept()
        except OSError as error:
            _LOG.warning("wire %s: a client could not connect: %s", self._path, error)
            return
        if guest.fileno() >= _SELECTABLE - _SPARE_DESCRIPTORS:
            _LOG.warning("wire %s: too many clients, one more is turned away", self._path)
            guest.close()
            return
        guest.setblocking(False)
        self._guests[guest.fileno()] = guest

    def _admit(self, guest: socket.socket) -> None:
        """Make a client of a guest whose first record is JOIN with one socket."""
        try:
            record, room = _receive_join(guest)
        except (OSError, ValueError) as error:
            _LOG.warning("wire %s: a client did not join: %s", self._path, error)
            guest.close()
            return
        client = Client(
            guest,
            room,
            self._medium.join(),
            receive_own=bool(record.flags & JoinFlag.RECEIVE_OWN),
            receive_fd=bool(record.flags & JoinFlag.RECEIVE_FD),
        )
        self._clients[guest.fileno()] = client
        self._by_node[client.node] = client
        try:
            client.answer(Kind.JOIN, payload=pack_properties(self._properties))
        except ClientGone:
            self._remove(client)

    def _hear(self, client: Client, now_ns: int) -> None:
        try:
            for _ in range(_RECORDS_A_TURN):
                data = client.frames.recv(RECORD.size + 1)
                if not data:
                    raise ClientGone
                if not self._obey(client, unpack(data), now_ns):
                    return
        except BlockingIOError:
            return
        except ValueError as error:
            _LOG.warning("wire %s: client %d sent junk: %s", self._path, client.node, error)
            self._remove(client)
        except (OSError, ClientGone):
            # What was due to begin before the client went has begun; the rest goes with it.
            self._pass_time(now_ns)
            self._remove(client)

    def _obey(self, client: Client, record: Record, now_ns: int) -> bool:
        """Do what one record asks; False once the client has left."""
        match record.kind:
            case Kind.SEND:
                self._enqueue(client, record, now_ns)
            case Kind.FILTERS:
                first, last = record.flags & FiltersFlag.FIRST, record.flags & FiltersFlag.LAST
                if client.add_filters(filters_of(record), first=bool(first), last=bool(last)):
                    client.answer(Kind.FILTERS)
            case Kind.FLUSH:
                self._pass_time(now_ns)
                dropped = self._medium.flush(client.node)
                client.through += dropped
                client.answer(Kind.FLUSH, dropped)
            case Kind.STATISTICS:
                client.answer(Kind.STATISTICS, payload=pack_statistics(self.statistics()))
            case Kind.LEAVE:
                client.answer(Kind.LEAVE)
                self._remove(client, drain=True)
                return False
            case _:
                raise ValueError(f"no record of kind {record.kind}")
        return True

    def _enqueue(self, client: Client, record: Record, now_ns: int) -> None:
        """Queue a frame. One that cannot go is dropped, counted, and takes no room."""
        try:
            frame = frame_of(record)
            if frame.fd and not self._properties.fd:
                raise ValueError("a CAN FD frame on a classic wire")
            if self._medium.enqueue(client.node, frame, now_ns):
                return
            raise ValueError("a frame beyond the transmit queue")
        except ValueError as error:
            _LOG.warning("wire %s: client %d: frame dropped: %s", self._path, client.node, error)
        self._tally.dropped += 1
        client.through += 1
        client.tell_room()

    def _hand_out(self, transmission: Transmission) -> None:
        frame, finish = transmission.frame, transmission.finish_ns
        self._tally.add(transmission, time.monotonic_ns())
        if sender := self._by_node.get(transmission.node):
            self._confirm(sender, frame, finish)
        record = pack_frame(Kind.FRAME, frame, time_ns=finish)
        for client in [*self._clients.values()]:
            if client is not sender and client.accepts(frame):
                self._deliver(client, record)

    def _confirm(self, sender: Client, frame: Frame, finish_ns: int) -> None:
        sender.through += 1
        try:
            if sender.receive_own and sender.accepts(frame):
                sender.deliver(pack_frame(Kind.FRAME, frame, time_ns=finish_ns, own=True), own=True)
            sender.tell_room()
        except ClientGone:
            self._remove(sender)

    def _deliver(self, client: Client, record: bytes) -> None:
        try:
            if not client.deliver(record):
                self._tally.dropped += 1
        except ClientGone:
            self._remove(client)

    def _catch_up(self, client: Client) -> None:
        try:
            client.catch_up()
        except ClientGone:
            self._remove(client)

    def _remove(self, client: Client, *, drain: bool = False) -> None:
        if self._by_node.pop(client.node, None) is None:
            return
        del self._clients[client.frames.fileno()]
        self._medium.leave(client.node, drain=drain)
        client.close()

    def _close(self) -> None:
        for link in (*self._guests.values(), self._listener, self._wake_reader, self._wake_writer):
            link.close()
        for client in self._clients.values():
            client.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def _receive_join(guest: socket.socket) -> tuple[Record, socket.socket]:
    """Read JOIN and the socket that comes with it. Raises OSError or ValueError."""
    data, descriptors, _, _ = socket.recv_fds(guest, RECORD.size, 1)
    with contextlib.ExitStack() as given:
        for descriptor in descriptors:
            given.callback(os.close, descriptor)
        record = unpack(data)
        if record.kind != Kind.JOIN or record.number != VERSION or len(descriptors) != 1:
            raise ValueError(f"expected JOIN of version {VERSION} with one socket")
        room = socket.socket(fileno=descriptors[0])
        given.pop_all()
    return record, room


def _sharpen_timers() -> None:
    """Ask for a timer slack of 1 ns, so that `select` does not oversleep by the usual 50 µs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
