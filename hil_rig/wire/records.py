"""What hub and clients send each other: records of one fixed size (see docs/wire.md)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from hil_rig.wire.bits import Rates
from hil_rig.wire.frame import Frame

VERSION = 1
RECORD = struct.Struct("<BBBxIQ64s")
"""kind, flags, length, (pad), number, time, payload: 80 bytes, little-endian."""

_FILTER = struct.Struct("<II")
_WIRE = struct.Struct("<IIIB")
_STATISTICS = struct.Struct("<8Q")
FILTERS_PER_RECORD = 8
EXTENDED_BIT = 1 << 31
ID_MASK = (1 << 29) - 1


class Kind(IntEnum):
    """The first byte of a record."""

    JOIN = 1
    FILTERS = 2
    SEND = 3
    FLUSH = 4
    STATISTICS = 5
    LEAVE = 6
    FRAME = 16
    ROOM = 17
    ANSWER = 18


class FrameFlag:
    """Bits of the second byte of SEND and FRAME. Plain numbers: enum arithmetic is slow."""

    EXTENDED: Final = 1
    REMOTE: Final = 2
    FD: Final = 4
    BITRATE_SWITCH: Final = 8
    ERROR_STATE: Final = 16
    OWN: Final = 32


class JoinFlag:
    """Bits of the second byte of JOIN: what the client wants to get."""

    RECEIVE_OWN: Final = 1
    RECEIVE_FD: Final = 2


class FiltersFlag:
    """Bits of the second byte of FILTERS: where in the filter set the record stands."""

    FIRST: Final = 1
    LAST: Final = 2


class Record(NamedTuple):
    """A record taken apart; `payload` has the whole 64 bytes."""

    kind: int
    flags: int
    length: int
    number: int
    time_ns: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the 80 bytes."""
        return RECORD.pack(*self)


class Filter(NamedTuple):
    """Passes ids equal to `can_id` under `mask`, of both forms or as `extended` says."""

    can_id: int
    mask: int
    extended: bool | None = None

    def accepts(self, frame: Frame) -> bool:
        """Say whether `frame` passes."""
        return not (self.can_id ^ frame.arbitration_id) & self.mask and (
            self.extended is None or self.extended == frame.extended
        )


class WireProperties(NamedTuple):
    """What a client learns when it joins."""

    rates: Rates
    fd: bool
    queue_depth: int


class Statistics(NamedTuple):
    """What the wire has done since its first frame; times in nanoseconds.

    `lateness_*` is how long after its exact finish a frame was handed out. `dropped` counts records
    that clients did not read in time and frames that were refused as impossible.
    """

    frames: int
    busy_ns: int
    first_start_ns: int
    last_finish_ns: int
    lateness_p50_ns: int
    lateness_p99_ns: int
    lateness_max_ns: int
    dropped: int

    @property
    def load(self) -> float:
        """Share of the time from first start to last finish in which the bus was busy."""
        span = self.last_finish_ns - self.first_start_ns
        return self.busy_ns / span if span else 0.0


def unpack(data: bytes) -> Record:
    """Take a record apart; raises ValueError if `data` has another size."""
    if len(data) != RECORD.size:
        raise ValueError(f"a record has {RECORD.size} bytes, not {len(data)}")
    return Record._make(RECORD.unpack(data))


def plain(kind: Kind, flags: int = 0, *, number: int = 0, time_ns: int = 0) -> bytes:
    """Pack a record without a payload."""
    return RECORD.pack(kind, flags, 0, number, time_ns, b"")


def pack_frame(kind: Kind, frame: Frame, *, time_ns: int = 0, own: bool = False) -> bytes:
    """Pack a frame to send, or one that went over the bus at `time_ns`."""
    flags = (
        frame.extended * FrameFlag.EXTENDED
        | frame.remote * FrameFlag.REMOTE
        | frame.fd * FrameFlag.FD
        | frame.bitrate_switch * FrameFlag.BITRATE_SWITCH
        | frame.error_state_indicator * FrameFlag.ERROR_STATE
        | own * FrameFlag.OWN
    )
    length = frame.requested if frame.remote else len(frame.data)
    return RECORD.pack(kind, flags, length, frame.arbitration_id, time_ns, frame.data)


def frame_of(record: Record) -> Frame:
    """Return the frame in a SEND or FRAME record; raises ValueError if it is impossible."""
    flags, length = record.flags, record.length
    remote = bool(flags & FrameFlag.REMOTE)
    frame = Frame(
        record.number,
        b"" if remote else record.payload[:length],
        bool(flags & FrameFlag.EXTENDED),
        bool(flags & FrameFlag.FD),
        bool(flags & FrameFlag.BITRATE_SWITCH),
        bool(flags & FrameFlag.ERROR_STATE),
        remote,
        length if remote else 0,
    )
    flaw = frame.flaw() or (f"{length} bytes" if length > len(record.payload) else None)
    if flaw:
        raise ValueError(flaw)
    return frame


def pack_filters(filters: list[Filter]) -> list[bytes]:
    """Pack a complete filter set, eight filters a record; an empty set passes everything."""
    records = []
    for start in range(0, max(1, len(filters)), FILTERS_PER_RECORD):
        some = filters[start : start + FILTERS_PER_RECORD]
        last = start + FILTERS_PER_RECORD >= len(filters)
        flags = (FiltersFlag.FIRST if start == 0 else 0) | (FiltersFlag.LAST if last else 0)
        payload = b"".join(
            _FILTER.pack(
                can_id & ID_MASK | (EXTENDED_BIT if extended else 0),
                mask & ID_MASK | (EXTENDED_BIT if extended is not None else 0),
            )
            for can_id, mask, extended in some
        )
        records.append(RECORD.pack(Kind.FILTERS, flags, len(some), 0, 0, payload))
    return records


def filters_of(record: Record) -> list[Filter]:
    """Return the filters in one FILTERS record; raises ValueError if it claims too many."""
    if record.length > FILTERS_PER_RECORD:
        raise ValueError(f"{record.length} filters; a record has at most {FILTERS_PER_RECORD}")
    payload = record.payload[: record.length * _FILTER.size]
    return [
        Filter(
            can_id & ID_MASK,
            mask & ID_MASK,
            bool(can_id & EXTENDED_BIT) if mask & EXTENDED_BIT else None,
        )
        for can_id, mask in _FILTER.iter_unpack(payload)
    ]


def pack_properties(properties: WireProperties) -> bytes:
    """Pack the payload of the answer to JOIN."""
    return _WIRE.pack(*properties.rates, properties.queue_depth, properties.fd)


def properties_of(payload: bytes) -> WireProperties:
    """Read the payload of the answer to JOIN."""
    nominal, data, depth, fd = _WIRE.unpack_from(payload)
    return WireProperties(Rates(nominal, data), bool(fd), depth)


def pack_statistics(statistics: Statistics) -> bytes:
    """Pack the payload of the answer to STATISTICS."""
    return _STATISTICS.pack(*statistics)


def statistics_of(payload: bytes) -> Statistics:
    """Read the payload of the answer to STATISTICS."""
    return Statistics._make(_STATISTICS.unpack(payload))
