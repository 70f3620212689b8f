"""The drive inhibit as a protocol without I/O: cyclic requests out, acknowledgements in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec
from cantools.database.can import Message

from vehicle_agent.bus import Frame
from vehicle_agent.parking.database import SignalDatabase, raw_of, scaled, signal_of
from vehicle_agent.parking.e2e import ProtectionConfig, Scheme, Status, scheme_of
from vehicle_agent.parking.signals import FrameConfig, FrameSources, with_declared
from vehicle_agent.refusals import Code, Refused

Choice = str | int


class RequestConfig(ProtectionConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The frame that asks the drive unit.

    `inhibit`, `release`: values by signal, choice names or numbers; all other signals are 0.
    `reason_signal`: where the reason goes, as one of that signal's choices.
    """

    message: str
    inhibit: dict[str, Choice]
    release: dict[str, Choice]
    reason_signal: str | None = None


class StatusConfig(FrameConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The frame in which the drive unit answers; only `acknowledged` of `signal` is a yes."""

    message: str
    signal: str
    acknowledged: Choice


class InhibitConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The drive inhibit of a car (TOML `[inhibit]`); `dbc` is relative to the file it stands in.

    `cycle_s`: of the request; `acknowledge_timeout_s`: how long the drive unit may take;
    `release_frames`: how often RELEASE is said, so that a lost frame does not matter.
    """

    bus: str
    dbc: tuple[str, ...]
    request: RequestConfig
    status: StatusConfig
    cycle_s: float = 0.05
    acknowledge_timeout_s: float = 2.0
    release_frames: int = 5


class State(StrEnum):
    """Where the inhibit stands, as this side sees it."""

    RELEASED = "released"
    REQUESTING = "requesting"
    HELD = "held"
    LOST = "lost"


class InhibitProtocol:
    """Says what to send next and whether the drive unit holds. No I/O, no clock of its own.

    While REQUESTING, HELD or LOST the request goes on: a drive unit that stopped acknowledging is
    asked until `release`. After `release` a few RELEASE frames follow, then silence.
    """

    def __init__(self, config: InhibitConfig, *, base: Path = Path()) -> None:
        """Bind to the databases. Raises `Refused(CONFIG_INVALID)`."""
        database = SignalDatabase(base / file for file in config.dbc)
        self._config = config
        self._request = _Request(config.request, database)
        status = config.status
        frame_config = FrameConfig(
            **{name: getattr(status, name) for name in FrameConfig.__struct_fields__}
        )
        sources = FrameSources(database, {status.message: frame_config}, config.bus)
        self._status = sources.frame(status.message)
        if not self._status.protected:
            raise Refused(
                Code.CONFIG_INVALID, "inhibit.status: an acknowledgement must be protected"
            )
        self._answer = self._status.signal(status.signal, database.files)
        answer = self._answer.signal
        self._acknowledged = scaled(answer, raw_of(answer, status.acknowledged, "inhibit.status"))
        _check_times(config)
        self.state = State.RELEASED
        self.why = ""
        self._payload = b""
        self._releases_left = 0
        self._deadline = math.inf

    @property
    def receives(self) -> tuple[int, bool]:
        """Id and extended flag of the status frame."""
        return self._status.key[1:]

    @property
    def transmits(self) -> tuple[int, bool]:
        """Id and extended flag of the request frame."""
        return self._request.key

    @property
    def sending(self) -> bool:
        """Whether a request is due in every cycle."""
        return self.state is not State.RELEASED or self._releases_left > 0

    def acquire(self, reason: str, now: float) -> None:
        """Begin to ask; an answer of before does not count. Raises `Refused(CONFIG_INVALID)`."""
        self._payload = self._request.inhibit(reason)
        if self.state is not State.HELD:
            self.state = State.REQUESTING
            self._deadline = now + self._config.acknowledge_timeout_s
            self.why = "not acknowledged yet"

    def release(self) -> None:
        """Ask no more, and say so a few times."""
        self._payload = self._request.release
        self.state = State.RELEASED
        self._releases_left = self._config.release_frames
        self._deadline = math.inf

    def next_frame(self) -> Frame:
        """The request of this cycle, counted and protected. Only while `sending`."""
        if self.state is State.RELEASED:
            self._releases_left -= 1
        return self._request.frame(self._payload)

    def receive(self, frame: Frame, now: float) -> None:
        """Take the drive unit's status. Only here REQUESTING becomes HELD: by a new frame."""
        self._status.receive(frame.data, now)
        if self._status.status is not Status.VALID:
            return
        if self.state is State.REQUESTING and self._acknowledges(now):
            self.state = State.HELD
        self.elapse(now)

    def elapse(self, now: float) -> None:
        """Let time pass: an acknowledgement may have vanished, or not have come in time."""
        if self.state is State.HELD and self._acknowledges(now):
            self._deadline = self._answer.expires_at
            self.why = ""
        elif self.state is State.HELD or (self.state is State.REQUESTING and now >= self._deadline):
            self.state = State.LOST
            self._deadline = math.inf
            self.why = f"{self._answer.name} {self._answer.read(now)}"

    def _acknowledges(self, now: float) -> bool:
        reading = self._answer.read(now)
        return reading.fault is None and reading.value == self._acknowledged

    def deadline(self) -> float | None:
        """Loop time at which `elapse` must be called though no frame came, or `None`."""
        return None if self._deadline == math.inf else self._deadline


class _Request:
    """Encodes and counts the request frame."""

    def __init__(self, config: RequestConfig, database: SignalDatabase) -> None:
        message = database.message(config.message)
        where = f"inhibit.request {message.name}"
        base = ProtectionConfig(
            **{name: getattr(config, name) for name in ProtectionConfig.__struct_fields__}
        )
        protection = with_declared(base, message, where)
        self._scheme: Scheme = scheme_of(protection, message.frame_id, message.length, where)
        self._message = message
        self._config = config
        self._files = database.files
        self._counter = 0
        self.release = self._encode(config.release, where)
        self._inhibit = self._encode(config.inhibit, where)

    @property
    def key(self) -> tuple[int, bool]:
        return self._message.frame_id, self._message.is_extended_frame

    def inhibit(self, reason: str) -> bytes:
        if self._config.reason_signal is None:
            return self._inhibit
        values = {**self._config.inhibit, self._config.reason_signal: reason}
        return self._encode(values, f"inhibit.request reason {reason!r}")

    def frame(self, payload: bytes) -> Frame:
        data = self._scheme.protect(payload, self._counter)
        self._counter = (self._counter + 1) % self._scheme.counter_modulus
        identifier, extended = self.key
        return Frame(identifier, data, extended, self._message.is_fd)

    def _encode(self, values: Mapping[str, Choice], where: str) -> bytes:
        message: Message = self._message
        raw: dict[str, int | float] = {signal.name: 0 for signal in message.signals}
        for name, value in values.items():
            signal = signal_of(message, name, self._files)
            raw[name] = raw_of(signal, value, where)
        return bytes(message.encode(raw, scaling=False, strict=False))


def _check_times(config: InhibitConfig) -> None:
    for name in ("cycle_s", "acknowledge_timeout_s"):
        if not 0 < getattr(config, name) < math.inf:
            raise Refused(Code.CONFIG_INVALID, f"inhibit.{name} must be above 0")
    if config.release_frames < 1:
        raise Refused(Code.CONFIG_INVALID, "inhibit.release_frames must be 1 or more")
