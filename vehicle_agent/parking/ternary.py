"""Kleene's strong three-valued logic: unknown is neither yes nor no, and never a start."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NoReturn


class Ternary(StrEnum):
    """A truth value. It has no `bool`: whoever asks must say what unknown means to them."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"

    def __bool__(self) -> NoReturn:
        raise TypeError("a Ternary is compared with Ternary.TRUE, not used as a bool")


def from_bool(value: bool) -> Ternary:
    """TRUE or FALSE."""
    return Ternary.TRUE if value else Ternary.FALSE


def not_(value: Ternary) -> Ternary:
    """Negation; unknown stays unknown."""
    if value is Ternary.UNKNOWN:
        return value
    return from_bool(value is Ternary.FALSE)


def all_(values: Iterable[Ternary]) -> Ternary:
    """Conjunction: one FALSE decides; else one UNKNOWN does; TRUE for none at all."""
    result = Ternary.TRUE
    for value in values:
        if value is Ternary.FALSE:
            return value
        if value is Ternary.UNKNOWN:
            result = value
    return result


def any_(values: Iterable[Ternary]) -> Ternary:
    """Disjunction: one TRUE decides; else one UNKNOWN does; FALSE for none at all."""
    result = Ternary.FALSE
    for value in values:
        if value is Ternary.TRUE:
            return value
        if value is Ternary.UNKNOWN:
            result = value
    return result


def agree(values: Iterable[Ternary]) -> Ternary:
    """What all sources say alike; UNKNOWN where they differ, one is unknown or there is none."""
    said = set(values)
    return said.pop() if len(said) == 1 else Ternary.UNKNOWN
