"""The frames that a car's other controllers send: DBC messages at their cycles, E2E protected.

Pure: `ResidualBus.due(now, values)` yields the frames whose time has come; the caller sends them.
Times are seconds of one monotonic clock. Deadlines are `start + n * cycle`, so lateness never
accumulates; a sender that wakes up after several deadlines sends one frame, as a real controller
does, and counts the others as `missed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from cantools.database.can import Message, Signal
from e2e.p01 import E2E_P01_DATAID_BOTH, e2e_p01_check, e2e_p01_protect

NOT_AVAILABLE = "NOT_AVAILABLE"
P01_COUNTER_VALUES = 15

Value = float | str


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is wrong with a message, for `count` deadlines or (None) until it is cleared.

    `stop` sends nothing, `freeze` repeats the last bytes, `bad_crc` spoils the checksum,
    `counter_frozen` keeps the counter under a right checksum, `wrong_value` sends `value` (physical
    or the name of a choice) as `signal`, `not_available` does so for `signal` or for all signals.
    """

    kind: Literal["stop", "freeze", "bad_crc", "counter_frozen", "wrong_value", "not_available"]
    signal: str | None = None
    value: Value | None = None
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None


class CyclicFrame(NamedTuple):
    """One frame to send."""

    name: str
    arbitration_id: int
    extended: bool
    data: bytes


class E2EProtection(NamedTuple):
    """AUTOSAR E2E profile 1, data id mode "both", header at the start of the frame."""

    data_id: int

    @classmethod
    def of(cls, message: Message) -> E2EProtection | None:
        """What the message's attributes declare; raises ValueError for a profile we do not know."""
        attributes = message.dbc.attributes if message.dbc else {}
        profile = attributes["E2EProfile"].value if "E2EProfile" in attributes else ""
        if not profile:
            return None
        if profile != "P01":
            raise ValueError(f"{message.name}: E2EProfile {profile!r} is not one of P01")
        return cls(int(attributes["E2EDataId"].value))

    def protect(self, data: bytes) -> bytes:
        """`data`, its counter already in place, with the checksum in byte 0."""
        frame = bytearray(data)
        e2e_p01_protect(
            frame, self.data_id, data_id_mode=E2E_P01_DATAID_BOTH, increment_counter=False
        )
        return bytes(frame)

    def check(self, data: bytes) -> bool:
        """Whether the checksum of `data` is right; the counter is the caller's business."""
        return bool(e2e_p01_check(bytearray(data), self.data_id, data_id_mode=E2E_P01_DATAID_BOTH))


