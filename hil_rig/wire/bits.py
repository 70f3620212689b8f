"""Exact lengths of frames: every bit from start of frame to the end of the intermission.

Frames are laid out as ISO 11898-1:2015 says (CAN FD in its ISO form). Dynamic stuff bits are
counted from the actual bits. A classic frame's CRC is computed because it is stuffed too; a CAN FD
frame's CRC field has its stuff bits at fixed places: its length does not depend on the CRC's value.

The rate switches at the sample points of BRS and of the CRC delimiter. With the same sample point
at both rates the two split bits make exactly one nominal and one data bit together: BRS counts as
nominal here, the CRC delimiter as data.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from hil_rig.wire.frame import FD_LENGTHS, Frame

_CRC15 = 0x4599
_ACK_EOF_INTERMISSION = 2 + 7 + 3
_CRC_DELIMITER = 1
_FD_CRC17_FIELD = 4 + 17 + 6  # stuff count, CRC, fixed stuff bits
_FD_CRC21_FIELD = 4 + 21 + 7
_LONGEST_WITH_CRC17 = 16


class FrameBits(NamedTuple):
    """Length of a frame in bits, by the rate at which they are sent."""

    nominal: int
    data: int


class Rates(NamedTuple):
    """Bit rates of a bus in bit/s; `data` is used between BRS and CRC delimiter of FD frames."""

    nominal: int = 500_000
    data: int = 2_000_000

    def duration_ns(self, bits: FrameBits) -> int:
        """Time that `bits` take: exact where a bit is whole nanoseconds, else to the nearest."""
        return _nearest_ns(bits.nominal, self.nominal) + _nearest_ns(bits.data, self.data)


def _nearest_ns(bits: int, rate: int) -> int:
    return (bits * 1_000_000_000 + rate // 2) // rate


class _Row:
    """Where bit stuffing stands behind some byte, and what comes of each possible next byte."""

    __slots__ = ("after", "stuffed", "stuffs_last")

    def __init__(self, after: list[_Row], stuffed: int, stuffs_last: bool) -> None:
        self.after = after
        self.stuffed = stuffed
        self.stuffs_last = stuffs_last


class _Stuffing(NamedTuple):
    """Last bit on the wire, how many equal ones stand there, and what this stretch inserted."""

    bit: int
    run: int
    stuffed: int = 0
    stuffs_last: bool = False

    def over(self, bits: Iterable[int]) -> _Stuffing:
        """Send `bits`: after five equal ones a complement follows and begins the next run."""
        bit, run, stuffed, stuffs_last = self.bit, self.run, 0, False
        for sent in bits:
            run = run + 1 if sent == bit else 1
            bit = sent
            stuffs_last = run == 5
            if stuffs_last:
                bit, run, stuffed = 1 - bit, 1, stuffed + 1
        return _Stuffing(bit, run, stuffed, stuffs_last)


def _bits_of(value: int, width: int) -> list[int]:
    return [value >> place & 1 for place in reversed(range(width))]


def _stuffing_rows() -> dict[_Stuffing, _Row]:
    after: dict[tuple[int, int], list[_Row]] = {
        (bit, run): [] for bit in (0, 1) for run in (1, 2, 3, 4)
    }
    rows = {
        _Stuffing(bit, run, stuffed, last): _Row(after[bit, run], stuffed, last)
        for bit, run in after
        for stuffed in (0, 1, 2)
        for last in (False, True)
    }
    for (bit, run), successors in after.items():
        for octet in range(256):
            successors.append(rows[_Stuffing(bit, run).over(_bits_of(octet, 8))])
    return rows


def _crc15_over(crc: int, bits: Iterable[int]) -> int:
    for bit in bits:
        feedback = crc >> 14 ^ bit
        crc = crc << 1 & 0x7FFF ^ (_CRC15 if feedback else 0)
    return crc


_ROWS = _stuffing_rows()
_CRC15_OF_BYTE = tuple(_crc15_over(0, _bits_of(octet, 8)) for octet in range(256))


class _Header(NamedTuple):
    """Start of frame to DLC: bits with their stuff bits, by rate, and what goes on behind them."""

    nominal: int
    data: int
    row: _Row
    crc: int


_Shape = tuple[int, bool, bool, bool, bool, bool, int]  # id, extended, remote, FD, BRS, ESI, DLC


@lru_cache(maxsize=4096)
def _header(shape: _Shape) -> _Header:
    frame_id, extended, remote, fd, brs, esi, dlc = shape
    if extended:
        bits = [0, *_bits_of(frame_id >> 18, 11), 1, 1, *_bits_of(frame_id & 0x3FFFF, 18), remote]
        bits += [1, 0, brs] if fd else [0, 0]
    else:
        bits = [0, *_bits_of(frame_id, 11), remote, 0]
        bits += [1, 0, brs] if fd else [0]
    rest = ([esi] if fd else []) + _bits_of(dlc, 4)
    before = _Stuffing(bit=1, run=0).over(bits)
    behind = before.over(rest)
    first, second = len(bits) + before.stuffed, len(rest) + behind.stuffed
    nominal, data = (first, second) if brs else (first + second, 0)
    return _Header(nominal, data, _ROWS[behind._replace(stuffed=0)], _crc15_over(0, [*bits, *rest]))


def frame_bits(frame: Frame) -> FrameBits:
    """Count the bits of `frame`, ACK, end of frame and the three bits of intermission included.

    `frame` must be a good one (`Frame.flaw()` is None).
    """
    frame_id, data, extended, fd, brs, esi, remote, requested = frame
    if not fd:
        header = _header((frame_id, extended, remote, False, False, False, len(data) or requested))
        return FrameBits(_classic(header, data), 0)
    dlc = FD_LENGTHS.index(len(data))
    header = _header((frame_id, extended, False, True, brs, esi, dlc))
    row, stuffed = header.row, 0
    for octet in data:
        row = row.after[octet]
        stuffed += row.stuffed
    # A stuff bit due behind the last data bit is the CRC field's first fixed stuff bit.
    stuffed -= row.stuffs_last
    field = _FD_CRC17_FIELD if len(data) <= _LONGEST_WITH_CRC17 else _FD_CRC21_FIELD
    body = 8 * len(data) + stuffed + field + _CRC_DELIMITER
    if brs:
        return FrameBits(header.nominal + _ACK_EOF_INTERMISSION, header.data + body)
    return FrameBits(header.nominal + body + _ACK_EOF_INTERMISSION, 0)


def _classic(header: _Header, data: bytes) -> int:
    row, crc, stuffed = header.row, header.crc, 0
    for octet in data:
        row = row.after[octet]
        stuffed += row.stuffed
        crc = crc << 8 & 0x7FFF ^ _CRC15_OF_BYTE[crc >> 7 ^ octet]
    # The sixteenth bit only fills the byte: a complement of the CRC's last bit stuffs nothing.
    filled = crc << 1 | ~crc & 1
    row = row.after[filled >> 8]
    stuffed += row.stuffed + row.after[filled & 0xFF].stuffed
    return header.nominal + 8 * len(data) + 15 + stuffed + _CRC_DELIMITER + _ACK_EOF_INTERMISSION
