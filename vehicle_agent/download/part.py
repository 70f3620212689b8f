"""A file that arrives: the part that is there, its digests, and its final name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path

from vehicle_agent.durable import sync_folder
from vehicle_agent.refusals import Code, Refused

ALGORITHMS = ("sha256", "sha512")

_READ = 1 << 20
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


class DiskError(Exception):
    """There is no room for what is to be written."""


class TooLong(Exception):
    """More comes than was announced."""


class Digests:
    """Every digest that was signed for one object, running."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        """`wanted`: algorithm to hex digest; those of ALGORITHMS count, and one is needed.

        Raises Refused(TARGET_HASH_MISMATCH) if there is none.
        """
        self._wanted = wanted
        self._running = [hashlib.new(name) for name in ALGORITHMS if name in wanted]
        if not self._running:
            raise Refused(
                Code.TARGET_HASH_MISMATCH,
                f"signed hashes {sorted(wanted)}, needed is one of {', '.join(ALGORITHMS)}",
            )

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes in."""
        for running in self._running:
            running.update(chunk)

    def wrong(self) -> list[str]:
        """The algorithms whose digest is not the signed one."""
        return [each.name for each in self._running if each.hexdigest() != self._wanted[each.name]]


class Part:
    """`<destination>.part`, and beside it the ETag of the object that it is a part of.

    OSError of the disk comes out as DiskError.
    """

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._etag = destination.with_name(f"{destination.name}.etag")
        self.was_resumed = False

    def resume(
        self, length: int, digests: Digests, on_read: Callable[[int], None]
    ) -> tuple[int, str]:
        """Take in what is there: its size and ETag; (0, "") if there is nothing to go on from."""
        etag = self._etag.read_text("ascii", "replace") if self._etag.exists() else ""
        there = self.path.stat().st_size if etag and self.path.exists() else 0
        self.was_resumed = 0 < there <= length
        if not self.was_resumed:
            return 0, ""
        return hash_file(self.path, digests, on_read), etag

    def begin(self, etag: str) -> None:
        """Start anew. Only a strong ETag lets a later request resume this object."""
        self.was_resumed = False
        try:
            self.remove()
            self.path.touch(0o600)
            if _STRONG_ETAG.fullmatch(etag):
                self._etag.write_text(etag, "ascii")
        except OSError as error:
            raise DiskError(error.strerror) from None

    def need_room(self, size: int) -> None:
        """Raise DiskError unless `size` bytes are free."""
        free = shutil.disk_usage(self.path.parent).free
        if free < size:
            raise DiskError(f"{free} bytes free, {size} needed")

    def store(
        self,
        chunks: Iterable[bytes],
        there: int,
        length: int,
        digests: Digests,
        on_written: Callable[[int], None],
    ) -> int:
        """Append `chunks` to the `there` bytes; returns the new size, synced.

        Raises TooLong, before anything beyond `length` is written.
        """
        with FileIO(self.path, "ab") as file:
            for chunk in chunks:
                if there + len(chunk) > length:
                    raise TooLong
                _write(file, chunk)
                digests.update(chunk)
                there += len(chunk)
                on_written(there)
            _sync(file)
        return there

    def remove(self) -> None:
        """Forget what was fetched so far."""
        self._etag.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the synced part its name; on return that name has reached the disk."""
        try:
            self.path.replace(destination)
            sync_folder(destination.parent)
            self._etag.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(error.strerror) from None


def hash_file(path: Path, digests: Digests, on_read: Callable[[int], None]) -> int:
    """Feed the file to `digests`; returns its size. `on_read` hears the size of each piece."""
    size = 0
    buffer = memoryview(bytearray(_READ))
    with FileIO(path) as file:
        while count := file.readinto(buffer):
            digests.update(buffer[:count])
            size += count
            on_read(count)
    return size


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise DiskError(error.strerror) from None


def _sync(file: FileIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise DiskError(error.strerror) from None
