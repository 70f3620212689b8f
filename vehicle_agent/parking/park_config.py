"""Park conditions as they are written (TOML `[park]`), and what a set must not lack."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec

from vehicle_agent.parking.signals import FrameConfig
from vehicle_agent.refusals import Code, Refused

READY_MADE = Path(__file__).with_name("conditions")


class Role(NamedTuple):
    """One thing that must be proved: in words, by how many independent frames, and whether
    another condition may stand in where a car has no signal for it.
    """

    meaning: str
    sources: int = 1
    substitutable: bool = True


REQUIRED_ROLES: dict[str, Role] = {
    "speed": Role("standing still, by two sources", sources=2, substitutable=False),
    "gear": Role("gear P engaged", substitutable=False),
    "parking_brake": Role("parking brake applied", substitutable=False),
    "not_ready": Role("not ready to drive", substitutable=False),
    "brake_pedal": Role("nobody on the brake pedal"),
    "low_voltage": Role("12 V net in good state"),
    "traction_battery": Role("enough charge"),
    "charging": Role("not charging"),
    "doors": Role("doors known"),
    "occupancy": Role("driver's seat known"),
    "hazard": Role("hazard lights known"),
    "emergency_call": Role("no emergency call"),
}


class Expression(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One test of one signal, or a combination of expressions; exactly one of the two.

    `signal`: `Message.Signal`, with one test: `equals` or `one_of` (choice names, or numbers in
    the signal's unit), `below` (<) and/or `at_least` (>=), or `known` (any valid value).
    `hysteresis`: how far beyond a threshold a value must be before it counts anew.
    `agree`: what all say alike, each from frames of its own.
    """

    signal: str | None = None
    equals: str | float | None = None
    one_of: tuple[str | float, ...] = ()
    below: float | None = None
    at_least: float | None = None
    hysteresis: float = 0.0
    known: bool = False
    all: tuple[Expression, ...] = ()
    any: tuple[Expression, ...] = ()
    not_: Expression | None = msgspec.field(default=None, name="not")
    agree: tuple[Expression, ...] = ()

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions that this one combines."""
        return self.all or self.any or self.agree or ((self.not_,) if self.not_ else ())

    def messages(self) -> frozenset[str]:
        """Names of all messages that the expression reads."""
        own = {self.signal.partition(".")[0]} if self.signal else set()
        return frozenset(own).union(*(part.messages() for part in self.parts))


class ConditionConfig(Expression, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An expression with a name.

    `role`: what it proves, one of `REQUIRED_ROLES`, or none for a condition of one's own.
    `hold_s`: how long it must have been true without a break. `required = false`: shown, but
    neither asked for nor counted.
    """

    name: str
    role: str | None = None
    hold_s: float = 0.0
    required: bool = True


class Substitute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For a role that this car has no signal for: the conditions that stand in, and why."""

    by: tuple[str, ...]
    why: str


class ParkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The park conditions of a car.

    `condition_set`: name of a ready-made set, or path of a TOML file, that this table builds on:
    `bus` and `dbc` replace those of the set, `frames` and `substitutes` go over its own by name,
    `conditions` replace the set's of the same name or are added. `dbc`: files, relative to the
    file in which they stand.
    """

    condition_set: str | None = None
    bus: str | None = None
    dbc: tuple[str, ...] = ()
    frames: dict[str, FrameConfig] = {}
    conditions: tuple[ConditionConfig, ...] = ()
    substitutes: dict[str, Substitute] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    park: ParkConfig


def load(path: Path) -> ParkConfig:
    """Read a TOML file with one `[park]` table, resolved. Raises `Refused(CONFIG_INVALID)`."""
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=_File).park
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error}") from error
    return resolve(config, path.parent)


def resolve(config: ParkConfig, base: Path) -> ParkConfig:
    """Join `config` with the set that it builds on and make its paths absolute against `base`.

    Raises `Refused(CONFIG_INVALID)` for a set that does not exist or names that clash.
    """
    dbc = tuple(str(base / file) for file in config.dbc)
    if config.condition_set is None:
        joined = msgspec.structs.replace(config, dbc=dbc)
    else:
        under = load(_set_path(config.condition_set, base))
        own = {condition.name: condition for condition in config.conditions}
        inherited = tuple(own.pop(c.name, c) for c in under.conditions)
        joined = ParkConfig(
            bus=config.bus or under.bus,
            dbc=dbc or under.dbc,
            frames=under.frames | config.frames,
            conditions=inherited + tuple(own.values()),
            substitutes=under.substitutes | config.substitutes,
        )
    _check(joined)
    return joined


def missing_roles(config: ParkConfig) -> tuple[str, ...]:
    """The required roles that no condition fills, each with what is missing, in words."""
    return tuple(_missing(config))


def _missing(config: ParkConfig) -> Iterator[str]:
    required = {c.name: c for c in config.conditions if c.required}
    for name, role in REQUIRED_ROLES.items():
        filling = [c for c in required.values() if c.role == name]
        if role.sources > 1:
            pairs = combinations((c.messages() for c in filling), role.sources)
            if not any(all(a.isdisjoint(b) for a, b in combinations(p, 2)) for p in pairs):
                yield f"{name}: {role.sources} conditions on frames of their own ({role.meaning})"
        elif not filling and name not in config.substitutes:
            yield f"{name}: a condition ({role.meaning})"


def _check(config: ParkConfig) -> None:
    names = [condition.name for condition in config.conditions]
    for condition in config.conditions:
        where = f"park.conditions {condition.name!r}"
        if names.count(condition.name) > 1:
            raise Refused(Code.CONFIG_INVALID, f"{where}: the name stands twice")
        if condition.role is not None and condition.role not in REQUIRED_ROLES:
            raise Refused(
                Code.CONFIG_INVALID,
                f"{where}: role {condition.role!r} is none of {', '.join(REQUIRED_ROLES)}",
            )
        if not 0 <= condition.hold_s < float("inf"):
            raise Refused(Code.CONFIG_INVALID, f"{where}: hold_s must be 0 or more")
    required = {condition.name for condition in config.conditions if condition.required}
    for role, substitute in config.substitutes.items():
        where = f"park.substitutes.{role}"
        if role not in REQUIRED_ROLES or not REQUIRED_ROLES[role].substitutable:
            allowed = ", ".join(name for name, r in REQUIRED_ROLES.items() if r.substitutable)
            raise Refused(Code.CONFIG_INVALID, f"{where}: allowed are {allowed}")
        if not substitute.by or not required.issuperset(substitute.by) or not substitute.why:
            raise Refused(
                Code.CONFIG_INVALID,
                f"{where}: needs `why`, and in `by` names of required conditions",
            )


def _set_path(name: str, base: Path) -> Path:
    ready_made = READY_MADE / f"{name}.toml"
    return ready_made if ready_made.is_file() else base / name
