"""Protection of frames against loss, repetition, freezing and corruption: AUTOSAR E2E.

A scheme says how checksum and counter stand in a frame; `CounterCheck` is the state machine that
all schemes share. E2E finds faults; it is no protection from an attacker on the bus.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from vehicle_agent.refusals import Code, Refused


class Status(StrEnum):
    """Outcome of one check; only VALID counts."""

    VALID = "valid"
    INVALID = "initial"
    NO_NEW_DATA = "no new data"
    REPEATED = "repeated"
    WRONG_SEQUENCE = "wrong sequence"
    ERROR = "error"


Kind = Literal["none", "counter", "sum", "e2e-p01", "e2e-p02"]


class ProtectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a frame is protected; `None` as `protection` takes what the database declares.

    Positions are bit offsets as in AUTOSAR: byte * 8, plus 4 for the high nibble of a counter.
    `data_id`: P01, 16 bit. `data_id_list`: P02, 16 bytes in hex, or one byte that serves for every
    counter value. `max_delta`: largest step of the counter that is still in sequence.
    """

    protection: Kind | None = None
    data_id: int | None = None
    data_id_list: str | None = None
    crc_offset: int = 0
    counter_offset: int = 8
    max_delta: int = 3


class Scheme(Protocol):
    """Where counter and checksum stand in a frame, and how they are computed."""

    @property
    def counter_modulus(self) -> int:
        """Number of counter values: a counter runs from 0 to this less one."""

    def intact(self, data: bytes) -> bool:
        """Whether the checksum of `data` is right."""

    def counter(self, data: bytes) -> int:
        """The counter in `data`; a value at or above the modulus is an error."""

    def protect(self, data: bytes, counter: int) -> bytes:
        """`data` with counter and checksum in their places."""


class Protection(Protocol):
    """The receiver's side of one frame."""

    def check(self, data: bytes | None, now: float) -> Status:
        """Judge a received frame; `None` says that a cycle passed without one."""


def _crc8_table(polynomial: int) -> bytes:
    table = bytearray()
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc & 0x80 else 0)
        table.append(crc & 0xFF)
    return bytes(table)


_SAE_J1850 = _crc8_table(0x1D)
_H2F = _crc8_table(0x2F)


def _crc8(table: bytes, data: bytes, crc: int) -> int:
    for byte in data:
        crc = table[crc ^ byte]
    return crc


@dataclass(frozen=True, slots=True)
class CounterOnly:
    """A 4-bit counter and no checksum: finds frozen and lost frames."""

    counter_offset: int
    counter_modulus: int = 16

    def intact(self, data: bytes) -> bool:
        """See `Scheme`."""
        return True

    def counter(self, data: bytes) -> int:
        """See `Scheme`."""
        return data[self.counter_offset >> 3] >> (self.counter_offset & 4) & 0xF

    def protect(self, data: bytes, counter: int) -> bytes:
        """See `Scheme`."""
        return _with_counter(data, self.counter_offset, counter)


@dataclass(frozen=True, slots=True)
class Checksummed:
    """A 4-bit counter and a checksum byte; the subclasses say which."""

    crc_offset: int
    counter_offset: int
    counter_modulus: int

    def checksum(self, data: bytes) -> int:
        """The checksum over all of `data` but the checksum's own byte."""
        raise NotImplementedError

    def intact(self, data: bytes) -> bool:
        """See `Scheme`."""
        return data[self.crc_offset >> 3] == self.checksum(data)

    def counter(self, data: bytes) -> int:
        """See `Scheme`."""
        return data[self.counter_offset >> 3] >> (self.counter_offset & 4) & 0xF

    def protect(self, data: bytes, counter: int) -> bytes:
        """See `Scheme`."""
        counted = _with_counter(data, self.counter_offset, counter)
        at = self.crc_offset >> 3
        return counted[:at] + bytes([self.checksum(counted)]) + counted[at + 1 :]


@dataclass(frozen=True, slots=True)
class Profile01(Checksummed):
    """AUTOSAR profile 1, data id mode "both": CRC8 SAE-J1850 with start and final value 00.

    The CRC covers the data id, low byte first, then the frame without its CRC byte; the counter
    runs from 0 to 14.
    """

    data_id: int

    def checksum(self, data: bytes) -> int:
        """See `Checksummed`."""
        at = self.crc_offset >> 3
        crc = _crc8(_SAE_J1850, self.data_id.to_bytes(2, "little"), 0)
        return _crc8(_SAE_J1850, data[at + 1 :], _crc8(_SAE_J1850, data[:at], crc))


@dataclass(frozen=True, slots=True)
class Profile02(Checksummed):
    """AUTOSAR profile 2: CRC8 H2F over the frame and one byte that the counter picks from a list.

    The same layout carries the frames of the MQB and MEB cars.
    """

    data_id_list: bytes

    def checksum(self, data: bytes) -> int:
        """See `Checksummed`."""
        at = self.crc_offset >> 3
        crc = _crc8(_H2F, data[at + 1 :], _crc8(_H2F, data[:at], 0xFF))
        return _H2F[crc ^ self.data_id_list[self.counter(data)]] ^ 0xFF


