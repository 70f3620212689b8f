"""Container targets: several logical blocks in one tar. `docs/containers.md` has the format."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

INDEX = "blocks.json"
MAX_BLOCKS = 64
MAX_FILE = 1 << 27

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ContainerError(Exception):
    """A container cannot be made or read; the message is one line."""


class Block(NamedTuple):
    """A logical block; `depends_on` names blocks to be programmed before it."""

    name: str
    address: int
    data: bytes
    depends_on: tuple[str, ...] = ()


def make_container(blocks: Iterable[Block], key: Ed25519PrivateKey | None = None) -> bytes:
    """The container's bytes, blocks in an order that fits their dependencies; signed with `key`.

    Raises `ContainerError` for names, dependencies or places that do not fit.
    """
    ordered = in_order(list(blocks))
    index = {
        "format": "vehicle-agent-container",
        "formatVersion": 1,
        "blocks": [_entry(block, key) for block in ordered],
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, INDEX, json.dumps(index, indent=1).encode())
        for block in ordered:
            _add(archive, f"blocks/{block.name}", block.data)
    if len(out.getvalue()) > MAX_FILE:
        raise ContainerError(f"{len(out.getvalue())} bytes; allowed: {MAX_FILE}")
    return out.getvalue()


def memory_check_expected(container: bytes) -> str:
    """`memoryCheck.expected` of a container for the rig's controller: a record for each block."""
    _, blocks = read_container(container)
    return "".join("00" + hashlib.sha256(block.data).hexdigest() for block in blocks)


def in_order(blocks: list[Block]) -> list[Block]:
    """`blocks` as they stand, but each after those it depends on. Raises `ContainerError`."""
    names = [block.name for block in blocks]
    if not 1 <= len(blocks) <= MAX_BLOCKS:
        raise ContainerError(f"{len(blocks)} blocks; allowed: 1 to {MAX_BLOCKS}")
    for block in blocks:
        if not _NAME.fullmatch(block.name) or names.count(block.name) > 1:
            raise ContainerError(
                f"block name {block.name[:64]!r}; allowed: letters, digits, '.', '_', '-', "
                f"at most 64, each name once"
            )
        if missing := set(block.depends_on) - set(names):
            raise ContainerError(f"{block.name!r} depends on {min(missing)!r}, which is missing")
        if not block.data or block.address + len(block.data) > 1 << 32:
            raise ContainerError(f"block {block.name!r} is empty or lies outside of 32 bits")
    by_address = sorted(blocks, key=lambda block: block.address)
    for one, other in pairwise(by_address):
        if one.address + len(one.data) > other.address:
            raise ContainerError(f"blocks {one.name!r} and {other.name!r} overlap")
    ordered: list[Block] = []
    while len(ordered) < len(blocks):
        done = {block.name for block in ordered}
        ready = [b for b in blocks if b.name not in done and done.issuperset(b.depends_on)]
        if not ready:
            circle = ", ".join(name for name in names if name not in done)
            raise ContainerError(f"blocks that depend on each other in a circle: {circle}")
        ordered.append(ready[0])
    return ordered


def read_container(content: bytes) -> tuple[dict[str, Any], list[Block]]:
    """`blocks.json` and the blocks; raises `ContainerError` unless they fit each other."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = archive.getmembers()
            files = [archive.extractfile(member) for member in members]
            contents = [file.read() for file in files if file is not None]
        names = [member.name for member in members]
        index = json.loads(contents[0])
        expected = [INDEX, *(f"blocks/{entry['name']}" for entry in index["blocks"])]
        if names != expected or len(contents) != len(names):
            raise ContainerError(f"holds {names}, {INDEX} asks for {expected}")
        blocks = [
            Block(entry["name"], entry["address"], data, tuple(entry.get("dependsOn", ())))
            for entry, data in zip(index["blocks"], contents[1:], strict=True)
        ]
        for entry, block in zip(index["blocks"], blocks, strict=True):
            if (entry["length"], int(entry["crc32"], 16)) != _size_and_crc(block.data):
                raise ContainerError(f"block {block.name!r}: length or CRC is wrong")
    except (tarfile.TarError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ContainerError(f"not a container: {what}") from None
    return index, blocks


def describe(content: bytes) -> dict[str, Any]:
    """What `show` tells: digest, `memoryCheck` for the rig's controller, and the blocks."""
    index, _ = read_container(content)
    return {
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "memoryCheck": memory_check_expected(content),
        "blocks": index["blocks"],
    }


def _size_and_crc(data: bytes) -> tuple[int, int]:
    return len(data), zlib.crc32(data)


def _entry(block: Block, key: Ed25519PrivateKey | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": block.name,
        "address": block.address,
        "length": len(block.data),
        "crc32": f"{zlib.crc32(block.data):08x}",
        "compression": "none",
        "dependsOn": list(block.depends_on),
    }
    if key is not None:
        place = block.address.to_bytes(4) + len(block.data).to_bytes(4)
        entry["signature"] = {
            "keyid": CryptoSigner(key).public_key.keyid,
            "method": "ed25519",
            "sig": key.sign(place + block.data).hex(),
        }
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
