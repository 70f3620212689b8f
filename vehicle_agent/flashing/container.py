"""Container targets: several logical blocks for one controller, in one uncompressed tar.

`blocks.json` comes first and lists the blocks in the order in which they are programmed; the files
`blocks/<name>` follow in that order. `docs/containers.md` has the format. The container as a whole
is covered by the hash that the Image repository signs. A block's own signature is for the
controller's bootloader: here only its form is checked.
"""

from __future__ import annotations

import io
import zlib
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from vehicle_agent.strict_json import parse_object
from vehicle_agent.strict_tar import TarReader

INDEX = "blocks.json"
MAX_BLOCKS = 64
MAX_INDEX = 1 << 18
"""Bytes of the largest `blocks.json`."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Signature(_Object, frozen=True, kw_only=True):
    """Ed25519 over address (4 bytes), length (4 bytes), both big-endian, and the block's bytes."""

    keyid: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    method: Literal["ed25519"]
    sig: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Entry(_Object, frozen=True, kw_only=True, rename="camel"):
    """One block in `blocks.json`; `depends_on` names blocks that are programmed before it."""

    name: Name
    address: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    length: Annotated[int, Meta(ge=1, le=1 << 28)]
    crc32: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    compression: Literal["none"] = "none"
    depends_on: Annotated[tuple[Name, ...], Meta(max_length=MAX_BLOCKS)] = ()
    signature: Signature | None = None


class Index(_Object, frozen=True, kw_only=True, rename="camel"):
    """The content of `blocks.json`."""

    format: Literal["vehicle-agent-container"]
    format_version: Literal[1]
    blocks: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=MAX_BLOCKS)]


class Block(NamedTuple):
    """A logical block: what `blocks.json` says of it, and its bytes."""

    entry: Entry
    data: bytes


def is_container(content: bytes) -> bool:
    """Whether these bytes are a tar, of whatever kind: then they are never a plain binary."""
    return content.startswith(INDEX.encode() + b"\0") or content[257:262] == b"ustar"


def parse(content: bytes) -> tuple[Block, ...]:
    """The blocks in the order in which they are programmed.

    Raises ValueError, with one line, for a tar that is not plain, an index that does not fit it, a
    wrong CRC, a dependency on a block that does not come before, or blocks that overlap.
    """
    archive = TarReader(io.BytesIO(content), most_members=1 + MAX_BLOCKS)
    first = archive.next()
    if first is None or first.name != INDEX:
        raise ValueError(f"{INDEX!r} has to come first")
    index = msgspec.convert(parse_object(archive.read(MAX_INDEX)), Index)
    _check_order(index.blocks)
    _check_overlap(index.blocks)
    blocks = []
    for entry in index.blocks:
        member = archive.next()
        found = "the end" if member is None else f"{member.name[:64]!r} of {member.size} bytes"
        if member is None or member != (f"blocks/{entry.name}", entry.length):
            raise ValueError(
                f"{found} where block {entry.name!r} of {entry.length} bytes has to stand"
            )
        data = archive.read(entry.length)
        if zlib.crc32(data) != int(entry.crc32, 16):
            raise ValueError(
                f"block {entry.name!r}: CRC is {zlib.crc32(data):08x}, {INDEX} says {entry.crc32}"
            )
        blocks.append(Block(entry, data))
    if (member := archive.next()) is not None:
        raise ValueError(f"{member.name[:64]!r} is not listed in {INDEX}")
    return tuple(blocks)


def _check_order(entries: tuple[Entry, ...]) -> None:
    """Each name once; whatever a block depends on stands before it, so that no circle is left."""
    names = {entry.name for entry in entries}
    before: set[str] = set()
    for entry in entries:
        for needed in entry.depends_on:
            if needed not in names:
                raise ValueError(f"block {entry.name!r} depends on {needed!r}, which is missing")
            if needed not in before:
                raise ValueError(f"block {entry.name!r} depends on {needed!r}, which is not before")
        if entry.name in before:
            raise ValueError(f"block {entry.name!r} is listed twice")
        before.add(entry.name)


def _check_overlap(entries: tuple[Entry, ...]) -> None:
    for one, other in pairwise(sorted(entries, key=lambda entry: entry.address)):
        if one.address + one.length > other.address:
            raise ValueError(f"blocks {one.name!r} and {other.name!r} overlap")
