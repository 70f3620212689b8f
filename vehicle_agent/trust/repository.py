"""One repository's chain of trust: root, timestamp, snapshot, targets. Pure: no I/O, no clock.

The client workflow of the TUF specification (5.3 to 5.6), which Uptane's full verification applies
to Director and Image repository alike. Whoever drives it fetches the files in that order:

    rotate_root(...)*, close_root(now), accept_timestamp, accept_snapshot, accept_targets

What stands in `accepted` afterwards (role to bytes) is what may be stored. A stored file counts
only if the *current* root's keys signed it: after a rotation, versions that a thief of the
old keys drove up are forgotten (fast-forward recovery).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.metadata import (
    Parsed,
    T,
    check_described,
    parse,
    verification_result,
    verify,
)

_TARGETS_FILE = "targets.json"


class RepositoryTrust:
    """What is trusted of one repository, and the rules by which that moves forward."""

    def __init__(self, name: str, stored: Mapping[str, bytes]) -> None:
        """Start from `stored` (role name to file); `root` has to be there, the others may.

        Raises Refused if the stored root is not a root signed by itself.
        """
        self.name = name
        self.accepted: dict[str, bytes] = {}
        self.targets_signed_by: tuple[str, ...] = ()
        self._stored = dict(stored)
        self._root = parse(f"{name} root", Root, stored["root"])
        verify(self._root, self._root.signed, "root")
        self._now: datetime | None = None
        self._timestamp: Timestamp | None = None
        self._snapshot: Snapshot | None = None
        self._targets: Targets | None = None

    @property
    def next_root(self) -> int:
        """The version of the root file to ask for next."""
        return self._root.signed.version + 1

    @property
    def targets(self) -> Targets:
        """The verified top-level targets role; only after `accept_targets`."""
        return _done(self._targets, "accept_targets")

    def rotate_root(self, data: bytes) -> None:
        """Take the next root, signed by the thresholds of the old and of itself (TUF 5.3).

        Raises Refused: ROOT_ROTATION_ERROR, or what `parse` raises.
        """
        new = parse(f"{self.name} {self.next_root}.root", Root, data)
        if new.signed.version != self.next_root:
            raise Refused(
                Code.ROOT_ROTATION_ERROR,
                f"{new.where}: version {new.signed.version}, {self.next_root} is needed",
            )
        for words, root in (("old", self._root.signed), ("new", new.signed)):
            result = verification_result(new, root, "root")
            if not result:
                raise Refused(
                    Code.ROOT_ROTATION_ERROR,
                    f"{new.where}: signed by {len(result.signed)} keys of the {words} root, "
                    f"{result.threshold} are needed",
                )
        self._root = new
        self.accepted["root"] = data

    def close_root(self, now: datetime) -> None:
        """End the rotation. Only the last root's expiry matters; `now` is trusted time (UTC).

        Raises Refused(EXPIRED_METADATA).
        """
        self._check_expiry(self._root, now)
        self._now = now

    def accept_timestamp(self, data: bytes) -> None:
        """TUF 5.4. An equal version is no news: the stored file stays.

        Raises Refused: UNMET_THRESHOLD, VERSION_MISMATCH, EXPIRED_METADATA, or as `parse`.
        """
        now = _done(self._now, "close_root")
        new = parse(f"{self.name} timestamp", Timestamp, data)
        verify(new, self._root.signed, "timestamp")
        old = self._trusted("timestamp", Timestamp)
        if old is not None:
            _not_lower(new.where, new.signed.version, old.signed.version)
            if new.signed.version == old.signed.version:
                new = old
            _not_lower(
                f"{new.where}, snapshot",
                new.signed.snapshot_meta.version,
                old.signed.snapshot_meta.version,
            )
        self._check_expiry(new, now)
        self._timestamp = new.signed
        self.accepted["timestamp"] = new.data

    def accept_snapshot(self, data: bytes) -> None:
        """TUF 5.5. Raises Refused as `accept_timestamp`."""
        now = _done(self._now, "close_root")
        meta = _done(self._timestamp, "accept_timestamp").snapshot_meta
        new = self._child("snapshot", Snapshot, data, meta)
        old = self._trusted("snapshot", Snapshot)
        for name, known in (old.signed.meta if old is not None else {}).items():
            offered = new.signed.meta.get(name)
            if offered is None:
                raise Refused(Code.VERSION_MISMATCH, f"{new.where}: {name[:64]!r} has gone")
            _not_lower(f"{new.where}, {name[:64]}", offered.version, known.version)
        if _TARGETS_FILE not in new.signed.meta:
            raise Refused(Code.METADATA_MALFORMED, f"{new.where}: {_TARGETS_FILE!r} is missing")
        self._check_expiry(new, now)
        self._snapshot = new.signed
        self.accepted["snapshot"] = data

    def accept_targets(self, data: bytes) -> None:
        """TUF 5.6, top level. Raises Refused as `accept_timestamp`."""
        now = _done(self._now, "close_root")
        meta = _done(self._snapshot, "accept_snapshot").meta[_TARGETS_FILE]
        new = self._child("targets", Targets, data, meta)
        old = self._trusted("targets", Targets)
        if old is not None:
            _not_lower(new.where, new.signed.version, old.signed.version)
        self._check_expiry(new, now)
        self._targets = new.signed
        self.targets_signed_by = verify(new, self._root.signed, "targets")
        self.accepted["targets"] = data

    def limit(self, role: str, otherwise: int) -> int:
        """The length in bytes that the parent names for `role`, else `otherwise`."""
        if role == "snapshot":
            meta = _done(self._timestamp, "accept_timestamp").snapshot_meta
        else:
            meta = _done(self._snapshot, "accept_snapshot").meta[_TARGETS_FILE]
        return otherwise if meta.length is None else min(meta.length, otherwise)

    def _child(self, role: str, kind: type[T], data: bytes, meta: MetaFile) -> Parsed[T]:
        where = f"{self.name} {role}"
        check_described(where, data, meta)
        new = parse(where, kind, data)
        verify(new, self._root.signed, role)
        if new.signed.version != meta.version:
            raise Refused(
                Code.VERSION_MISMATCH,
                f"{where}: version {new.signed.version}, its parent names {meta.version}",
            )
        return new

    def _trusted(self, role: str, kind: type[T]) -> Parsed[T] | None:
        """The stored file of `role` if it still holds under the current root."""
        data = self._stored.get(role)
        if data is None:
            return None
        try:
            parsed = parse(f"stored {self.name} {role}", kind, data)
            verify(parsed, self._root.signed, role)
        except Refused:
            return None
        return parsed

    def _check_expiry(self, parsed: Parsed[T], now: datetime) -> None:
        if parsed.signed.is_expired(now):
            raise Refused(
                Code.EXPIRED_METADATA,
                f"{parsed.where}: expired {parsed.signed.expires:%Y-%m-%dT%H:%M:%SZ}, "
                f"trusted time is {now:%Y-%m-%dT%H:%M:%SZ}",
            )


def _not_lower(where: str, offered: int, known: int) -> None:
    if offered < known:
        raise Refused(
            Code.VERSION_MISMATCH, f"{where}: version {offered} is older than the known {known}"
        )


_Step = TypeVar("_Step")


def _done(value: _Step | None, step: str) -> _Step:
    if value is None:
        raise RuntimeError(f"{step} comes first")
    return value
