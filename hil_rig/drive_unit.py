"""The drive unit's drive inhibit: the second barrier behind the agent's park gate. Pure.

It inhibits only in P at standstill, keeps the inhibit for `hold_s` beyond the last valid request,
so that it outlives a restart of the head unit, and ends it at once on a valid release. While it
inhibits it lets no gear other than P and no readiness to drive through.

A request is valid when its E2E checksum is right, its signals are values that the DBC names, and
its counter is 1 to `MAX_DELTA_COUNTER` steps past that of the frame before. So the first frame
after silence only sets the counter, and a repeated, frozen or forged frame counts for nothing.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from cantools.database.can import Message
from cantools.database.errors import DecodeError

from hil_rig.residual_bus import P01_COUNTER_VALUES, E2EProtection, Value

MAX_DELTA_COUNTER = 3
REQUEST_TIMEOUT_CYCLES = 5

Inhibited = Literal["NO", "YES", "REFUSED"]


class InhibitStatus(NamedTuple):
    """What `DU_InhibitStatus` says."""

    inhibited: Inhibited
    hold_s: float

    def signals(self) -> dict[str, Value]:
        """The values of its signals."""
        return {"DU_Inhibited": self.inhibited, "DU_InhibitHold": self.hold_s}


class DriveUnit:
    """Grants, holds and refuses the inhibit. `request` is the DBC's `OTA_DriveInhibit`."""

    def __init__(self, request: Message, *, hold_s: float = 10.0) -> None:
        """`hold_s` seconds without a valid request end an inhibit; ValueError if not protected."""
        protection = E2EProtection.of(request)
        if protection is None or not request.cycle_time:
            raise ValueError(f"{request.name}: needs E2EProfile and GenMsgCycleTime")
        self._request = request
        self._protection = protection
        self._hold_s = hold_s
        self._timeout_s = REQUEST_TIMEOUT_CYCLES * request.cycle_time / 1000
        self._counter: int | None = None
        self._heard_at = float("-inf")
        self._asked_at = float("-inf")
        self._granted = False
        self.invalid_requests = 0

    def receive(self, data: bytes, now: float, *, gear: str, standstill: bool) -> None:
        """A frame with the request's id came in while the car was in `gear`."""
        command = self._validate(data, now)
        if command is None:
            self.invalid_requests += 1
        elif command == "RELEASE":
            self._granted = False
            self._asked_at = float("-inf")
        else:
            self._granted = self.inhibits(now, gear=gear) or (gear == "P" and standstill)
            self._asked_at = now

    def inhibits(self, now: float, *, gear: str) -> bool:
        """Whether the car is kept from being driven. One that has left P is no longer."""
        return self._granted and gear == "P" and now - self._asked_at < self._hold_s

    def status(self, now: float, *, gear: str) -> InhibitStatus:
        """What to tell the head unit."""
        if self.inhibits(now, gear=gear):
            return InhibitStatus("YES", self._asked_at + self._hold_s - now)
        self._granted = False
        asking = now - self._asked_at <= self._timeout_s
        return InhibitStatus("REFUSED" if asking else "NO", 0.0)

    def _validate(self, data: bytes, now: float) -> str | None:
        if len(data) != self._request.length or not self._protection.check(data):
            return None
        try:
            raw: dict[str, Any] = self._request.decode_simple(data, decode_choices=False)
        except DecodeError:
            return None
        counter, request, reason = (
            int(raw[name])
            for name in (f"{self._request.name}_CNT", "OTA_InhibitRequest", "OTA_InhibitReason")
        )
        if counter >= P01_COUNTER_VALUES:
            return None
        silent = now - self._heard_at > self._timeout_s
        previous, self._counter = self._counter, counter
        self._heard_at = now
        if previous is None or silent:
            return None
        if not 1 <= (counter - previous) % P01_COUNTER_VALUES <= MAX_DELTA_COUNTER:
            return None
        if reason not in (self._request.get_signal_by_name("OTA_InhibitReason").choices or {}):
            return None
        return {0: "RELEASE", 1: "INHIBIT"}.get(request)
