"""From frames to values that may be relied on: in range, known, available, fresh, protected."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar, cast

import cantools
import msgspec
from cantools.database.can import Message, Signal

from vehicle_agent.parking.database import SignalDatabase, attribute, scaled, signal_of
from vehicle_agent.parking.e2e import Kind, ProtectionConfig, Status, protection_of
from vehicle_agent.refusals import Code, Refused

_DECLARED_PROFILES: dict[str, Kind] = {"P01": "e2e-p01"}
_CYCLES_UNTIL_STALE = 5
_NOT_AVAILABLE = re.compile(r"(^|[ _-])(sna|not[ _-]?available|unavailable|invalid)$", re.I)

_Config = TypeVar("_Config", bound=ProtectionConfig)


class FrameConfig(ProtectionConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one message is received.

    `timeout_s`: a value older than this is stale; default five of the message's cycles.
    `not_available`: raw values by signal that mean "no measurement", beside those that the
    database names so (SNA, NOT_AVAILABLE, INVALID) or that lie outside the signal's range.
    `bus`: where it is not the bus of the whole set.
    """

    timeout_s: float | None = None
    not_available: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    bus: str | None = None


class Reading(NamedTuple):
    """A signal's value in its unit, its choice name, or the fault that makes it unknown."""

    value: float
    label: str | None
    fault: str | None

    def __str__(self) -> str:
        return self.fault or self.label or f"{self.value:g}"


class SignalSource:
    """One signal of a received frame: its last valid reading, good until `expires_at`."""

    def __init__(self, frame: FrameSource, signal: Signal, not_available: Sequence[int]) -> None:
        self.frame = frame
        self.signal = signal
        self.enumerated = _enumerated(signal)
        self.expires_at = -math.inf
        self._labels = {int(raw): str(label) for raw, label in (signal.choices or {}).items()}
        self._not_available = {
            *not_available,
            *(raw for raw, label in self._labels.items() if _NOT_AVAILABLE.search(label)),
        }
        self._raw: float | None = None
        self._last: Reading | None = None

    @property
    def name(self) -> str:
        """Message and signal."""
        return f"{self.frame.message.name}.{self.signal.name}"

    def accept(self, raw: int | float, now: float) -> bool:
        """Take the raw value of a valid frame; whether the reading is another than before."""
        was_fresh = now < self.expires_at
        self.expires_at = now + self.frame.timeout_s
        if was_fresh and raw == self._raw:
            return False
        self._raw = raw
        self._last = self._judge(raw)
        return True

    def read(self, now: float) -> Reading:
        """The reading at `now`; its fault says what is missing."""
        if self._last is not None and now < self.expires_at:
            return self._last
        frame = self.frame
        why = "" if frame.status in {None, Status.VALID} else f" ({frame.status})"
        if self._last is None:
            return Reading(math.nan, None, f"no valid frame yet{why}")
        age = now - self.expires_at + frame.timeout_s
        return Reading(math.nan, None, f"stale for {age:.2f} s{why}")

    def _judge(self, raw: int | float) -> Reading:
        signal = self.signal
        label = self._labels.get(raw) if isinstance(raw, int) else None
        value = scaled(signal, raw)
        fault = None
        if raw in self._not_available:
            fault = "not available"
        elif not math.isfinite(value):
            fault = "not a number"
        elif (signal.minimum is not None and value < signal.minimum) or (
            signal.maximum is not None and value > signal.maximum
        ):
            fault = f"{value:g} is out of range"
        elif self.enumerated and label is None:
            fault = f"{raw} is no known choice"
        return Reading(value, label, fault)


