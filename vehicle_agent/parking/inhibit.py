"""The drive inhibit on a live bus: asked for, acknowledged, watched, given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from vehicle_agent.bus import BusConfig, CanPort, Frame
from vehicle_agent.parking.inhibit_protocol import InhibitConfig, InhibitProtocol, State
from vehicle_agent.refusals import Code, Refused

__all__ = ["DriveInhibit", "InhibitConfig"]

log = logging.getLogger(__name__)

_CYCLES_TO_SEND = 4


class DriveInhibit:
    """Keeps the car from being driven while its controller is being written (requirement D3)."""

    @classmethod
    def open(
        cls, config: InhibitConfig, buses: Mapping[str, BusConfig], *, base: Path = Path()
    ) -> DriveInhibit:
        """Open the port in the running loop; nothing is sent before `acquire` or `release`.

        Raises `Refused`: CONFIG_INVALID, BUS_UNAVAILABLE.
        """
        protocol = InhibitProtocol(config, base=base)
        if config.bus not in buses:
            known = ", ".join(sorted(buses)) or "none"
            raise Refused(
                Code.CONFIG_INVALID,
                f"inhibit: bus {config.bus!r} is not configured; known: {known}",
            )
        inhibit = cls(protocol, config, buses[config.bus])
        inhibit._open()
        return inhibit

    def __init__(self, protocol: InhibitProtocol, config: InhibitConfig, bus: BusConfig) -> None:
        """For `open`; opens nothing by itself."""
        self._protocol = protocol
        self._config = config
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._port: CanPort | None = None
        self._sender: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._guards: dict[object, Callable[[str], None]] = {}

    @property
    def held(self) -> bool:
        """Whether the drive unit acknowledges, at this instant."""
        self._protocol.elapse(self._loop.time())
        self._follow()
        return self._protocol.state is State.HELD

    async def acquire(self, reason: str) -> None:
        """Ask for the inhibit; returns when the drive unit acknowledges.

        `reason` is a choice of the request's reason signal, such as UPDATE or RECOVERY. Raises
        `Refused(INHIBIT_NOT_ACKNOWLEDGED)` after RELEASE has been sent. A cancelled caller leaves
        the request standing: `close` ends it in silence, `release` with RELEASE.
        """
        self._protocol.acquire(reason, self._loop.time())
        self._start_sending()
        self._follow()
        while self._protocol.state is State.REQUESTING:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        if self._protocol.state is not State.HELD:
            why = self._protocol.why
            await self.release()
            raise Refused(Code.INHIBIT_NOT_ACKNOWLEDGED, f"drive inhibit: {why}")

    async def release(self) -> None:
        """Let the car drive again; returns when RELEASE has been said often enough."""
        self._guards.clear()
        self._protocol.release()
        self._start_sending()
        self._follow()
        if self._sender is not None:
            await asyncio.shield(self._sender)

    def guard(self, on_lost: Callable[[str], None]) -> Callable[[], None]:
        """Call `on_lost(why)` once, in the instant the acknowledgement vanishes; how to end it.

        At once, from within `guard`, if the inhibit is not held now. A release that was asked for
        is no loss.
        """
        token = object()
        if self.held:
            self._guards[token] = on_lost
        else:
            on_lost(self._protocol.why or "the drive inhibit is not held")

        def end() -> None:
            self._guards.pop(token, None)

        return end

    def close(self) -> None:
        """Stop without a word on the bus: the drive unit's own hold covers a restart."""
        self._guards.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()
        if self._port is not None:
            self._port.close()
            self._port = None
        for waiter in self._waiting:
            if not waiter.done():
                waiter.cancel()

    def _open(self) -> None:
        self._port = CanPort.open(
            self._bus,
            receive=[self._protocol.receives],
            transmit=[self._protocol.transmits],
            on_frame=self._received,
            on_error=self._failed,
        )

    def _failed(self, refused: Refused) -> None:
        """The bus went away: the acknowledgement goes stale by itself, sending opens it anew."""
        log.warning("drive inhibit: %s", refused)
        self._port = None

    def _received(self, frame: Frame, now: float) -> None:
        self._protocol.receive(frame, now)
        self._follow()

    def _elapsed(self, deadline: float) -> None:
        """The loop may call a hair before the deadline: then the deadline is the time."""
        self._timer = None
        self._protocol.elapse(max(deadline, self._loop.time()))
        self._follow()

    def _follow(self) -> None:
        """Tell who must know of the protocol's state, guards first; set the timer."""
        if self._protocol.state is State.LOST:
            guards, self._guards = self._guards, {}
            for on_lost in guards.values():
                _call(on_lost, self._protocol.why)
        if self._protocol.state is not State.REQUESTING:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._protocol.deadline()
        self._timer = (
            None if deadline is None else self._loop.call_at(deadline, self._elapsed, deadline)
        )

    def _start_sending(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = self._loop.create_task(self._send_cyclically())

    async def _send_cyclically(self) -> None:
        due = self._loop.time()
        while self._protocol.sending:
            await self._send(self._protocol.next_frame())
            due = max(due + self._config.cycle_s, self._loop.time())
            await asyncio.sleep(due - self._loop.time())

    async def _send(self, frame: Frame) -> None:
        try:
            if self._port is None:
                self._open()
            if self._port is not None:
                async with asyncio.timeout(_CYCLES_TO_SEND * self._config.cycle_s):
                    await self._port.send(frame)
        except (Refused, TimeoutError) as error:
            log.debug("drive inhibit: request not sent: %s", error)


def _call(on_lost: Callable[[str], None], why: str) -> None:
    """One guard that fails must not keep the next from being called."""
    try:
        on_lost(why)
    except Exception:
        log.exception("drive inhibit: a guard failed")
