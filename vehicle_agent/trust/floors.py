"""Numbers that never go down: time floor, release counters, report counter.

They live apart from the journal, so that a lost or restored journal lowers none of them. A file
now; a TPM or RPMB counter can take its place behind the same protocol.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Protocol

from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import digest, parse_object


class MonotonicStore(Protocol):
    """Named whole numbers; a name never raised is 0. Any thread may call."""

    def get(self, name: str) -> int:
        """The number under `name`."""
        ...

    def raise_to(self, name: str, value: int) -> int:
        """Raise `name` to at least `value`, durably; returns what stands there now."""
        ...


class FileMonotonicStore:
    """Two copies of one small JSON file with its digest; a damaged copy is made good by the other.

    Raises Refused(JOURNAL_DAMAGED) if copies are there and none of them is readable: starting again
    from 0 would open the way for old releases.
    """

    def __init__(self, path: Path) -> None:
        """`path` is the first copy, `<path>.copy` the second, `<path>.lock` keeps writers apart."""
        self._paths = (path, path.with_name(f"{path.name}.copy"))
        self._lock_path = path.with_name(f"{path.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._values: dict[str, int] = {}
        self._writing = Lock()
        with self._alone():
            self._take_what_is_there()

    def get(self, name: str) -> int:
        """The number under `name`; 0 if it was never raised."""
        return self._values.get(name, 0)

    def raise_to(self, name: str, value: int) -> int:
        """Raise `name` to at least `value`; on return it is on the disk. Raises OSError.

        What another process (`vehicle-agent doctor`) has raised meanwhile stays raised.
        """
        if value <= self.get(name):
            return self.get(name)
        with self._alone():
            self._take_what_is_there()
            if value <= self.get(name):
                return self.get(name)
            values = {**self._values, name: value}
            content = {"floors": values, "sha256": digest(values)}
            for path in self._paths:
                write_durably(path, json.dumps(content, sort_keys=True).encode())
            self._values = values
        return value

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from writing: between their reading and writing back,
        what we raise would be lowered again."""
        with self._writing:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)

    def _take_what_is_there(self) -> None:
        present = [copy for copy in self._paths if copy.exists()]
        readable = [values for copy in present if (values := _read(copy)) is not None]
        if present and not readable:
            raise Refused(
                Code.JOURNAL_DAMAGED,
                f"{self._paths[0]}: both copies of the trust floors are unreadable",
            )
        known = dict(self._values)
        for values in readable:
            for name, value in values.items():
                known[name] = max(value, known.get(name, 0))
        self._values = known


def _read(path: Path) -> dict[str, int] | None:
    try:
        document = parse_object(path.read_bytes())
        values = document["floors"]
        if document["sha256"] != digest(values):
            return None
        return {name: int(value) for name, value in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
