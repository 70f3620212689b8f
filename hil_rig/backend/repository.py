"""A TUF 1.0 repository in memory: valid histories by `publish`, invalid ones by `forge`.

One object is one repository, Director or Image alike. What a server would serve stands in
`files`, name to bytes, and a test may change any of it. The names are `N.root.json`,
`timestamp.json`, `snapshot.json`, `targets.json` and `<role>.json`; with consistent snapshots all
but the timestamp have the version before them, and targets their hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from hil_rig.backend.private_file import write_private

ROLES = ("root", "targets", "snapshot", "timestamp")
LIFETIMES = {
    "root": timedelta(days=3650),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}

Signers = dict[str, list[CryptoSigner]]


def make_signers(keys: Mapping[str, int] | None = None) -> Signers:
    """Fresh Ed25519 keys for each role; `keys` says how many where one is not enough."""
    counts = dict.fromkeys(ROLES, 1) | dict(keys or {})
    return {role: [CryptoSigner.generate_ed25519() for _ in range(counts[role])] for role in ROLES}


def canonical(value: Any) -> bytes:
    """OLPC canonical JSON, over which every signature goes; floats are a FormatError."""
    return str(encode_canonical(value)).encode()


def signed_file(signed: Mapping[str, Any], signers: Sequence[CryptoSigner]) -> bytes:
    """The JSON file of `signed` with one signature a signer, whatever `signed` says."""
    payload = canonical(signed)
    signatures = [signer.sign(payload).to_dict() for signer in signers]
    return json.dumps({"signatures": signatures, "signed": signed}, ensure_ascii=False).encode()


class Repository:
    """Four top-level roles, delegated ones, their private keys, and what a client would fetch.

    `root`, `targets`, `snapshot`, `timestamp` and those in `delegated` (by name) are python-tuf
    objects: change them and `publish` to make a history that is consistent in itself. Root version
    1 is made at once. `describe_files`: snapshot and timestamp name lengths and hashes too.
    """

    def __init__(
        self,
        now: datetime,
        *,
        signers: Signers | None = None,
        thresholds: Mapping[str, int] | None = None,
        lifetimes: Mapping[str, timedelta] | None = None,
        consistent_snapshot: bool = False,
        describe_files: bool = False,
    ) -> None:
        self.describe_files = describe_files
        self.delegated: dict[str, Targets] = {}
        self.signers: Signers = dict(signers or make_signers())
        self.lifetimes = LIFETIMES | dict(lifetimes or {})
        self.files: dict[str, bytes] = {}
        self.images: dict[str, bytes] = {}
        self.root = Root(expires=self._expiry("root", now), consistent_snapshot=consistent_snapshot)
        self.targets, self.snapshot, self.timestamp = Targets(), Snapshot(), Timestamp()
        self.targets.version = self.snapshot.version = self.timestamp.version = 0
        for role in ROLES:
            for signer in self.signers[role]:
                self.root.add_key(_public(signer), role)
            self.root.roles[role].threshold = (thresholds or {}).get(role, 1)
        self._write_root(self.signers["root"])

    def publish(self, now: datetime) -> None:
        """Sign a new version of all targets roles, snapshot and timestamp, as of `now`."""
        for role, targets in {"targets": self.targets, **self.delegated}.items():
            targets.version += 1
            targets.expires = self._expiry("targets", now)
            self._write(role, targets)
        self.refresh(now)

    def refresh(self, now: datetime) -> None:
        """Sign a new snapshot and timestamp over the targets as they were last published."""
        self.snapshot.version += 1
        self.snapshot.expires = self._expiry("snapshot", now)
        self.snapshot.meta = {
            f"{role}.json": self._described(role, targets.version)
            for role, targets in {"targets": self.targets, **self.delegated}.items()
        }
        self._write("snapshot", self.snapshot)
        self.timestamp.version += 1
        self.timestamp.expires = self._expiry("timestamp", now)
        self.timestamp.snapshot_meta = self._described("snapshot", self.snapshot.version)
        self._write("timestamp", self.timestamp)

    def delegate(
        self,
        delegator: str,
        role: str,
        paths: Sequence[str],
        *,
        terminating: bool = False,
        hardware_ids: Sequence[str] | None = None,
        signers: list[CryptoSigner] | None = None,
        threshold: int = 1,
    ) -> Targets:
        """Let `delegator` (`targets` or a delegated role) delegate `paths` to `role`.

        The role is made if there is none of that name. Its keys are those it has, `signers`, or a
        fresh one. `publish` makes all of it known.
        """
        self.signers[role] = signers or self.signers.get(role) or [CryptoSigner.generate_ed25519()]
        delegated = DelegatedRole(role, [], threshold, terminating, list(paths))
        if hardware_ids is not None:
            delegated.unrecognized_fields["hardwareIds"] = list(hardware_ids)
        parent = self.targets_role(delegator)
        if parent.delegations is None:
            parent.delegations = Delegations({}, {})
        if parent.delegations.roles is None:
            raise ValueError(f"{delegator} delegates to bins")
        parent.delegations.roles[role] = delegated
        for signer in self.signers[role]:
            parent.add_key(_public(signer), role)
        if role not in self.delegated:
            self.delegated[role] = Targets()
            self.delegated[role].version = 0
        return self.delegated[role]

    def targets_role(self, role: str) -> Targets:
        """The targets role of that name, the top-level one or a delegated one."""
        return self.targets if role == "targets" else self.delegated[role]

    def rotate(
        self,
        role: str,
        now: datetime,
        *,
        signers: list[CryptoSigner] | None = None,
        threshold: int | None = None,
    ) -> None:
        """Replace the keys of `role` in a new root version, signed by the old and new root keys.

        The roles that the new keys sign are not signed anew: `publish` does that.
        """
        old_root_signers = list(self.signers["root"])
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role] = signers or [CryptoSigner.generate_ed25519()]
        for signer in self.signers[role]:
            self.root.add_key(_public(signer), role)
        if threshold is not None:
            self.root.roles[role].threshold = threshold
        self.root.version += 1
        self.root.expires = self._expiry("root", now)
        added = [s for s in self.signers["root"] if s not in old_root_signers]
        self._write_root(old_root_signers + added)

    def add_target(
        self,
        path: str,
        image: bytes,
        custom: Mapping[str, Any] | None = None,
        *,
        role: str = "targets",
        hashes: Sequence[str] = ("sha256",),
    ) -> None:
        """Describe `image` under `path` in a targets role; `publish` makes it known."""
        entry = TargetFile.from_data(path, image, list(hashes))
        if custom is not None:
            entry.unrecognized_fields["custom"] = dict(custom)
        self.targets_role(role).targets[path] = entry

    def file_name(self, role: str) -> str:
        """The name under which the newest file of `role` is fetched."""
        if role == "root":
            return f"{self.root.version}.root.json"
        if role == "timestamp" or not self.root.consistent_snapshot:
            return f"{quote(role, safe='')}.json"
        version = self.snapshot.version if role == "snapshot" else self.targets_role(role).version
        return f"{version}.{quote(role, safe='')}.json"

    def bytes_of(self, role: str) -> bytes:
        """The newest file of `role`; KeyError if it was not published yet."""
        return self.files[self.file_name(role)]

    def forge(
        self,
        role: str,
        change: Callable[[dict[str, Any]], None],
        *,
        signers: Sequence[CryptoSigner] | None = None,
    ) -> None:
        """Change the `signed` part of one published file and sign only that file again.

        `change` gets plain JSON, so that it can write what python-tuf would refuse. `signers`
        defaults to the role's own keys; an empty list leaves the file unsigned.
        """
        signed = json.loads(self.bytes_of(role))["signed"]
        change(signed)
        used = self.signers[role] if signers is None else signers
        self.files[self.file_name(role)] = signed_file(signed, used)

    def write_to(self, folder: Path) -> None:
        """Write the metadata files and, below `targets/`, the images that this repository holds."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        for path, content in self.images.items():
            place = folder / "targets" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def resume(self, folder: Path) -> None:
        """Go on from the metadata that `write_to` left in `folder`, versions counting up."""
        self.files |= {path.name: path.read_bytes() for path in folder.glob("*.json")}
        newest = max(int(name.split(".")[0]) for name in self.files if name.endswith(".root.json"))
        self.root = Metadata[Root].from_bytes(self.files[f"{newest}.root.json"]).signed
        self.targets = Metadata[Targets].from_bytes(self.bytes_of("targets")).signed
        self.snapshot = Metadata[Snapshot].from_bytes(self.bytes_of("snapshot")).signed
        self.timestamp = Metadata[Timestamp].from_bytes(self.bytes_of("timestamp")).signed
        for name in self.snapshot.meta:
            if name != "targets.json":
                content = self.files[f"{quote(name.removesuffix('.json'), safe='')}.json"]
                self.delegated[name.removesuffix(".json")] = (
                    Metadata[Targets].from_bytes(content).signed
                )

    def _described(self, role: str, version: int) -> MetaFile:
        if not self.describe_files:
            return MetaFile(version)
        return MetaFile.from_data(version, self.bytes_of(role), ["sha256", "sha512"])

    def _expiry(self, role: str, now: datetime) -> datetime:
        return now.replace(microsecond=0) + self.lifetimes[role]

    def _write_root(self, signers: Sequence[CryptoSigner]) -> None:
        self.files[f"{self.root.version}.root.json"] = _sign(self.root, signers)

    def _write(self, role: str, signed: Targets | Snapshot | Timestamp) -> None:
        self.files[self.file_name(role)] = _sign(signed, self.signers[role])


def write_signers(folder: Path, signers: Signers) -> None:
    """Write private keys as `<role>-<n>.pem` (PKCS8, mode 0600) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, keys in signers.items():
        for number, signer in enumerate(keys):
            write_private(folder / f"{role}-{number}.pem", signer.private_bytes)


def read_signers(folder: Path) -> Signers:
    """Read what `write_signers` wrote; FileNotFoundError if a role has no key there."""
    signers: Signers = {}
    for role in ROLES:
        paths = sorted(folder.glob(f"{role}-*.pem"))
        if not paths:
            raise FileNotFoundError(folder / f"{role}-0.pem")
        signers[role] = [_load_signer(path) for path in paths]
    return signers


def _load_signer(path: Path) -> CryptoSigner:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: {type(key).__name__}; an Ed25519 key in PKCS8 PEM is needed")
    return CryptoSigner(key)


def _public(signer: CryptoSigner) -> SSlibKey:
    return signer.public_key


def _sign(signed: Root | Targets | Snapshot | Timestamp, signers: Sequence[CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()
