"""CAN ports: one socket each, filtered at the source, every sent frame confirmed by the bus.

Works on python-can interfaces that have a file descriptor. `socketcan` and `wire` give back own
frames as transmit confirmations. Interfaces without that echo count a frame as confirmed once it
is handed over: there an abort can take back less, and timing is that of the handover.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import can
import msgspec

from vehicle_agent.refusals import Code, Refused

WINDOW = 8
"""Frames that may be handed to the bus and not yet confirmed."""

_ECHOING = frozenset({"socketcan", "wire"})
_RETRY_S = 0.001
_RECEIVE_BUFFER = 1 << 20
_FRAMES_A_TURN = 8


class Frame(NamedTuple):
    """One data frame; `extended` means a 29-bit identifier."""

    arbitration_id: int
    data: bytes
    extended: bool = False
    fd: bool = False
    bitrate_switch: bool = False


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A python-can interface, its channel, and what else its constructor takes (`options`)."""

    interface: str
    channel: str
    fd: bool = False
    options: dict[str, str | int | float | bool] = {}


Outcome = float | Refused
"""Loop time of the bus's confirmation, or why there will be none."""


class _Sent(NamedTuple):
    frame: Frame
    done: Callable[[Outcome], None]


class CanPort:
    """One socket, one filter set, one reader; opened by `open`, which sends nothing."""

    @classmethod
    def open(
        cls,
        config: BusConfig,
        *,
        receive: Iterable[tuple[int, bool]],
        on_frame: Callable[[Frame, float], None],
        transmit: Iterable[tuple[int, bool]] = (),
        on_error: Callable[[Refused], None] | None = None,
    ) -> CanPort:
        """Open the port in the running loop.

        `receive` and `transmit` are (id, extended) pairs. `on_frame` gets received frames only,
        `on_error` is called once if the bus fails later. Raises Refused(BUS_UNAVAILABLE).
        """
        receive, transmit = frozenset(receive), frozenset(transmit)
        echo = config.interface in _ECHOING
        where = f"bus {config.interface}:{config.channel}"
        try:
            bus = can.Bus(
                channel=config.channel,
                interface=config.interface,
                can_filters=[_filter(pair) for pair in sorted(receive | transmit)],
                receive_own_messages=echo and bool(transmit),
                fd=config.fd,
                ignore_config=True,
                **config.options,  # type: ignore[arg-type]
            )
        except (
            can.CanError,
            NotImplementedError,
            OSError,
            ValueError,
            TypeError,
            ImportError,
        ) as error:
            raise Refused(Code.BUS_UNAVAILABLE, f"{where}: {error}") from error
        try:
            descriptor = bus.fileno()
        except (NotImplementedError, OSError, ValueError):
            descriptor = -1
        if descriptor < 0:
            bus.shutdown()
            raise Refused(
                Code.BUS_UNAVAILABLE,
                f"{where}: python-can gives no file descriptor for this interface; "
                "socketcan, wire, slcan, pcan and kvaser on Linux have one",
            )
        link = getattr(bus, "socket", None)
        if isinstance(link, socket.socket):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return cls(
            bus,
            where,
            receive=receive,
            confirmed=transmit if echo else frozenset(),
            on_frame=on_frame,
            on_error=on_error,
            descriptor=descriptor,
        )

    def __init__(
        self,
        bus: can.BusABC,
        where: str,
        *,
        receive: frozenset[tuple[int, bool]],
        confirmed: frozenset[tuple[int, bool]],
        on_frame: Callable[[Frame, float], None],
        on_error: Callable[[Refused], None] | None,
        descriptor: int,
    ) -> None:
        """Use `open`. `confirmed`: the identifiers whose frames come back from the bus."""
        self._bus = bus
        self._where = where
        self._receive = receive
        self._confirmed = confirmed
        self._on_frame = on_frame
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Sent] = deque()
        self._outstanding: deque[_Sent] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._failure: Refused | None = None
        self._descriptor = descriptor
        self._loop.add_reader(descriptor, self._drain)

    async def send(self, frame: Frame) -> float:
        """Send one frame; returns the loop time of the bus's confirmation.

        Senders beyond the window wait in order. Raises Refused(BUS_UNAVAILABLE) on failure, abort
        and close. A cancelled sender's frame is taken back if it is not with the bus yet.
        """
        confirmation: asyncio.Future[float] = self._loop.create_future()

        def done(outcome: Outcome) -> None:
            if confirmation.done():
                return
            if isinstance(outcome, Refused):
                confirmation.set_exception(outcome)
            else:
                confirmation.set_result(outcome)

        self.post(frame, done)
        try:
            return await confirmation
        except asyncio.CancelledError:
            self._waiting = deque(sent for sent in self._waiting if sent.done is not done)
            raise

    def post(self, frame: Frame, done: Callable[[Outcome], None]) -> None:
        """Queue one frame; `done` is called once, never from within this call unless it fails."""
        if self._failure is not None:
            done(self._failure)
            return
        self._waiting.append(_Sent(frame, done))
        self._push()

    def abort(self) -> int:
        """Drop what is not on the bus yet; nothing is sent until the next `send` or `post`.

        Senders get Refused(BUS_UNAVAILABLE). Returns how many frames were held back for certain:
        those of the queue, and those with the interface where it can give them back.
        """
        dropped = len(self._waiting)
        if self._failure is None:
            try:
                self._bus.flush_tx_buffer()
                dropped += len(self._outstanding)
            except (NotImplementedError, can.CanError, OSError):
                pass  # this interface keeps the frames of the window, at most 8
        self._refuse_all(Refused(Code.BUS_UNAVAILABLE, f"{self._where}: sending was aborted"))
        return dropped

    def close(self) -> None:
        """Abort and close the socket. May be called again."""
        if self._failure is None:
            self.abort()
        self._shut(Refused(Code.BUS_UNAVAILABLE, f"{self._where}: closed"))

    def _push(self) -> None:
        while self._waiting and self._retry is None and len(self._outstanding) < WINDOW:
            sent = self._waiting[0]
            try:
                self._bus.send(_message(sent.frame))
            except (can.CanError, OSError) as error:
                if not _is_full(error):
                    self._fail(error)
                    return
                self._retry = self._loop.call_later(_RETRY_S, self._push_again)
                return
            self._waiting.popleft()
            self._outstanding.append(sent)
            if (sent.frame.arbitration_id, sent.frame.extended) not in self._confirmed:
                self._loop.call_soon(self._confirm, sent)

    def _push_again(self) -> None:
        self._retry = None
        self._push()

    def _drain(self) -> None:
        for _ in range(_FRAMES_A_TURN):
            try:
                message = self._bus.recv(0)
            except (can.CanError, OSError) as error:
                self._fail(error)
                return
            if message is None:
                return
            if message.is_error_frame or message.is_remote_frame:
                continue
            key = (message.arbitration_id, message.is_extended_id)
            data = bytes(message.data)
            # The kernel marks frames of other local programs like own ones: an own frame is one
            # that is outstanding.
            if not message.is_rx and key in self._confirmed:
                own = next(
                    (s for s in self._outstanding if s.frame[:3] == (key[0], data, key[1])), None
                )
                if own is not None:
                    self._confirm(own)
                    if self._failure is not None:
                        return
                    continue
            if key in self._receive:
                frame = Frame(key[0], data, key[1], message.is_fd, message.bitrate_switch)
                self._on_frame(frame, self._loop.time())
                if self._failure is not None:
                    return

    def _confirm(self, sent: _Sent) -> None:
        try:
            self._outstanding.remove(sent)
        except ValueError:
            return  # aborted in the meantime
        sent.done(self._loop.time())
        self._push()

    def _fail(self, error: Exception) -> None:
        refused = Refused(Code.BUS_UNAVAILABLE, f"{self._where}: {error}")
        self._shut(refused)
        if self._on_error is not None:
            self._on_error(refused)

    def _shut(self, refused: Refused) -> None:
        if self._failure is None:
            self._failure = refused
            self._loop.remove_reader(self._descriptor)
            self._refuse_all(refused)
            self._bus.shutdown()

    def _refuse_all(self, refused: Refused) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        senders = [*self._outstanding, *self._waiting]
        self._outstanding.clear()
        self._waiting.clear()
        for sent in senders:
            sent.done(refused)


def _filter(pair: tuple[int, bool]) -> can.typechecking.CanFilter:
    identifier, extended = pair
    return {
        "can_id": identifier,
        "can_mask": 0x1FFFFFFF if extended else 0x7FF,
        "extended": extended,
    }


def _message(frame: Frame) -> can.Message:
    return can.Message(
        arbitration_id=frame.arbitration_id,
        data=frame.data,
        is_extended_id=frame.extended,
        is_fd=frame.fd,
        bitrate_switch=frame.bitrate_switch,
    )


def _is_full(error: Exception) -> bool:
    code = getattr(error, "error_code", None) or getattr(error, "errno", None)
    # python-can's socketcan interface gives no code when the socket was not writable at once.
    return code in (errno.ENOBUFS, errno.EAGAIN) or "Transmit buffer full" in str(error)
