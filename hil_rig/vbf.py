"""Versatile Binary Format (Volvo, Ford): a text header, then blocks with address, length and CRC.

vbf_version = 2.4; header { sw_part_number = "…"; … file_checksum = 0x…; }
<address, 4 bytes><length, 4 bytes><bytes><CRC-16, 2 bytes> …      all big-endian
"""

from __future__ import annotations

import re
import zlib
from binascii import crc_hqx
from collections.abc import Iterator
from typing import NamedTuple

MAX_HEADER = 1 << 16
MAX_BLOCKS = 1024

_TOKEN = re.compile(
    rb"""(?P<skip>\s+|//[^\r\n]*|/\*.*?\*/)|(?P<text>"[^"]*")|(?P<mark>[{}=;,])|(?P<word>[\w.+-]+)""",
    re.DOTALL | re.ASCII,
)


class VbfError(ValueError):
    """Not a readable VBF file; the message is one line."""


class Vbf(NamedTuple):
    """`fields`: the header's, as words; `blocks`: address and bytes, in the order of the file."""

    version: str
    fields: dict[str, str]
    blocks: tuple[tuple[int, bytes], ...]


def is_vbf(content: bytes) -> bool:
    """Whether a file begins as VBF does."""
    return content[:64].lstrip().startswith(b"vbf_version")


def parse(content: bytes) -> Vbf:
    """Read a whole file; checks `file_checksum` (CRC-32) and every block's CRC-16.

    Raises `VbfError`, also for blocks that are compressed or encrypted.
    """
    version, fields, end = _header(content)
    method = _number(fields, "data_format_identifier", 0)
    if method != 0:
        raise VbfError(f"data_format_identifier 0x{method:02X}; allowed: 0x00, plain blocks")
    if "file_checksum" not in fields:
        raise VbfError("the header has no file_checksum")
    expected, found = _number(fields, "file_checksum"), zlib.crc32(content[end:])
    if expected != found:
        raise VbfError(f"file_checksum is 0x{expected:08X}, the blocks have 0x{found:08X}")
    return Vbf(version, fields, tuple(_blocks(content, end)))


def _header(content: bytes) -> tuple[str, dict[str, str], int]:
    """Version, fields, and where the first block begins."""
    words: list[str] = []
    fields: dict[str, str] = {}
    version, depth, at = "", 0, 0
    while at < min(len(content), MAX_HEADER):
        token = _TOKEN.match(content, at, MAX_HEADER)
        if token is None:
            raise VbfError(f"header, byte {at}: {content[at : at + 8]!r} is not understood")
        at = token.end()
        word = token.group().decode("latin-1")
        if token.lastgroup == "skip":
            continue
        if word == "{":
            depth += 1
            if depth == 1 and words != ["header"]:
                raise VbfError("'header {' does not follow the version")
            words = words if depth > 1 else []
        elif word == "}":
            depth -= 1
            if depth <= 0:
                break
        elif word == ";" and depth < 2:
            if len(words) < 2 or words[1] != "=":
                raise VbfError(f"header, before byte {at}: 'name = value;' is needed")
            name, value = words[0], " ".join(words[2:])
            if depth == 0:
                version = value if name == "vbf_version" else version
            elif name in fields:
                raise VbfError(f"header: {name!r} stands twice")
            else:
                fields[name] = value
            words = []
        elif word != ",":
            words.append(word.strip('"') if token.lastgroup == "text" else word)
    if depth != 0 or not version or not fields or words:
        raise VbfError(f"the header does not end within {MAX_HEADER} bytes, or is not whole")
    return version, fields, at


def _blocks(content: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    number = 0
    while at < len(content):
        number += 1
        address = int.from_bytes(content[at : at + 4])
        length = int.from_bytes(content[at + 4 : at + 8])
        start, at = at + 8, at + 8 + length + 2
        if at > len(content):
            raise VbfError(f"block {number} is cut off")
        if not length or number > MAX_BLOCKS or address + length > 1 << 32:
            raise VbfError(
                f"block {number}: 0x{address:08X}+0x{length:X}; allowed: at most {MAX_BLOCKS} "
                f"blocks, none empty, within 32 bits"
            )
        data, expected = content[start : start + length], int.from_bytes(content[at - 2 : at])
        if crc_hqx(data, 0xFFFF) != expected:
            raise VbfError(
                f"block {number} at 0x{address:08X}: CRC is 0x{crc_hqx(data, 0xFFFF):04X}, "
                f"the file says 0x{expected:04X}"
            )
        yield address, data
    if not number:
        raise VbfError("no block follows the header")


def _number(fields: dict[str, str], name: str, otherwise: int = 0) -> int:
    text = fields.get(name, str(otherwise))
    try:
        return int(text, 0)
    except ValueError:
        raise VbfError(f"header: {name} = {text[:32]!r} is not a number") from None
