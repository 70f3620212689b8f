"""Firmware files as segments of memory: container, Intel HEX, S-record, ELF, or plain binary."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import bincopy

from vehicle_agent.flashing import container, elf
from vehicle_agent.flashing.profile import ControllerProfile
from vehicle_agent.refusals import Code, Refused

MAX_FILE = 1 << 27
"""Bytes of the largest file that is read at all."""

_HEX_LINE = re.compile(rb":[0-9A-Fa-f]{10,522}\r?(\n|\Z)")
_SREC_LINE = re.compile(rb"S[0-9][0-9A-Fa-f]{6,514}\r?(\n|\Z)")
_HEX_END = re.compile(rb"^:00[0-9A-Fa-f]{4}01FF\r?$", re.IGNORECASE | re.MULTILINE)


class Segment(NamedTuple):
    """Bytes without a hole, and the address of the first."""

    address: int
    data: bytes


class Image(NamedTuple):
    """Segments in the order in which they are programmed, without overlap.

    Those of a container are its blocks in their own order, else they stand by rising address.
    """

    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Bytes to be programmed."""
        return sum(len(segment.data) for segment in self.segments)


def load_image(path: Path, profile: ControllerProfile, *, sha256: str | None = None) -> Image:
    """Read a firmware file; its content alone decides the format.

    A plain binary stands at the start of the profile's first memory window. Holes up to
    `merge_gap` are filled, except between the blocks of a container. With `sha256` (hex) the very
    bytes that are parsed must have that digest. Raises Refused: IMAGE_UNREADABLE,
    TARGET_HASH_MISMATCH, or IMAGE_OUTSIDE_MEMORY where a byte lies outside the memory map.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Refused(Code.IMAGE_UNREADABLE, f"{path.name}: {error.strerror}") from error
    if not content:
        raise Refused(Code.IMAGE_UNREADABLE, f"{path.name}: empty")
    if len(content) > MAX_FILE:
        raise Refused(Code.IMAGE_UNREADABLE, f"{path.name}: more than {MAX_FILE} bytes")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise Refused(Code.TARGET_HASH_MISMATCH, f"{path.name}: not the bytes that were signed")
    segments = _parse(path.name, content, profile)
    if not container.is_container(content):
        segments = _merged(segments, profile)
    image = Image(tuple(segments))
    if not image.segments:
        raise Refused(Code.IMAGE_UNREADABLE, f"{path.name}: holds no data")
    for segment in image.segments:
        if not any(w.holds(segment.address, len(segment.data)) for w in profile.memory):
            windows = ", ".join(f"0x{w.start:08X}+0x{w.length:X}" for w in profile.memory)
            raise Refused(
                Code.IMAGE_OUTSIDE_MEMORY,
                f"{path.name}: 0x{segment.address:08X}+0x{len(segment.data):X}, "
                f"allowed {windows} (profile {profile.name})",
            )
    return image


def _parse(name: str, content: bytes, profile: ControllerProfile) -> list[Segment]:
    binary: Any = bincopy.BinFile()  # type: ignore[no-untyped-call]
    try:
        if container.is_container(content):
            kind = "container"
            return [Segment(entry.address, data) for entry, data in container.parse(content)]
        if content.startswith(elf.MAGIC):
            kind = "ELF"
            return [Segment(*piece) for piece in elf.loaded(content, len(content))]
        if _HEX_LINE.match(content):
            kind = "Intel HEX"
            if not _HEX_END.search(content):
                raise ValueError("the end record is missing")
            binary.add_ihex(content.decode("ascii"))
        elif _SREC_LINE.match(content):
            kind = "S-record"
            binary.add_srec(content.decode("ascii"))
        else:
            return [Segment(profile.memory[0].start, content)]
    except Exception as error:  # the parser's own errors are of many types
        raise Refused(Code.IMAGE_UNREADABLE, f"{name}: broken {kind}: {error}") from error
    return [Segment(segment.address, bytes(segment.data)) for segment in binary.segments]


def _merged(segments: list[Segment], profile: ControllerProfile) -> list[Segment]:
    """Neighbours of one memory window joined where the hole is at most `merge_gap`."""
    runs: list[tuple[int, bytearray]] = []
    for segment in sorted(segments):
        if runs:
            address, data = runs[-1]
            hole = segment.address - address - len(data)
            span = segment.address + len(segment.data) - address
            if 0 <= hole <= profile.merge_gap and any(
                window.holds(address, span) for window in profile.memory
            ):
                data += bytes((profile.fill,)) * hole + segment.data
                continue
        runs.append((segment.address, bytearray(segment.data)))
    return [Segment(address, bytes(data)) for address, data in runs]