class CyclicMessage:
    """One message of a DBC at its cycle."""

    def __init__(self, message: Message, *, start: float) -> None:
        """First deadline at `start`. Raises ValueError for a message without a cycle time."""
        if not message.cycle_time:
            raise ValueError(f"{message.name}: no GenMsgCycleTime")
        self.message = message
        self.missed = 0
        self._cycle_s = message.cycle_time / 1000
        self._start = start
        self._next = 0
        self._protection = E2EProtection.of(message)
        self._header = (f"{message.name}_CRC", f"{message.name}_CNT")
        self._counter = 0
        self._last: bytes | None = None
        self._faults: list[tuple[Fault, int | None]] = []

    @property
    def due_at(self) -> float:
        """The next deadline."""
        return self._deadline(self._next)

    def emit(self, now: float, values: Mapping[str, Value]) -> CyclicFrame | None:
        """The frame that is due at `now`, None if there is none or a fault withholds it.

        `values` maps the message's signals, without counter and checksum, to physical values.
        """
        if now < self.due_at:
            return None
        current = max(self._next, int((now - self._start) / self._cycle_s))
        if self._deadline(current + 1) <= now:  # the division rounded down
            current += 1
        self.missed += current - self._next
        self._next = current + 1
        faults = self._take_faults()
        kinds = {fault.kind for fault in faults}
        if "stop" in kinds:
            return None
        if "freeze" not in kinds or self._last is None:
            self._last = self._encode(values, faults)
            if "counter_frozen" not in kinds:
                self._counter = (self._counter + 1) % P01_COUNTER_VALUES
        data = self._last
        if "bad_crc" in kinds:
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        message = self.message
        return CyclicFrame(message.name, message.frame_id, message.is_extended_frame, data)

    def set_fault(self, fault: Fault) -> None:
        """Add a fault; raises ValueError if the message cannot show it."""
        name = self.message.name
        if fault.signal is not None and fault.signal not in self._payload_names():
            known = ", ".join(self._payload_names())
            raise ValueError(f"{name}: no signal {fault.signal!r}; one of {known}")
        if fault.kind == "bad_crc" and self._protection is None:
            raise ValueError(f"{name}: bad_crc needs a message with a checksum")
        if fault.kind == "wrong_value":
            if fault.signal is None or fault.value is None:
                raise ValueError(f"{name}: wrong_value needs signal and value")
            try:
                self._encode(dict.fromkeys(self._payload_names(), 0), [fault])
            except (KeyError, ValueError, OverflowError, ArithmeticError) as error:
                raise ValueError(f"{name}.{fault.signal}: {fault.value!r}: {error}") from error
        self._faults.append((fault, fault.count))

    def clear_faults(self) -> None:
        """Behave again; the counter goes on from where it stood."""
        self._faults.clear()

    @property
    def faults(self) -> list[Fault]:
        """The faults that are active."""
        return [fault for fault, _ in self._faults]

    def _deadline(self, number: int) -> float:
        return self._start + number * self._cycle_s

    def _take_faults(self) -> list[Fault]:
        active = self.faults
        counted = ((f, None if left is None else left - 1) for f, left in self._faults)
        self._faults = [(f, left) for f, left in counted if left is None or left > 0]
        return active

    def _payload_names(self) -> list[str]:
        return [signal.name for signal in self.message.signals if signal.name not in self._header]

    def _encode(self, values: Mapping[str, Value], faults: list[Fault]) -> bytes:
        content: dict[str, Value] = {name: values[name] for name in self._payload_names()}
        if self._protection is not None:
            content.update(zip(self._header, (0, self._counter), strict=True))
        strict = True
        for fault in faults:
            if fault.kind == "wrong_value" and fault.signal and fault.value is not None:
                content[fault.signal] = fault.value
                strict = False
            elif fault.kind == "not_available":
                content.update(
                    (signal.name, NOT_AVAILABLE)
                    for signal in self.message.signals
                    if fault.signal in (None, signal.name) and _can_be_unavailable(signal)
                )
        data: bytes = self.message.encode(content, strict=strict)
        return self._protection.protect(data) if self._protection is not None else data


class ResidualBus:
    """All cyclic messages of a part of the car."""

    def __init__(
        self, messages: Iterable[Message], *, start: float, stagger_s: float = 0.002
    ) -> None:
        """Message k has its first deadline at `start + k * stagger_s`, to spread the load.

        Raises ValueError for a message that cannot be sent cyclically or protected.
        """
        ordered = sorted(messages, key=lambda message: message.frame_id)
        self._messages = {
            message.name: CyclicMessage(message, start=start + k * stagger_s)
            for k, message in enumerate(ordered)
        }

    @property
    def next_due_at(self) -> float:
        """When `due` will have something to do."""
        return min(message.due_at for message in self._messages.values())

    @property
    def missed(self) -> dict[str, int]:
        """Deadlines passed over because `due` was called too late, by message."""
        return {name: message.missed for name, message in self._messages.items()}

    @property
    def faults(self) -> dict[str, list[Fault]]:
        """The faults that are active, by message."""
        return {name: m.faults for name, m in self._messages.items() if m.faults}

    def due(self, now: float, values: Mapping[str, Value]) -> list[CyclicFrame]:
        """The frames to send at `now`, the most overdue first; `values` are physical."""
        waiting = [message for message in self._messages.values() if message.due_at <= now]
        waiting.sort(key=lambda message: message.due_at)
        frames = (message.emit(now, values) for message in waiting)
        return [frame for frame in frames if frame is not None]

    def set_fault(self, message: str, fault: Fault) -> None:
        """Raises ValueError for an unknown message or a fault that it cannot show."""
        self._message(message).set_fault(fault)

    def clear_faults(self, message: str | None = None) -> None:
        """Clear the faults of one message or of all; raises ValueError for an unknown one."""
        for each in [self._message(message)] if message else self._messages.values():
            each.clear_faults()

    def _message(self, name: str) -> CyclicMessage:
        if name not in self._messages:
            raise ValueError(f"no message {name!r}; one of {', '.join(self._messages)}")
        return self._messages[name]


def _can_be_unavailable(signal: Signal) -> bool:
    return NOT_AVAILABLE in (str(choice) for choice in (signal.choices or {}).values())