class FrameSource:
    """One message as it is received: protection, timeout, and the signals that are wanted of it."""

    def __init__(self, message: Message, config: FrameConfig, bus: str) -> None:
        where = f"park.frames.{message.name}"
        config = with_declared(config, message, where)
        self.message = message
        self.bus = bus
        self.protected = config.protection != "none"
        self.status: Status | None = None
        self.timeout_s = _timeout(config, message, where)
        self.signals: dict[str, SignalSource] = {}
        self._not_available = config.not_available
        self._protection = protection_of(
            config, message.frame_id, message.length, resync_s=self.timeout_s, where=where
        )

    @property
    def key(self) -> tuple[str, int, bool]:
        """Bus, id and whether the id is extended: what a received frame is told by."""
        return self.bus, self.message.frame_id, self.message.is_extended_frame

    def signal(self, name: str, files: str) -> SignalSource:
        """The signal `name`, wanted from now on. Raises `Refused(CONFIG_INVALID)`."""
        if name not in self.signals:
            signal = signal_of(self.message, name, files)
            self.signals[name] = SignalSource(self, signal, self._not_available.get(name, ()))
        return self.signals[name]

    def receive(self, data: bytes, now: float) -> bool:
        """Take a frame's payload; whether any reading is another than before.

        A frame that does not count, by length or protection, changes no reading; `status` says so.
        """
        self.status = self._check(data, now)
        if self.status is not Status.VALID:
            return False
        try:
            raw = self.message.decode(data, decode_choices=False, scaling=False)
        except (cantools.Error, ValueError):
            self.status = Status.ERROR
            return False
        values = cast("dict[str, int | float]", raw)
        changed = False
        for name, source in self.signals.items():
            if name in values and source.accept(values[name], now):
                changed = True
        return changed

    def _check(self, data: bytes, now: float) -> Status:
        if len(data) != self.message.length:
            return Status.ERROR
        return self._protection.check(data, now)


class FrameSources:
    """All messages that somebody wants signals of, each received once."""

    def __init__(
        self, database: SignalDatabase, frames: dict[str, FrameConfig], bus: str | None
    ) -> None:
        self._database = database
        self._configs = frames
        self._bus = bus
        self._by_name: dict[str, FrameSource] = {}
        for name, config in frames.items():
            message = database.message(name)
            for signal in config.not_available:
                signal_of(message, signal, database.files)

    def signal(self, path: str) -> SignalSource:
        """The signal `Message.Signal`. Raises `Refused(CONFIG_INVALID)` with near matches."""
        message, _, signal = path.partition(".")
        if not signal:
            raise Refused(Code.CONFIG_INVALID, f"signal {path!r} is not written Message.Signal")
        return self.frame(message).signal(signal, self._database.files)

    def frame(self, name: str) -> FrameSource:
        """The message `name`. Raises `Refused(CONFIG_INVALID)`."""
        if name not in self._by_name:
            config = self._configs.get(name, FrameConfig())
            bus = config.bus or self._bus
            if not bus:
                raise Refused(Code.CONFIG_INVALID, f"message {name!r} has no bus")
            self._by_name[name] = FrameSource(self._database.message(name), config, bus)
        return self._by_name[name]

    def __iter__(self) -> Iterator[FrameSource]:
        return iter(list(self._by_name.values()))


def with_declared(config: _Config, message: Message, where: str) -> _Config:
    """Fill in what the database's attributes say of the protection.

    Raises `Refused(CONFIG_INVALID)` where neither says how the frame is protected.
    """
    kind = config.protection
    if kind is None:
        declared = str(attribute(message, "E2EProfile") or "")
        if declared not in _DECLARED_PROFILES:
            raise Refused(
                Code.CONFIG_INVALID,
                f"{where}: protection is missing, and the database declares "
                f"{declared or 'none'}; allowed: none, counter, sum, e2e-p01, e2e-p02",
            )
        kind = _DECLARED_PROFILES[declared]
    data_id = config.data_id
    if data_id is None and (stated := attribute(message, "E2EDataId")):
        data_id = int(stated)
    return msgspec.structs.replace(config, protection=kind, data_id=data_id)


def _timeout(config: FrameConfig, message: Message, where: str) -> float:
    if config.timeout_s is not None:
        if not 0 < config.timeout_s < math.inf:
            raise Refused(Code.CONFIG_INVALID, f"{where}: timeout_s must be above 0")
        return config.timeout_s
    if not message.cycle_time:
        raise Refused(
            Code.CONFIG_INVALID,
            f"{where}: timeout_s is missing, and the database gives no cycle time",
        )
    return _CYCLES_UNTIL_STALE * message.cycle_time / 1000


def _enumerated(signal: Signal) -> bool:
    """Whether the choices are the values, rather than names for a few odd ones of a number."""
    named = [c for c in (signal.choices or {}).values() if not _NOT_AVAILABLE.search(str(c))]
    whole = signal.scale == 1 and signal.offset == 0 and not signal.is_float
    return len(named) >= 2 and whole and signal.length <= 8
