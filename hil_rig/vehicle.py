"""The car that the residual bus tells of: what it does, and what its signals then say. Pure.

A `Vehicle` is asked to drive, to park, or for a gear, and told the time by `step(now)`. Manoeuvres
are laid out on the time line when they begin, and speed is a straight line between two targets, so
the car does the same however often it is stepped. Any value can be overridden from outside; the
override lies on top of what the car does until it is taken back.

Parked is what an owner leaves behind while the head unit stays awake: standing still in P, parking
brake applied, nobody in the car, all closed, power mode ACCESSORY.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

STANDSTILL_AFTER_S = 0.5
BATTERY_WH = 60_000
PARK_RATE_KMH_S = 8.0
CRUISE_RATE_KMH_S = 6.0

Gear = Literal["P", "R", "N", "D"]
Answer = Literal["YES", "NO"]
Opening = Literal["CLOSED", "OPEN"]
Seat = Literal["EMPTY", "OCCUPIED"]
Manoeuvre = Literal["driving", "parking", "parked", "starting", "stranded"]


class CarState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The truth about the car; speed in km/h, voltage in V, charge in %, energy in Wh."""

    speed: Annotated[float, msgspec.Meta(ge=0, le=300)] = 0.0
    gear: Gear = "P"
    ready: Answer = "NO"
    epb: Literal["RELEASED", "APPLIED", "MOVING", "FAULT"] = "APPLIED"
    roll: Answer = "NO"
    brake: Answer = "NO"
    power_mode: Literal["OFF", "ACCESSORY", "ON", "READY"] = "ACCESSORY"
    lv_voltage: Annotated[float, msgspec.Meta(ge=0, le=32)] = 12.6
    lv_state: Literal["GOOD", "WEAK", "CRITICAL"] = "GOOD"
    charge: Annotated[float, msgspec.Meta(ge=0, le=100)] = 62.0
    energy: Annotated[float, msgspec.Meta(ge=0, le=120_000)] | None = None
    charging: Literal["NOT_PLUGGED", "PLUGGED", "CHARGING", "FAULT"] = "NOT_PLUGGED"
    door_front_left: Opening = "CLOSED"
    door_front_right: Opening = "CLOSED"
    door_rear_left: Opening = "CLOSED"
    door_rear_right: Opening = "CLOSED"
    hood: Opening = "CLOSED"
    trunk: Opening = "CLOSED"
    driver: Seat = "EMPTY"
    passengers: Seat = "EMPTY"
    hazard: Literal["OFF", "ON"] = "OFF"
    ecall: Literal["IDLE", "ACTIVE"] = "IDLE"


_AT_THE_WHEEL: dict[str, Any] = {
    "gear": "D", "ready": "YES", "epb": "RELEASED", "power_mode": "READY",
    "lv_voltage": 13.8, "driver": "OCCUPIED",
}  # fmt: skip
_DOORS = ("door_front_left", "door_front_right", "door_rear_left", "door_rear_right")

# What follows once the car stands: seconds after the standstill, and what changes then.
_LEAVING: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.8, {"gear": "P"}),
    (1.0, {"epb": "MOVING"}),
    (2.0, {"epb": "APPLIED"}),
    (2.5, {"brake": "NO"}),
    (3.0, {"ready": "NO", "power_mode": "ACCESSORY", "lv_voltage": 12.6}),
    (4.0, {"door_front_left": "OPEN"}),
    (5.0, {"driver": "EMPTY"}),
    (6.0, {"door_front_left": "CLOSED"}),
)
# The same for a driver who comes back; the car moves off with the last of them.
_COMING: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.5, {"door_front_left": "OPEN"}),
    (1.5, {"driver": "OCCUPIED"}),
    (2.5, {"door_front_left": "CLOSED"}),
    (3.0, {"power_mode": "ON", "brake": "YES"}),
    (3.5, {"ready": "YES", "power_mode": "READY", "lv_voltage": 13.8}),
    (4.0, {"gear": "D"}),
    (4.2, {"epb": "MOVING"}),
    (4.7, {"epb": "RELEASED"}),
    (5.0, {"brake": "NO"}),
)
# Town traffic, again and again: target speed as a part of the cruising speed, then seconds held.
_TRAFFIC = ((1.0, 20.0), (0.6, 8.0), (0.0, 6.0), (0.8, 12.0))


