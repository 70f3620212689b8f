"""Tar archives from strangers, read front to back with one meaning only. A leaf.

Plain POSIX ustar: regular files, each name once, every byte of padding zero. What other readers
take for an extension (links, devices, sparse files, pax and GNU headers) is an error here, and so
is anything behind the end. Nothing is ever unpacked under the name that an archive gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

BLOCK = 512
_LONGEST_END = 20 * BLOCK
_PIECE = 1 << 20

_SIZE = re.compile(rb"[0-7]{11}[\0 ]")
_CHECKSUM = re.compile(rb"[0-7]{6}\0 ")


class TarError(ValueError):
    """The archive is not plain, bounded ustar; the message is one line."""


class CutOff(TarError):
    """The archive ends before its end."""


class Source(Protocol):
    """Where an archive is read from: a file that is open for reading, or its like."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, fewer only at the end."""
        ...


class Member(NamedTuple):
    """A file of the archive: its name, a plain relative path, and its size in bytes."""

    name: str
    size: int


class TarReader:
    """Reads `file`, of any size, a member at a time. Every method raises `TarError`."""

    def __init__(self, file: Source, *, most_members: int) -> None:
        self._file = file
        self._most_members = most_members
        self._names: set[str] = set()
        self._left = 0
        self._padding = 0

    def next(self) -> Member | None:
        """The next member, or None after a well formed end; skips what was not read."""
        for _ in self.pieces():
            pass
        header = self._exactly(BLOCK)
        if not any(header):
            self._check_end()
            return None
        member = _member(header)
        if member.name in self._names:
            raise TarError(f"{member.name[:64]!r} stands twice in the archive")
        self._names.add(member.name)
        if len(self._names) > self._most_members:
            raise TarError(f"more than {self._most_members} files in the archive")
        self._left, self._padding = member.size, -member.size % BLOCK
        return member

    def read(self, limit: int) -> bytes:
        """All of the current member, at most `limit` bytes."""
        if self._left > limit:
            raise TarError(f"a file of {self._left} bytes where at most {limit} are allowed")
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """What is left of the current member, in pieces of at most 1 MiB."""
        while self._left:
            piece = self._exactly(min(self._left, _PIECE))
            self._left -= len(piece)
            yield piece
        padding, self._padding = self._padding, 0
        if any(self._exactly(padding)):
            raise TarError("padding that is not zero")

    def _check_end(self) -> None:
        end = self._file.read(_LONGEST_END + 1)
        if len(end) < BLOCK:
            raise CutOff("the archive ends without its two empty blocks")
        if len(end) % BLOCK or any(end):  # one byte more than allowed is no multiple
            raise TarError("there is something behind the end of the archive")

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise CutOff("the archive is cut off")
        return data


def _member(header: bytes) -> Member:
    kind, size, checksum = header[156:157], header[124:136], header[148:156]
    if header[257:265] != b"ustar\x0000":
        raise TarError("not an archive in POSIX ustar form")
    summed = sum(header) - sum(checksum) + 8 * ord(" ")
    if not _CHECKSUM.fullmatch(checksum) or int(checksum[:6], 8) != summed:
        raise TarError("a header whose checksum is wrong")
    if kind != b"0" or any(header[157:257]):
        raise TarError(f"an entry of type {kind!r}; only plain files (b'0') are allowed")
    if not _SIZE.fullmatch(size):
        raise TarError("a file size that is not 11 octal digits")
    name, prefix = _text(header[:100]), _text(header[345:500])
    path = f"{prefix}/{name}" if prefix else name
    if not path.isprintable() or any(part in ("", ".", "..") for part in path.split("/")):
        raise TarError(f"name {path[:64]!r} is not a plain relative path")
    return Member(path, int(size[:11], 8))


def _text(field: bytes) -> str:
    text, _, rest = field.partition(b"\0")
    if any(rest):
        raise TarError("a name with bytes behind its end")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise TarError("a name that is not UTF-8") from None
