"""What an ELF file puts into memory, from its program and section headers alone.

Firmware is often stripped so that symbol and hash sections point nowhere. Those are not looked at.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

MAGIC = b"\x7fELF"

_MAX_SEGMENTS = 64
_MAX_SECTIONS = 4096
_PT_LOAD = 1
_SHT_NOBITS = 8
_SHF_ALLOC = 2


class _Layout(NamedTuple):
    """Formats of the 32- and 64-bit headers, and where the wanted fields stand in them."""

    header: str
    segment: str
    segment_fields: tuple[int, int, int, int]  # type, offset, physical address, size in the file
    section: str
    section_fields: tuple[int, int, int, int]  # type, flags, offset, size


_LAYOUTS = {
    1: _Layout("16xHHIIIIIHHHHHH", "8I", (0, 1, 3, 4), "10I", (1, 2, 4, 5)),
    2: _Layout("16xHHIQQQIHHHHHH", "2I6Q", (0, 2, 4, 5), "2I4Q2I2Q", (1, 2, 4, 5)),
}
_ORDERS = {1: "<", 2: ">"}


def loaded(content: bytes, capacity: int) -> list[tuple[int, bytes]]:
    """Physical address and bytes of what is loaded, by rising address, at most `capacity` bytes.

    As objcopy does: the allocated sections of each PT_LOAD segment; the whole segment where the
    file has no section headers. Raises ValueError for a file that is broken or loads more.
    """
    try:
        layout, order = _LAYOUTS[content[4]], _ORDERS[content[5]]
        fields = struct.unpack_from(order + layout.header, content)
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError("the header is cut off or of unknown class") from error
    at, sections_at, size, count, section_size, section_count = fields[4], fields[5], *fields[8:12]
    if count > _MAX_SEGMENTS or section_count > _MAX_SECTIONS:
        raise ValueError("more program or section headers than a firmware has")
    segments = _table(content, order + layout.segment, at, size, count)
    sections = _table(content, order + layout.section, sections_at, section_size, section_count)
    pieces: list[tuple[int, bytes]] = []
    total = 0
    for segment in segments:
        kind, offset, address, length = (segment[field] for field in layout.segment_fields)
        if kind != _PT_LOAD:
            continue
        for start, size in _parts(sections, layout, offset, length):
            total += size
            if start + size > len(content) or total > capacity:
                raise ValueError(f"loads bytes that are not there, or more than {capacity}")
            pieces.append((address + start - offset, content[start : start + size]))
    pieces.sort()
    for (address, data), (following, _) in pairwise(pieces):
        if address + len(data) > following:
            raise ValueError(f"two segments load 0x{following:08X}")
    return pieces


def _parts(
    sections: list[tuple[int, ...]], layout: _Layout, offset: int, length: int
) -> list[tuple[int, int]]:
    """Offset and size in the file of what one segment loads."""
    if not sections:
        return [(offset, length)] if length else []
    parts = []
    for section in sections:
        kind, flags, start, size = (section[field] for field in layout.section_fields)
        inside = offset <= start and start + size <= offset + length
        if size and inside and flags & _SHF_ALLOC and kind != _SHT_NOBITS:
            parts.append((start, size))
    return parts


def _table(content: bytes, form: str, at: int, size: int, count: int) -> list[tuple[int, ...]]:
    try:
        return [struct.unpack_from(form, content, at + index * size) for index in range(count)]
    except struct.error as error:
        raise ValueError("a header table is cut off") from error
