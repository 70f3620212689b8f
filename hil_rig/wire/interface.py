"""The wire as a python-can interface: `can.Bus(interface="wire", channel="/path/hub.sock")`."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from typing import NoReturn

import can
from can.typechecking import CanFilter, CanFilters

from hil_rig.wire.frame import Frame
from hil_rig.wire.records import (
    RECORD,
    VERSION,
    Filter,
    FrameFlag,
    JoinFlag,
    Kind,
    Record,
    Statistics,
    pack_filters,
    pack_frame,
    plain,
    properties_of,
    statistics_of,
    unpack,
)

_ANSWER_S = 5.0
_LOOK_AGAIN_S = 0.01
_OWN_NUMBER_MASK = 0xFFFFFFFF


class WireBus(can.BusABC):
    """One node on a software wire.

    Timestamps of messages are the exact instant at which the frame was through on the wire, in
    seconds of CLOCK_MONOTONIC (the clock of `loop.time()`). As on SocketCAN, own messages come back
    with `is_rx=False` if asked for, filters apply to them too, and a bus opened with `fd=False`
    neither sends nor gets CAN FD frames. Sending and receiving may happen in different threads.
    """

    def __init__(
        self,
        channel: str,
        can_filters: CanFilters | None = None,
        *,
        receive_own_messages: bool = False,
        fd: bool | None = None,
        bitrate: int | None = None,
        data_bitrate: int | None = None,
        **_options_of_other_interfaces: object,
    ) -> None:
        """Join the wire whose hub serves the Unix socket `channel`.

        `fd`: None takes the wire as it is; True insists on a CAN FD wire. `bitrate` and
        `data_bitrate` are checked against the wire's, if given. Other options are ignored:
        python-can's own programs hand over those of every interface.
        Raises `can.CanInitializationError` if there is no hub or the wire is not as asked.
        """
        self.channel = str(channel)
        self.channel_info = f"wire {channel}"
        self._lock = threading.Lock()
        self._sent = 0
        self._through = 0
        self._closed = False
        flags = (JoinFlag.RECEIVE_OWN if receive_own_messages else 0) | (
            JoinFlag.RECEIVE_FD if fd is not False else 0
        )
        self._frames, self._room = _connect(self.channel, flags)
        try:
            self.wire = properties_of(self._answer(Kind.JOIN).payload)
            self._fd = self.wire.fd if fd is None else fd
            self._check_wire(bitrate, data_bitrate)
            super().__init__(channel, can_filters)
        except can.CanError as error:
            self._close_sockets()
            raise can.CanInitializationError(str(error)) from error
        self._can_protocol = can.CanProtocol.CAN_FD if self._fd else can.CanProtocol.CAN_20

    def _check_wire(self, bitrate: int | None, data_bitrate: int | None) -> None:
        if self._fd and not self.wire.fd:
            raise can.CanInitializationError(f"{self.channel_info} is classic; start it with --fd")
        for name, asked, real in (
            ("bitrate", bitrate, self.wire.rates.nominal),
            ("data_bitrate", data_bitrate, self.wire.rates.data),
        ):
            if asked is not None and int(asked) != real:
                raise can.CanInitializationError(
                    f"{self.channel_info} runs at {name} {real}, not {asked}"
                )

    def fileno(self) -> int:
        """Return a descriptor that is readable when `recv(0)` has something; -1 once shut down."""
        return self._frames.fileno()

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Queue `msg` for sending; with `timeout` (seconds) wait that long for room.

        Raises `can.CanOperationError`: `error_code` ENOBUFS if the queue is full, ENETDOWN if the
        hub is gone, EINVAL if the message cannot go over this wire.
        """
        record = self._pack(msg)
        deadline = None
        while not self._try_send(record):
            now = time.monotonic()
            deadline = deadline if deadline is not None else now + (timeout or 0)
            if now >= deadline:
                raise can.CanOperationError(
                    f"transmit queue of {self.channel_info} is full "
                    f"({self.wire.queue_depth} frames)",
                    errno.ENOBUFS,
                )
            # Another thread may have read what this one waits for: look again now and then.
            self._wait(self._room, min(deadline - now, _LOOK_AGAIN_S))

    def flush_tx_buffer(self) -> None:
        """Drop what is queued here and not yet on the bus; when this returns, none of it will be.

        Raises `can.CanOperationError` if the hub is gone or does not answer.
        """
        with self._lock:
            self._request(plain(Kind.FLUSH), Kind.FLUSH)

    def statistics(self) -> Statistics:
        """Ask the hub what the whole wire has done so far. Raises `can.CanOperationError`."""
        with self._lock:
            answer = self._request(plain(Kind.STATISTICS), Kind.STATISTICS)
        return statistics_of(answer.payload)

    def shutdown(self) -> None:
        """Leave the wire. What is queued still goes out, as on SocketCAN (`flush_tx_buffer`)."""
        already = self._is_shutdown
        super().shutdown()
        if already:
            return
        with self._lock:
            with contextlib.suppress(can.CanOperationError):
                self._request(plain(Kind.LEAVE), Kind.LEAVE)
            self._close_sockets()

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        while True:
            try:
                data = self._frames.recv(RECORD.size)
            except BlockingIOError:
                if not self._wait(self._frames, timeout):
                    return None, True
                continue
            except OSError as error:
                self._gone(error)
            if not data:
                self._gone(None)
            return self._message(data), True

    def _apply_filters(self, filters: CanFilters | None) -> None:
        records = pack_filters([_filter(each) for each in filters or ()])
        with self._lock:
            for record in records[:-1]:
                self._put(record)
            self._request(records[-1], Kind.FILTERS)

    def _message(self, data: bytes) -> can.Message:
        _, flags, length, arbitration_id, time_ns, payload = RECORD.unpack(data)
        remote = bool(flags & FrameFlag.REMOTE)
        return can.Message(
            timestamp=time_ns / 1e9,
            arbitration_id=arbitration_id,
            is_extended_id=bool(flags & FrameFlag.EXTENDED),
            is_remote_frame=remote,
            channel=self.channel,
            dlc=length,
            data=None if remote else payload[:length],
            is_fd=bool(flags & FrameFlag.FD),
            is_rx=not flags & FrameFlag.OWN,
            bitrate_switch=bool(flags & FrameFlag.BITRATE_SWITCH),
            error_state_indicator=bool(flags & FrameFlag.ERROR_STATE),
        )

    def _pack(self, msg: can.Message) -> bytes:
        frame = Frame(
            msg.arbitration_id,
            bytes(msg.data),
            msg.is_extended_id,
            msg.is_fd,
            msg.bitrate_switch,
            msg.error_state_indicator,
            msg.is_remote_frame,
            msg.dlc if msg.is_remote_frame else 0,
        )
        flaw = "an error frame cannot be sent" if msg.is_error_frame else frame.flaw()
        if flaw is None and msg.is_fd and not self._fd:
            flaw = (
                "this bus was opened with fd=False and sends no CAN FD frames"
                if self.wire.fd
                else "a classic wire has no CAN FD frames; start it with --fd"
            )
        if flaw is not None:
            raise can.CanOperationError(f"{self.channel_info}: {flaw}", errno.EINVAL)
        return pack_frame(Kind.SEND, frame)

    def _try_send(self, record: bytes) -> bool:
        with self._lock:
            if self._queued >= self.wire.queue_depth:
                self._hear_room()
                if self._queued >= self.wire.queue_depth:
                    return False
            self._put(record)
            self._sent += 1
            return True

    @property
    def _queued(self) -> int:
        return self._sent - self._through & _OWN_NUMBER_MASK

    def _request(self, record: bytes, kind: Kind) -> Record:
        self._hear_room()
        self._put(record)
        return self._answer(kind)

    def _answer(self, kind: Kind) -> Record:
        """Wait for the answer to the request `kind`; the lock is held or there is one thread."""
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            record = self._read_room()
            if record is None:
                self._wait(self._room, left)
            elif record.kind == Kind.ANSWER and record.flags == kind:
                return record
        raise can.CanOperationError(
            f"hub of {self.channel_info} did not answer in {_ANSWER_S:g} s", errno.ETIMEDOUT
        )

    def _hear_room(self) -> None:
        while self._read_room() is not None:
            pass

    def _read_room(self) -> Record | None:
        try:
            data = self._room.recv(RECORD.size)
        except BlockingIOError:
            return None
        except OSError as error:
            self._gone(error)
        if not data:
            self._gone(None)
        record = unpack(data)
        self._through = record.number
        return record

    def _put(self, record: bytes) -> None:
        try:
            self._frames.send(record)
        except OSError as error:
            self._gone(error)

    def _wait(self, link: socket.socket, timeout: float | None) -> bool:
        try:
            return bool(select.select([link], [], [], timeout)[0])
        except (OSError, ValueError) as error:
            self._gone(error)

    def _gone(self, cause: Exception | None) -> NoReturn:
        what = "is shut down" if self._closed else "has lost its hub"
        raise can.CanOperationError(f"{self.channel_info} {what}", errno.ENETDOWN) from cause

    def _close_sockets(self) -> None:
        self._closed = True
        self._frames.close()
        self._room.close()


def _connect(channel: str, flags: int) -> tuple[socket.socket, socket.socket]:
    """Connect to the hub and give it the other end of a second socket for room and answers."""
    frames = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    room, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with given:
        try:
            frames.settimeout(_ANSWER_S)
            frames.connect(channel)
            socket.send_fds(frames, [plain(Kind.JOIN, flags, number=VERSION)], [given.fileno()])
        except OSError as error:
            frames.close()
            room.close()
            raise can.CanInitializationError(
                f"no wire at {channel} ({error.strerror or error}); "
                f"start one: hil-rig wire --socket {channel}"
            ) from error
    frames.setblocking(False)
    room.setblocking(False)
    return frames, room


def _filter(given: CanFilter) -> Filter:
    return Filter(given["can_id"], given["can_mask"], given.get("extended"))
