"""Expressions of park conditions bound to signals, evaluated in three-valued logic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from vehicle_agent.parking import ternary
from vehicle_agent.parking.database import raw_of, scaled
from vehicle_agent.parking.park_config import Expression
from vehicle_agent.parking.signals import FrameSources, Reading, SignalSource
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refused


class Description(NamedTuple):
    """The values an expression saw, and why it is not TRUE (empty where it is)."""

    reading: str
    reason: str


class Node(Protocol):
    """A bound expression; `value` is that of the last `evaluate`."""

    value: Ternary

    @property
    def wanted(self) -> str:
        """What would make it TRUE, in words."""

    def evaluate(self, now: float) -> float:
        """Set `value`; the loop time at which to ask again even if no frame comes."""

    def describe(self, now: float) -> Description:
        """Put what `evaluate` found at `now` into words."""


def bind(expression: Expression, sources: FrameSources, where: str) -> Node:
    """Bind `expression` to the signals of `sources`; `where` names it in messages.

    Raises `Refused(CONFIG_INVALID)` for unknown names and for expressions that say nothing or
    too much.
    """
    return _bind(expression, sources, where, corroborated=False)


def _bind(expression: Expression, sources: FrameSources, where: str, *, corroborated: bool) -> Node:
    _check_form(expression, where)
    if expression.signal is not None:
        return _SignalTest(expression, sources.signal(expression.signal), where, corroborated)
    if expression.agree:
        _check_independent(expression.agree, where)
    inner = corroborated or bool(expression.agree)
    parts = [_bind(part, sources, where, corroborated=inner) for part in expression.parts]
    if expression.agree:
        return _Combination("agree", ternary.agree, parts)
    if expression.all:
        return _Combination("and", ternary.all_, parts)
    if expression.any:
        return _Combination("or", ternary.any_, parts)
    return _Negation(parts[0])


def _check_form(expression: Expression, where: str) -> None:
    e = expression
    forms = (e.signal is not None, e.all, e.any, e.not_ is not None, e.agree)
    tests = (e.equals is not None, e.one_of, e.below is not None or e.at_least is not None, e.known)
    if sum(map(bool, forms)) != 1:
        allowed = "exactly one of signal, all, any, not, agree"
        raise Refused(Code.CONFIG_INVALID, f"{where}: an expression has {allowed}")
    if sum(map(bool, tests)) != (1 if e.signal is not None else 0):
        allowed = "exactly one of equals, one_of, below/at_least, known"
        raise Refused(Code.CONFIG_INVALID, f"{where}: a signal, and only a signal, has {allowed}")
    if not 0 <= e.hysteresis < math.inf:
        raise Refused(Code.CONFIG_INVALID, f"{where}: hysteresis must be 0 or more")


def _check_independent(parts: tuple[Expression, ...], where: str) -> None:
    seen: set[str] = set()
    for part in parts:
        if not seen.isdisjoint(part.messages()):
            raise Refused(Code.CONFIG_INVALID, f"{where}: agree needs frames of their own for each")
        seen |= part.messages()
    if len(parts) < 2:
        raise Refused(Code.CONFIG_INVALID, f"{where}: agree needs two sources or more")


class _SignalTest:
    """One test of one signal.

    An unprotected frame alone proves nothing, in either direction: without an independent frame
    that agrees its test is UNKNOWN.
    """

    def __init__(
        self, expression: Expression, source: SignalSource, where: str, corroborated: bool
    ) -> None:
        self._source = source
        self._alone = not source.frame.protected and not corroborated
        self._unit = source.signal.unit or ""
        self._is_threshold = expression.below is not None or expression.at_least is not None
        self.value = Ternary.UNKNOWN
        self._passes, self.wanted = self._compile(expression, where)

    def evaluate(self, now: float) -> float:
        """See `Node`."""
        source = self._source
        reading = self._read(now)
        if reading.fault is not None or self._alone:
            self.value = Ternary.UNKNOWN
        else:
            self.value = ternary.from_bool(self._passes(reading))
        return source.expires_at if now < source.expires_at else math.inf

    def describe(self, now: float) -> Description:
        """See `Node`."""
        reading = self._read(now)
        shown = f"{self._source.signal.name} {reading}"
        if reading.fault is not None:
            return Description(shown, shown)
        if reading.label is None and self._unit:
            shown += f" {self._unit}"
        if self._alone:
            return Description(shown, f"{shown}: unprotected, and no independent frame agrees")
        why = "" if self.value is Ternary.TRUE else f"{shown}, wanted {self.wanted}"
        return Description(shown, why)

    def _read(self, now: float) -> Reading:
        """The reading; to a threshold, a number that has a name is no number."""
        reading = self._source.read(now)
        if self._is_threshold and reading.label is not None and reading.fault is None:
            return reading._replace(fault=reading.label)
        return reading

    def _compile(self, e: Expression, where: str) -> tuple[Callable[[Reading], bool], str]:
        name = self._source.signal.name
        if e.known:
            return (lambda reading: True), f"{name} known"
        if e.below is None and e.at_least is None:
            choices = e.one_of if e.equals is None else (e.equals,)
            values = {self._value(choice, where) for choice in choices}
            return (lambda reading: reading.value in values), f"{name} " + " or ".join(
                f"{choice:g}" if isinstance(choice, float) else str(choice) for choice in choices
            )
        if self._source.enumerated:
            raise Refused(
                Code.CONFIG_INVALID, f"{where}: {name} has named choices; use equals or one_of"
            )
        low = -math.inf if e.at_least is None else e.at_least
        high = math.inf if e.below is None else e.below
        if low >= high:
            raise Refused(Code.CONFIG_INVALID, f"{where}: at_least must be less than below")
        words = [f">= {low:g}"] if low > -math.inf else []
        words += [f"< {high:g}"] if high < math.inf else []

        def within(reading: Reading) -> bool:
            margin = 0.0 if self.value is Ternary.TRUE else e.hysteresis
            return low + margin <= reading.value < high - margin

        return within, f"{name} {' and '.join(words)} {self._unit}".rstrip()

    def _value(self, choice: str | float, where: str) -> float:
        if not isinstance(choice, str):
            return float(choice)
        signal = self._source.signal
        return scaled(signal, raw_of(signal, choice, where))


class _Combination:
    """Several expressions joined by one operation of the logic."""

    def __init__(
        self, word: str, join: Callable[[Iterable[Ternary]], Ternary], parts: list[Node]
    ) -> None:
        self.value = Ternary.UNKNOWN
        self._join = join
        self._parts = parts
        self._agree = word == "agree"
        joined = f" {'and' if self._agree else word} ".join(part.wanted for part in parts)
        self.wanted = f"({joined})" if len(parts) > 1 else joined

    def evaluate(self, now: float) -> float:
        """See `Node`."""
        expires_at = min([part.evaluate(now) for part in self._parts])
        self.value = self._join([part.value for part in self._parts])
        return expires_at

    def describe(self, now: float) -> Description:
        """See `Node`."""
        parts = [part.describe(now) for part in self._parts]
        reading = ", ".join(part.reading for part in parts)
        if self.value is Ternary.TRUE:
            return Description(reading, "")
        why = "; ".join(part.reason for part in parts if part.reason)
        if self._agree and {part.value for part in self._parts} >= {Ternary.TRUE, Ternary.FALSE}:
            why = f"sources disagree: {why}"
        return Description(reading, why)


class _Negation:
    """The opposite of an expression; what is unknown stays unknown."""

    def __init__(self, part: Node) -> None:
        self.value = Ternary.UNKNOWN
        self._part = part
        self.wanted = f"not ({part.wanted})"

    def evaluate(self, now: float) -> float:
        """See `Node`."""
        expires_at = self._part.evaluate(now)
        self.value = ternary.not_(self._part.value)
        return expires_at

    def describe(self, now: float) -> Description:
        """See `Node`."""
        reading, why = self._part.describe(now)
        if self.value is Ternary.TRUE:
            return Description(reading, "")
        return Description(reading, why or f"{reading}, wanted {self.wanted}")
