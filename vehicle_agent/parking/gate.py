"""The park gate: frames and time in, a verdict with reasons out. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from vehicle_agent.bus import Frame
from vehicle_agent.parking import ternary
from vehicle_agent.parking.database import SignalDatabase
from vehicle_agent.parking.expression import Node, bind
from vehicle_agent.parking.park_config import ConditionConfig, ParkConfig, missing_roles, resolve
from vehicle_agent.parking.signals import FrameSource, FrameSources
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refusal, Refused


class ConditionReading(msgspec.Struct, frozen=True, kw_only=True):
    """One condition at an instant.

    `since`: loop time since which it has had this value, `None` if it never had another.
    `wanted` and `reason`: what would make it TRUE, and why it is not (empty where it is).
    """

    name: str
    value: Ternary
    reading: str
    since: float | None
    wanted: str
    reason: str
    required: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the car is parked, and everything that speaks for and against it.

    `missing`: what the set of conditions lacks; a set that lacks something is never parked.
    """

    parked: Ternary
    complete: bool
    missing: tuple[str, ...]
    conditions: tuple[ConditionReading, ...]

    @property
    def is_parked(self) -> bool:
        """Whether the car is provably parked."""
        return self.parked is Ternary.TRUE

    def reasons(self) -> str:
        """Everything that is not TRUE, in one line; empty for a parked car."""
        lacking = [f"the park conditions lack {what}" for what in self.missing]
        failing = [
            f"{c.name}: {c.reason}"
            for c in self.conditions
            if c.required and c.value is not Ternary.TRUE
        ]
        return "; ".join(lacking + failing)

    def refusal(self) -> Refusal | None:
        """Why an update may not start now, or `None` where it may."""
        if self.is_parked:
            return None
        code = Code.NOT_PARKED if self.complete else Code.GATE_INCOMPLETE
        return Refusal(code, self.reasons())


class _Condition:
    """One condition with its hold time: TRUE only after the test held without a break."""

    def __init__(self, config: ConditionConfig, node: Node) -> None:
        self.config = config
        self.value = Ternary.UNKNOWN
        self.deadline = math.inf
        self._node = node
        self._met_since: float | None = None
        self._since: float | None = None

    def evaluate(self, now: float) -> None:
        """Ask the expression anew."""
        self.deadline = self._node.evaluate(now)
        value = self._node.value
        if value is not Ternary.TRUE:
            self._met_since = None
        else:
            if self._met_since is None:
                self._met_since = now
            held_at = self._met_since + self.config.hold_s
            if now < held_at:
                value = Ternary.UNKNOWN
                self.deadline = min(self.deadline, held_at)
        if value is not self.value:
            self.value = value
            self._since = now

    def reading(self, now: float) -> ConditionReading:
        """The condition as it stands at `now`, in words."""
        self.evaluate(now)
        reading, reason = self._node.describe(now)
        if self._met_since is not None and self.value is not Ternary.TRUE:
            held = now - self._met_since
            reason = f"{reading}, true for {held:.1f} of {self.config.hold_s:g} s"
        return ConditionReading(
            name=self.config.name,
            value=self.value,
            reading=reading,
            since=self._since,
            wanted=self._node.wanted,
            reason=reason,
            required=self.config.required,
        )


class Gate:
    """Is this car provably parked? Fed with frames, asked at any later instant."""

    def __init__(self, config: ParkConfig, *, base: Path = Path()) -> None:
        """Bind the conditions to the databases; paths are relative to `base`.

        Raises `Refused(CONFIG_INVALID)` naming file, message, signal and near matches. A set that
        lacks a required condition is taken, and says so in every verdict.
        """
        config = resolve(config, base)
        database = SignalDatabase(Path(file) for file in config.dbc)
        sources = FrameSources(database, config.frames, config.bus)
        self._missing = missing_roles(config)
        self._conditions: list[_Condition] = []
        by_message: dict[str, list[_Condition]] = {}
        for each in config.conditions:
            where = f"park.conditions {each.name!r}"
            try:
                node = bind(each, sources, where)
            except Refused as refused:
                raise _naming(refused, where) from refused
            condition = _Condition(each, node)
            self._conditions.append(condition)
            for name in each.messages():
                by_message.setdefault(name, []).append(condition)
        self._required = [c for c in self._conditions if c.config.required]
        self._frames: dict[tuple[str, int, bool], tuple[FrameSource, list[_Condition]]] = {
            source.key: (source, by_message[source.message.name]) for source in sources
        }
        self._deadline = math.inf
        self._parked = Ternary.UNKNOWN

    def needs(self) -> dict[str, frozenset[tuple[int, bool]]]:
        """The ids (id, extended) that must be received, by bus."""
        buses = {bus for bus, _, _ in self._frames}
        return {
            bus: frozenset((i, extended) for b, i, extended in self._frames if b == bus)
            for bus in buses
        }

    def feed(self, frame: Frame, bus: str, now: float) -> None:
        """Take a frame received on `bus` at `now`; frames of no interest are ignored."""
        wanted = self._frames.get((bus, frame.arbitration_id, frame.extended))
        if wanted is None:
            return
        self._advance(now)
        source, conditions = wanted
        if source.receive(frame.data, now):
            self._evaluate(conditions, now)

    def parked(self, now: float) -> Ternary:
        """The verdict without its reasons."""
        self._advance(now)
        return self._parked

    def verdict(self, now: float) -> Verdict:
        """What can be said at `now`, with every condition's reading."""
        return Verdict(
            parked=self.parked(now),
            complete=not self._missing,
            missing=self._missing,
            conditions=tuple(condition.reading(now) for condition in self._conditions),
        )

    def next_deadline(self, now: float) -> float | None:
        """Loop time at which the verdict may change without a frame, or `None`."""
        self._advance(now)
        return None if self._deadline == math.inf else self._deadline

    def _advance(self, now: float) -> None:
        """Let time pass: what went stale or was held long enough by `now`.

        A deadline may be earlier than needed, because a frame that says nothing new leaves it.
        """
        if now >= self._deadline:
            self._evaluate([c for c in self._conditions if now >= c.deadline], now)

    def _evaluate(self, conditions: list[_Condition], now: float) -> None:
        for condition in conditions:
            condition.evaluate(now)
        self._deadline = min([condition.deadline for condition in self._conditions])
        parked = ternary.all_([condition.value for condition in self._required])
        if self._missing:
            parked = ternary.all_((parked, Ternary.UNKNOWN))
        self._parked = parked


def _naming(refused: Refused, where: str) -> Refused:
    detail = refused.refusal.detail
    return Refused(refused.refusal.code, detail if where in detail else f"{where}: {detail}")
