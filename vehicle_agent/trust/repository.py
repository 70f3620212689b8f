"""One repository's chain of trust: root, timestamp, snapshot, targets, delegated. Pure: no I/O.

The client workflow of the TUF specification (5.3 to 5.6), which Uptane's full verification applies
to Director and Image repository alike. `workflow.refresh` goes through it in order:

    rotate_root(...)*, close_root(now), accept_timestamp, accept_snapshot, accept_targets,
    accept_delegated(...)*

What stands in `accepted` afterwards (role to bytes) is what may be stored. A stored file counts
only if those whom the *current* delegator names signed it: after a rotation, versions that a thief
of the old keys drove up are forgotten (fast-forward recovery), and a stored role is verified again
for whoever delegates to it now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
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
from vehicle_agent.trust.rules import UPTANE, Rules, quoted_role

_TARGETS_FILE = "targets.json"


class RepositoryTrust:
    """What is trusted of one repository, and the rules by which that moves forward."""

    def __init__(
        self,
        name: str,
        stored: Mapping[str, bytes],
        other_roots: Iterable[bytes] = (),
        *,
        floor: Callable[[str], int] | None = None,
        rules: Rules = UPTANE,
    ) -> None:
        """Start from `stored` (role name to file); `root` has to be there, the others may.

        `other_roots` (older ones, the provisioned one) stand in, newest first, for a stored root
        that is damaged. `floor` gives the version below which the role of that name, in the words
        of `versions`, is not accepted. Raises Refused if no root is one signed by itself.
        """
        self.name = name
        self.rules = rules
        self.accepted: dict[str, bytes] = {}
        self.rotated: dict[int, bytes] = {}
        self.targets_signed_by: tuple[str, ...] = ()
        self._floor = floor
        self._stored = dict(stored)
        self._root = self._first_whole_root([stored["root"], *other_roots])
        if self._root.data != stored["root"]:
            self.accepted["root"] = self._root.data
        self._now: datetime | None = None
        self._timestamp: Timestamp | None = None
        self._snapshot: Snapshot | None = None
        self._targets: Targets | None = None

    @property
    def root(self) -> Root:
        """The root that is trusted now."""
        return self._root.signed

    @property
    def next_root(self) -> int:
        """The version of the root file to ask for next."""
        return self.root.version + 1

    @property
    def snapshot(self) -> Snapshot:
        """The verified snapshot role; only after `accept_snapshot`."""
        return _done(self._snapshot, "accept_snapshot")

    @property
    def targets(self) -> Targets:
        """The verified top-level targets role; only after `accept_targets`."""
        return _done(self._targets, "accept_targets")

    def rotate_root(self, data: bytes) -> None:
        """Uptane, check Root metadata: version N+1, signed by the thresholds of N and of N+1.

        TUF 5.3.3 to 5.3.8. Raises Refused: ROOT_ROTATION_ERROR, or what `parse` raises.
        """
        new = self._parse(f"{self.name} {self.next_root}.root", Root, data)
        if new.signed.version != self.next_root:
            raise Refused(
                Code.ROOT_ROTATION_ERROR,
                f"{new.where}: version {new.signed.version}, {self.next_root} is needed",
            )
        for words, root in (("old", self.root), ("new", new.signed)):
            signed, threshold = verification_result(new, root, "root")
            if len(signed) < threshold:
                raise Refused(
                    Code.ROOT_ROTATION_ERROR,
                    f"{new.where}: signed by {len(signed)} keys of the {words} root, "
                    f"{threshold} are needed",
                )
        self._root = new
        self.accepted["root"] = data
        self.rotated[new.signed.version] = data

    def close_root(self, now: datetime) -> None:
        """Uptane, check Root metadata, last: it is not expired (freeze) and not behind the floor.

        Only the last root's expiry matters (TUF 5.3.10); `now` is trusted time (UTC). Fast-forward
        recovery (5.3.11) follows from how stored files and floors are read: by the current keys.
        Raises Refused: EXPIRED_METADATA, VERSION_MISMATCH.
        """
        self._not_below_floor("root", self._root.where, self.root.version)
        self._check_expiry(self._root, now)
        self._now = now

    def accept_timestamp(self, data: bytes) -> None:
        """Uptane, check Timestamp metadata (TUF 5.4): signatures, rollback, expiry.

        An equal version is no news: the stored file stays.
        Raises Refused: UNMET_THRESHOLD, VERSION_MISMATCH, EXPIRED_METADATA, or as `parse`.
        """
        now = _done(self._now, "close_root")
        new = self._parse(f"{self.name} timestamp", Timestamp, data)
        verify(new, self.root, "timestamp")
        old = None if data == self._stored.get("timestamp") else self._counting(Timestamp)
        if old is not None:
            _not_lower(new.where, new.signed.version, old.signed.version)
            if new.signed.version == old.signed.version:
                new = old
            _not_lower(
                f"{new.where}, snapshot",
                new.signed.snapshot_meta.version,
                old.signed.snapshot_meta.version,
            )
        self._not_below_floor("timestamp", new.where, new.signed.version)
        self._not_below_floor(
            "snapshot", f"{new.where}, snapshot", new.signed.snapshot_meta.version
        )
        self._check_expiry(new, now)
        self._timestamp = new.signed
        self.accepted["timestamp"] = new.data

    def accept_snapshot(self, data: bytes) -> None:
        """Uptane, check Snapshot metadata (TUF 5.5).

        Hashes and version that Timestamp names, signatures, no file gone or of a lower version
        (rollback), expiry. Raises Refused as `accept_timestamp`.
        """
        now = _done(self._now, "close_root")
        new, _ = self._child("snapshot", Snapshot, data, self.root)
        old = None if data == self._stored.get("snapshot") else self._counting(Snapshot)
        for name, known in (old.signed.meta if old is not None else {}).items():
            offered = new.signed.meta.get(name)
            if offered is None:
                raise Refused(Code.VERSION_MISMATCH, f"{new.where}: {name[:64]!r} has gone")
            _not_lower(f"{new.where}, {name[:64]}", offered.version, known.version)
        targets = new.signed.meta.get(_TARGETS_FILE)
        if targets is None:
            raise Refused(Code.METADATA_MALFORMED, f"{new.where}: {_TARGETS_FILE!r} is missing")
        self._not_below_floor("targets", f"{new.where}, {_TARGETS_FILE}", targets.version)
        self._check_expiry(new, now)
        self._snapshot = new.signed
        self.accepted["snapshot"] = data

    def accept_targets(self, data: bytes) -> None:
        """Uptane, check Targets metadata (TUF 5.6), top level.

        Hashes and version that Snapshot names, signatures, expiry. That the version is no lower
        than before has been checked in the snapshot. Raises Refused as `accept_timestamp`.
        """
        self._targets, self.targets_signed_by = self._accept_targets("targets", data, self.root)

    def accept_delegated(
        self, role: str, data: bytes, delegator: Root | Targets
    ) -> tuple[Targets, tuple[str, ...]]:
        """Uptane, check Targets metadata of a delegated role, for `delegator`, and its signers.

        Raises Refused as `accept_timestamp`.
        """
        return self._accept_targets(role, data, delegator)

    def stored(self, role: str, delegator: Root | Targets) -> bytes | None:
        """The stored file of `role` if it is still the one to use, so that none is to be fetched.

        It is verified again, for `delegator`: who signed it once has no say any more.
        """
        data = self.accepted.get(role) or self._stored.get(role)
        if data is None:
            return None
        try:
            if role == "snapshot":
                self._child(role, Snapshot, data, delegator)
            else:
                self._child(role, Targets, data, delegator)
        except Refused:
            return None
        return data

    def described(self, role: str) -> MetaFile | None:
        """What the parent of `role` says of its file; None if it does not name it."""
        if role == "snapshot":
            return _done(self._timestamp, "accept_timestamp").snapshot_meta
        return self.snapshot.meta.get(f"{role}.json")

    def file_name(self, role: str) -> str:
        """The name that the file of `role` is fetched by, quoted for a URL.

        Raises Refused(METADATA_MALFORMED) for a name that is too long for a file's.
        """
        quoted = quoted_role(role)
        meta = self.described(role) if role not in {"root", "timestamp"} else None
        if meta is None or not self.root.consistent_snapshot:
            return f"{quoted}.json"
        return f"{meta.version}.{quoted}.json"

    def versions(self) -> dict[str, int]:
        """What is accepted by now, as floors for later: names for a MonotonicStore, versions.

        All but root's name ends in a digest of the keys in charge. With new keys it starts
        anew: versions that a thief drove up do not outlive the stolen key.
        """
        versions = {self._floor_name("root"): self.root.version}
        if self._timestamp is not None:
            versions[self._floor_name("timestamp")] = self._timestamp.version
        if self._snapshot is not None:
            versions[self._floor_name("snapshot")] = self._snapshot.version
        if self._targets is not None:
            versions[self._floor_name("targets")] = self._targets.version
        return versions

    def _first_whole_root(self, candidates: list[bytes]) -> Parsed[Root]:
        first: Refused | None = None
        for data in candidates:
            try:
                root = self._parse(f"{self.name} root", Root, data)
                verify(root, root.signed, "root")
            except Refused as refused:
                first = first or refused
                continue
            return root
        raise first or Refused(Code.CONFIG_INVALID, f"{self.name} root: none was provisioned")

    def _accept_targets(
        self, role: str, data: bytes, delegator: Root | Targets
    ) -> tuple[Targets, tuple[str, ...]]:
        now = _done(self._now, "close_root")
        new, signed_by = self._child(role, Targets, data, delegator)
        self._check_expiry(new, now)
        self.accepted[role] = data
        return new.signed, signed_by

    def _child(
        self, role: str, kind: type[T], data: bytes, delegator: Root | Targets
    ) -> tuple[Parsed[T], tuple[str, ...]]:
        """The file of `role` and who signed it, if it is the one that its parents mean."""
        where = f"{self.name} {role[:64]}"
        meta = self.described(role)
        if meta is None:
            raise Refused(Code.DELEGATION_MISSING, f"{where}: the snapshot does not name it")
        check_described(where, data, meta)
        new = self._parse(where, kind, data)
        signed_by = verify(new, delegator, role)
        if new.signed.version != meta.version:
            raise Refused(
                Code.VERSION_MISMATCH,
                f"{where}: version {new.signed.version}, its parent names {meta.version}",
            )
        return new, signed_by

    def _counting(self, kind: type[T]) -> Parsed[T] | None:
        """The stored file of the top-level role `kind` if it holds under the current root."""
        data = self._stored.get(kind.type)
        if data is None:
            return None
        try:
            parsed = self._parse(f"stored {self.name} {kind.type}", kind, data)
            verify(parsed, self.root, kind.type)
        except Refused:
            return None
        return parsed

    def _parse(self, where: str, kind: type[T], data: bytes) -> Parsed[T]:
        return parse(where, kind, data, keyids_are_digests=self.rules.keyids_are_digests)

    def _floor_name(self, role: str) -> str:
        if role == "root":
            return f"version/{self.name}/root"
        in_charge = ("snapshot", "targets") if role == "targets" else (role,)
        keyids = (",".join(sorted(self.root.roles[each].keyids)) for each in in_charge)
        keys = hashlib.sha256(";".join(keyids).encode()).hexdigest()
        return f"version/{self.name}/{role}/{keys[:16]}"

    def _not_below_floor(self, role: str, where: str, version: int) -> None:
        if self._floor is not None:
            _not_lower(where, version, self._floor(self._floor_name(role)))

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