class _Act(NamedTuple):
    at: float
    changes: Mapping[str, Any]
    target_kmh: float | None = None
    rate_kmh_s: float = CRUISE_RATE_KMH_S
    arrival: Manoeuvre | None = None


class _Motion(NamedTuple):
    since: float
    from_kmh: float
    to_kmh: float
    rate_kmh_s: float

    def speed(self, now: float) -> float:
        change = self.rate_kmh_s * max(0.0, now - self.since)
        if self.to_kmh >= self.from_kmh:
            return min(self.to_kmh, self.from_kmh + change)
        return max(self.to_kmh, self.from_kmh - change)

    @property
    def arrives_at(self) -> float:
        return self.since + abs(self.to_kmh - self.from_kmh) / self.rate_kmh_s


class Vehicle:
    """One car. Times are seconds of one monotonic clock, handed in and never going back."""

    def __init__(
        self,
        now: float,
        *,
        driving: bool = True,
        cruise_kmh: float = 50.0,
        pace: float = 1.0,
        noise: random.Random,
    ) -> None:
        """`pace` 2 lets manoeuvres take half their time; `noise` is for the measured speeds."""
        self._pace = pace
        self._cruise_kmh = cruise_kmh
        self._noise = noise
        self._state = CarState(**_AT_THE_WHEEL) if driving else CarState()
        self._overrides: dict[str, Any] = {}
        self._acts: deque[_Act] = deque()
        self._now = self._act_ended_at = now
        start = cruise_kmh if driving else 0.0
        self._motion = _Motion(now, start, start, CRUISE_RATE_KMH_S)
        self._still_since = None if driving else float("-inf")
        self.manoeuvre: Manoeuvre = "driving" if driving else "parked"

    @property
    def state(self) -> CarState:
        """The truth as of the last step, overrides included."""
        truth = msgspec.structs.replace(self._state, speed=self._motion.speed(self._now))
        return msgspec.structs.replace(truth, **self._overrides)

    @property
    def standstill(self) -> bool:
        """No wheel has moved for half a second."""
        still = self._still_since
        return still is not None and self._now - still >= STANDSTILL_AFTER_S

    def step(self, now: float, *, inhibited: bool = False) -> None:
        """Go on to `now`. While `inhibited` a driver who wants to drive off is left stranded."""
        while True:
            if not self._acts and self.manoeuvre == "driving":
                self._acts.extend(self._traffic(self._act_ended_at))
            if not self._acts or self._acts[0].at > now:
                break
            act = self._acts.popleft()
            self._act_ended_at = act.at
            if inhibited and _sets_off(act.changes):
                self._acts.clear()
                self.manoeuvre = "stranded"
                continue
            self._state = msgspec.structs.replace(self._state, **act.changes)
            if act.target_kmh is not None:
                self._motion = self._towards(act.at, act.target_kmh, act.rate_kmh_s)
            self.manoeuvre = act.arrival or self.manoeuvre
        self._now = now
        if self.state.speed > 0:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = now

    def drive(self) -> None:
        """A driver gets in and drives off; one who is about to park only drives on."""
        if self.manoeuvre in {"driving", "starting"}:
            return
        at_the_wheel = self._state.gear == "D" and self._state.ready == "YES"
        self.manoeuvre = "starting"
        self._lay_out(self._now, ((0.5, {"brake": "NO"}),) if at_the_wheel else _COMING, "driving")

    def park(self) -> None:
        """Brake to a standstill, then all that an owner does until the car is left alone."""
        if self.manoeuvre in {"parking", "parked"}:
            return
        self.manoeuvre = "parking"
        rate = PARK_RATE_KMH_S * self._pace
        stop = _Act(self._now, {"brake": "YES"}, target_kmh=0.0, rate_kmh_s=rate)
        self._lay_out(self._towards(self._now, 0.0, rate).arrives_at, _LEAVING, "parked")
        self._acts.appendleft(stop)

    def request_gear(self, gear: Gear, *, inhibited: bool) -> str | None:
        """The driver's hand on the selector: None if the gear is engaged, else why it is not."""
        if inhibited and gear != "P":
            return "drive inhibited"
        if gear == "P" and self.state.speed > 0:
            return "P needs a standstill"
        if gear != "P" and self.state.ready != "YES":
            return "not ready to drive"
        self._take_over({"gear": gear})
        return None

    def request_ready(self, *, inhibited: bool) -> str | None:
        """The driver switches on: None if the car is now ready to drive, else why it is not."""
        if inhibited:
            return "drive inhibited"
        self._take_over({"ready": "YES", "power_mode": "READY", "lv_voltage": 13.8})
        return None

    def override(self, changes: Mapping[str, Any]) -> None:
        """Lay values over what the car does; None takes one back, `doors` means all four.

        Raises ValueError for an unknown key or value, and then changes nothing.
        """
        changes = dict(changes)
        if "doors" in changes:
            changes = dict.fromkeys(_DOORS, changes.pop("doors")) | changes
        fields = CarState.__struct_fields__
        for key in changes:
            if key not in fields:
                raise ValueError(f"{key!r} is not one of {', '.join(('doors', *fields))}")
        wanted = {k: v for k, v in (self._overrides | changes).items() if v is not None}
        msgspec.convert(wanted, CarState)
        self._overrides = wanted

    def clear_overrides(self) -> None:
        """Let the car's own values through again."""
        self._overrides = {}

    @property
    def overrides(self) -> dict[str, Any]:
        """The values that are laid over."""
        return dict(self._overrides)

    def signals(self) -> dict[str, float | str]:
        """What the controllers of `vehicle.dbc` tell, as of the last step; physical values.

        The two speeds differ as wheels and motor do: a steady error each and noise of their own.
        """
        state = self.state
        return {
            "ESP_VehicleSpeed": self._measured(state.speed, 1.004),
            "ESP_Standstill": "YES" if self.standstill else "NO",
            "DU_VehicleSpeed": self._measured(state.speed, 0.997),
            "DU_Gear": state.gear,
            "DU_Ready": state.ready,
            "EPB_State": state.epb,
            "EPB_RollDetected": "YES" if state.epb == "APPLIED" and state.speed > 0 else state.roll,
            "BRK_PedalPressed": state.brake,
            "BCM_PowerMode": state.power_mode,
            "BCM_LvVoltage": state.lv_voltage,
            "BCM_LvState": state.lv_state,
            "HVB_Charge": state.charge,
            "HVB_Energy": self.energy_wh,
            "HVB_Charging": state.charging,
            "BCM_DoorFrontLeft": state.door_front_left,
            "BCM_DoorFrontRight": state.door_front_right,
            "BCM_DoorRearLeft": state.door_rear_left,
            "BCM_DoorRearRight": state.door_rear_right,
            "BCM_Hood": state.hood,
            "BCM_Trunk": state.trunk,
            "OCC_Driver": state.driver,
            "OCC_Passengers": state.passengers,
            "BCM_HazardLights": state.hazard,
            "TEL_ECall": state.ecall,
        }

    @property
    def energy_wh(self) -> float:
        """Energy in the high voltage battery: the charge's share of it, unless overridden."""
        state = self.state
        return state.charge / 100 * BATTERY_WH if state.energy is None else state.energy

    def _measured(self, speed: float, error: float) -> float:
        return max(0.01, speed * error + self._noise.uniform(-0.05, 0.05)) if speed > 0 else 0.0

    def _towards(self, at: float, target_kmh: float, rate_kmh_s: float) -> _Motion:
        return _Motion(at, self._motion.speed(at), target_kmh, rate_kmh_s)

    def _lay_out(
        self, start: float, steps: tuple[tuple[float, dict[str, Any]], ...], arrival: Manoeuvre
    ) -> None:
        self._acts = deque(_Act(start + wait / self._pace, what) for wait, what in steps)
        self._acts.append(self._acts.pop()._replace(arrival=arrival))

    def _take_over(self, changes: Mapping[str, Any]) -> None:
        self._state = msgspec.structs.replace(self._state, **changes)
        self._overrides = {k: v for k, v in self._overrides.items() if k not in changes}

    def _traffic(self, at: float) -> Iterator[_Act]:
        motion = self._motion
        rate = CRUISE_RATE_KMH_S * self._pace
        for part, hold_s in _TRAFFIC:
            target = part * self._cruise_kmh
            yield _Act(at, {"brake": "NO" if part else "YES"}, target_kmh=target, rate_kmh_s=rate)
            motion = _Motion(at, motion.speed(at), target, rate)
            at = motion.arrives_at + hold_s / self._pace
        yield _Act(at, {})


def _sets_off(changes: Mapping[str, Any]) -> bool:
    return changes.get("gear", "P") != "P" or changes.get("ready") == "YES"
