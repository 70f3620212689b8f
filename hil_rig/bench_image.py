"""An image as the bench has to know it: where it goes, and what the controller answers with it.

The controller's bank is seen through one address window. The agent programs what is in the file,
neighbours joined where the hole between them is small, and the controller answers for each piece.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil_rig.firmware import (
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SIZE,
    FirmwareError,
    Image,
    find_descriptor,
    memory_check_expected,
    read_segments,
)

WINDOW = 0x0800_0000
BANK_SIZE = 0x20_0000

_ALIGNMENT = 0x1_0000
_ADDRESSES = 1 << 32


@dataclass(frozen=True, kw_only=True)
class BenchImage:
    """Addresses and sizes in bytes; `version` is what F189 answers once this image runs.

    `rxswin` is None for an image without a software descriptor: F1EF keeps its value then.
    `memory_check` holds the status records of all pieces, one after the other, in hex.
    """

    path: Path
    window: int
    bank_size: int
    pieces: tuple[Image, ...]
    version: str
    rxswin: str | None
    memory_check: str

    @property
    def size(self) -> int:
        """Bytes that are programmed."""
        return sum(len(piece.data) for piece in self.pieces)


def fit(path: Path, *, merge_gap: int, fill: int) -> BenchImage:
    """Choose window and bank for a firmware file, and work out what will be answered.

    `merge_gap` and `fill` are those of the controller profile. Raises `FirmwareError`.
    """
    segments = read_segments(path, WINDOW)
    first, last = segments[0].address, segments[-1].address + len(segments[-1].data)
    if last > _ADDRESSES:
        raise FirmwareError(f"{path}: ends at 0x{last:X}; allowed: addresses of 32 bits")
    window = WINDOW if first >= WINDOW and last <= WINDOW + BANK_SIZE else _down(first)
    bank_size = max(BANK_SIZE, _down(last - window + _ALIGNMENT - 1))
    window = min(window, _ADDRESSES - bank_size)
    pieces = join(segments, merge_gap=merge_gap, fill=fill)
    descriptor = find_descriptor(_head(pieces, window))
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece.data, crc)
    return BenchImage(
        path=path,
        window=window,
        bank_size=bank_size,
        pieces=pieces,
        version=descriptor.version if descriptor else f"crc32:{crc:08x}",
        rxswin=descriptor.rxswin if descriptor else None,
        memory_check="".join(memory_check_expected(piece.data) for piece in pieces),
    )


def join(segments: Sequence[Image], *, merge_gap: int, fill: int) -> tuple[Image, ...]:
    """Segments by rising address, neighbours joined across holes of at most `merge_gap` bytes."""
    joined: list[Image] = []
    for segment in segments:
        if joined:
            before = joined[-1]
            hole = segment.address - before.address - len(before.data)
            if hole <= merge_gap:
                joined[-1] = Image(
                    before.address, before.data + bytes([fill]) * hole + segment.data
                )
                continue
        joined.append(segment)
    return tuple(joined)


def _head(pieces: Sequence[Image], window: int) -> bytes:
    """The first bytes of the bank, as far as a descriptor can reach."""
    head = bytearray(b"\xff" * (DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE))
    for address, data in pieces:
        start = address - window
        if start < len(head):
            head[start : start + len(data)] = data[: len(head) - start]
    return bytes(head[: DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE])


def _down(address: int) -> int:
    return address - address % _ALIGNMENT
