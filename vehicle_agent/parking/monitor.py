"""The park gate on live buses: frames and timers in, verdicts out, a guard that cries at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from vehicle_agent.bus import BusConfig, CanPort, Frame
from vehicle_agent.parking.gate import Gate, Verdict
from vehicle_agent.parking.park_config import ParkConfig
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refused

log = logging.getLogger(__name__)

_REOPEN_S = 1.0


class ParkMonitor:
    """Watches the frames that the conditions need, and nothing else on the buses."""

    @classmethod
    def open(
        cls,
        config: ParkConfig,
        buses: Mapping[str, BusConfig],
        on_change: Callable[[Verdict], None] | None = None,
        *,
        base: Path = Path(),
    ) -> ParkMonitor:
        """Open one port per bus that the conditions name, in the running loop.

        `on_change` is called whenever `Verdict.parked` changes. Raises `Refused`: CONFIG_INVALID,
        BUS_UNAVAILABLE.
        """
        gate = Gate(config, base=base)
        for bus in gate.needs():
            if bus not in buses:
                known = ", ".join(sorted(buses)) or "none"
                raise Refused(
                    Code.CONFIG_INVALID, f"park: bus {bus!r} is not configured; known: {known}"
                )
        monitor = cls(gate, buses, on_change)
        try:
            for bus in gate.needs():
                monitor._open(bus)
        except Refused:
            monitor.close()
            raise
        return monitor

    def __init__(
        self,
        gate: Gate,
        buses: Mapping[str, BusConfig],
        on_change: Callable[[Verdict], None] | None,
    ) -> None:
        """For `open`; watches nothing by itself."""
        self._gate = gate
        self._buses = buses
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._ports: dict[str, CanPort] = {}
        self._reopening: dict[str, asyncio.TimerHandle] = {}
        self._guards: dict[object, Callable[[Verdict], None]] = {}
        self._waiting: set[asyncio.Future[Verdict]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = Ternary.UNKNOWN
        self._closed = False

    def verdict(self) -> Verdict:
        """The verdict of this instant."""
        now = self._loop.time()
        self._judge(now)
        return self._gate.verdict(now)

    async def parked(self) -> Verdict:
        """Wait until the car is provably parked; the verdict that says so."""
        while not (verdict := self.verdict()).is_parked:
            waiter: asyncio.Future[Verdict] = self._loop.create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        return verdict

    def guard(self, on_lost: Callable[[Verdict], None]) -> Callable[[], None]:
        """Call `on_lost` once, in the instant the verdict stops being TRUE; returns how to end it.

        The call comes from within the reception of the frame, or from the timer, that made it so;
        at once, from within `guard`, if the car is not parked now.
        """
        verdict = self.verdict()
        token = object()
        if verdict.is_parked:
            self._guards[token] = on_lost
        else:
            on_lost(verdict)

        def end() -> None:
            self._guards.pop(token, None)

        return end

    def close(self) -> None:
        """Close the ports and end all waiting; guards are not called any more."""
        self._closed = True
        self._guards.clear()
        for handle in (self._timer, *self._reopening.values()):
            if handle is not None:
                handle.cancel()
        for port in self._ports.values():
            port.close()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.cancel()

    def _open(self, bus: str) -> None:
        def received(frame: Frame, now: float) -> None:
            self._received(frame, bus, now)

        self._ports[bus] = CanPort.open(
            self._buses[bus],
            receive=self._gate.needs()[bus],
            on_frame=received,
            on_error=lambda refused: self._failed(bus, refused),
        )

    def _failed(self, bus: str, refused: Refused) -> None:
        """A bus went away: its values go stale by themselves; try again until it is back."""
        if self._closed:
            return
        log.warning("park monitor: %s; trying again", refused)
        self._ports.pop(bus).close()
        self._reopening[bus] = self._loop.call_later(_REOPEN_S, self._reopen, bus)

    def _reopen(self, bus: str) -> None:
        try:
            self._open(bus)
        except Refused:
            self._reopening[bus] = self._loop.call_later(_REOPEN_S, self._reopen, bus)

    def _received(self, frame: Frame, bus: str, now: float) -> None:
        if self._timer is not None and now >= self._timer.when():
            self._judge(now)  # what went stale before this frame is not forgiven by it
        self._gate.feed(frame, bus, now)
        self._judge(now)

    def _judge(self, now: float) -> None:
        """Tell who must know, guards first; then set the timer for what time alone will change."""
        parked = self._gate.parked(now)
        if parked is not self._last:
            self._last = parked
            verdict = self._gate.verdict(now)
            if parked is Ternary.TRUE:
                for waiter in self._waiting:
                    if not waiter.done():
                        waiter.set_result(verdict)
            else:
                guards, self._guards = self._guards, {}
                for on_lost in guards.values():
                    _call(on_lost, verdict)
            if self._on_change is not None:
                self._on_change(verdict)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """A timer that comes too early sets itself anew: cheaper than moving it at every frame."""
        deadline = self._gate.next_deadline(now)
        if self._closed or deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._elapsed, deadline)

    def _elapsed(self, deadline: float) -> None:
        """The loop may call a hair before the deadline: then the deadline is the time."""
        self._timer = None
        self._judge(max(deadline, self._loop.time()))


def _call(on_lost: Callable[[Verdict], None], verdict: Verdict) -> None:
    """One guard that fails must not keep the next from being called."""
    try:
        on_lost(verdict)
    except Exception:
        log.exception("park monitor: a guard failed")
