"""A disk that may lose power: what could be on it after a cut at any instant of some work.

Watches one folder through `os.fsync` and renames. A file that was not synced since it changed may
have its old content, the new, or any part of it; a name that was not synced may be the old or new.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

Names = dict[str, int]
Contents = dict[int, bytes]


class Recorder:
    """Records, for every instant of `work`, what is certain and what is not."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self._folder = folder
        self._names, self._contents = self._look()
        self._states: list[tuple[Names, Names, Contents, Contents]] = []
        real_fsync, real_replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            self._cut()
            real_fsync(descriptor)
            self._synced(Path(f"/proc/self/fd/{descriptor}").resolve())
            self._cut()

        def replace(path: Path, target: Path) -> Path:
            self._cut()
            done = real_replace(path, target)
            self._cut()
            return done

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)

    def after(self, work: Callable[[], object]) -> Iterator[dict[str, bytes]]:
        """Do `work`; then every possible content of the folder, as name to bytes."""
        work()
        self._cut()
        for names, names_now, contents, contents_now in self._states:
            for chosen in (names, names_now):
                possible = [self._versions(contents, contents_now, chosen[n]) for n in chosen]
                for combination in itertools.product(*possible):
                    yield dict(zip(chosen, combination, strict=True))

    def _look(self) -> tuple[Names, Contents]:
        names, contents = {}, {}
        for path in self._folder.iterdir():
            inode = path.stat().st_ino
            names[path.name], contents[inode] = inode, path.read_bytes()
        return names, contents

    def _cut(self) -> None:
        names, contents = self._look()
        self._states.append((dict(self._names), names, dict(self._contents), contents))

    def _synced(self, path: Path) -> None:
        names, contents = self._look()
        if path == self._folder:
            self._names = names
        elif path.parent == self._folder:
            self._contents[names[path.name]] = contents[names[path.name]]

    @staticmethod
    def _versions(old: Contents, new: Contents, inode: int) -> list[bytes]:
        before, now = old.get(inode, b""), new.get(inode, old.get(inode, b""))
        return list({before, now, *((now[: len(now) // 2], b"") if before != now else ())})