@dataclass(frozen=True, slots=True)
class IdSum(Checksummed):
    """The sum of the bytes of CAN id and frame, modulo 256."""

    arbitration_id: int

    def checksum(self, data: bytes) -> int:
        """See `Checksummed`."""
        own = data[self.crc_offset >> 3]
        return (sum(self.arbitration_id.to_bytes(4, "little")) + sum(data) - own) & 0xFF


class Unprotected:
    """No protection: every frame passes, and the gate asks for an independent one that agrees."""

    def check(self, data: bytes | None, now: float) -> Status:
        """See `Protection`."""
        return Status.NO_NEW_DATA if data is None else Status.VALID


class CounterCheck:
    """The receiver's state machine over one scheme.

    The first good frame, and the first after `resync_s` without one, only starts the sequence; a
    frame counts when its counter is 1 to `max_delta` steps beyond the last good one.
    """

    def __init__(self, scheme: Scheme, *, max_delta: int, resync_s: float) -> None:
        self._scheme = scheme
        self._max_delta = max_delta
        self._resync_s = resync_s
        self._last: int | None = None
        self._last_at = 0.0

    def check(self, data: bytes | None, now: float) -> Status:
        """See `Protection`."""
        if data is None:
            return Status.NO_NEW_DATA
        scheme = self._scheme
        counter = scheme.counter(data)
        if counter >= scheme.counter_modulus or not scheme.intact(data):
            return Status.ERROR
        last = self._last
        if last is None or now >= self._last_at + self._resync_s:
            status = Status.INVALID
        else:
            delta = (counter - last) % scheme.counter_modulus
            if delta == 0:
                return Status.REPEATED
            status = Status.VALID if delta <= self._max_delta else Status.WRONG_SEQUENCE
        self._last = counter
        self._last_at = now
        return status


def scheme_of(config: ProtectionConfig, arbitration_id: int, length: int, where: str) -> Scheme:
    """The scheme that `config` describes, for frames of `length` bytes.

    `where` names the frame in messages. Raises `Refused(CONFIG_INVALID)` for "none", positions
    outside the frame, or missing or impossible data ids.
    """
    kind = config.protection
    _require(
        config.counter_offset % 4 == 0 and 0 <= config.counter_offset < length * 8,
        where,
        f"counter_offset {config.counter_offset} is not a nibble of its {length} bytes",
    )
    if kind == "counter":
        return CounterOnly(config.counter_offset)
    _require(
        config.crc_offset % 8 == 0 and 0 <= config.crc_offset < length * 8,
        where,
        f"crc_offset {config.crc_offset} is not a byte of its {length} bytes",
    )
    _require(
        config.crc_offset >> 3 != config.counter_offset >> 3, where, "crc and counter share a byte"
    )
    place = (config.crc_offset, config.counter_offset)
    if kind == "e2e-p01":
        data_id = config.data_id
        if data_id is None or not 0 <= data_id <= 0xFFFF:
            raise _refused(where, "e2e-p01 needs data_id, 0 to 65535")
        return Profile01(*place, 15, data_id)
    if kind == "e2e-p02":
        return Profile02(*place, 16, _data_id_list(config.data_id_list, where))
    if kind == "sum":
        return IdSum(*place, 16, arbitration_id)
    raise _refused(where, f"protection {kind!r} has neither counter nor checksum")


def protection_of(
    config: ProtectionConfig, arbitration_id: int, length: int, *, resync_s: float, where: str
) -> Protection:
    """The receiver's check that `config` describes; see `scheme_of` for what is refused."""
    if config.protection == "none":
        return Unprotected()
    scheme = scheme_of(config, arbitration_id, length, where)
    _require(
        1 <= config.max_delta < scheme.counter_modulus,
        where,
        f"max_delta {config.max_delta} is not between 1 and {scheme.counter_modulus - 1}",
    )
    return CounterCheck(scheme, max_delta=config.max_delta, resync_s=resync_s)


def _data_id_list(text: str | None, where: str) -> bytes:
    try:
        ids = bytes.fromhex(text or "")
    except ValueError:
        ids = b""
    _require(len(ids) in {1, 16}, where, "e2e-p02 needs data_id_list, 16 bytes (or one) in hex")
    return ids if len(ids) == 16 else ids * 16


def _with_counter(data: bytes, offset: int, counter: int) -> bytes:
    at, shift = offset >> 3, offset & 4
    byte = data[at] & ~(0xF << shift) | counter << shift
    return data[:at] + bytes([byte]) + data[at + 1 :]


def _require(holds: bool, where: str, otherwise: str) -> None:
    if not holds:
        raise _refused(where, otherwise)


def _refused(where: str, what: str) -> Refused:
    return Refused(Code.CONFIG_INVALID, f"{where}: {what}")
