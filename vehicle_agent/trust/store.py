"""Trusted metadata on disk: one folder a repository, one file a role, the roots that led here.

A damaged file is as good as none: an older root or the provisioned one stands in for the root, the
server for the rest. That no version goes back meanwhile is seen to by floors that live apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import unquote

from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.floors import FileMonotonicStore, MonotonicStore
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.rules import TOP_LEVEL, UPTANE, Rules, quoted_role

_ROOTS = "roots"


class TrustStore:
    """Files `<folder>/<repository>/<role>.json`, and the roots the car was provisioned with.

    Roots once accepted stay as `<folder>/<repository>/roots/<N>.root.json`.
    """

    def __init__(
        self,
        folder: Path,
        provisioned_roots: Mapping[str, Path],
        *,
        versions: Path | None = None,
    ) -> None:
        """`provisioned_roots`: repository name to the root file that counts until one is stored.

        `versions` is the file of the version floors (two copies), `<folder>/versions.json` if None.
        """
        self._versions_path = versions or folder / "versions.json"
        self._folder = folder
        self._provisioned = dict(provisioned_roots)
        self._versions: MonotonicStore | None = None

    def trusted(self, repository: str, rules: Rules = UPTANE) -> RepositoryTrust:
        """What is trusted of `repository`, to go forward from.

        Raises Refused(CONFIG_INVALID) if there is neither a stored nor a provisioned root, or as
        `RepositoryTrust` if none of them is whole.
        """
        return RepositoryTrust(
            repository,
            self.load(repository),
            self._other_roots(repository),
            floor=self._floors().get,
            rules=rules,
        )

    def keep(self, trust: RepositoryTrust) -> None:
        """Store what `trust` has accepted, then raise the floors to it.

        Raises Refused(DISK_FULL) if it cannot be written.
        """
        self.save(trust.name, trust.accepted)
        try:
            for version, root in trust.rotated.items():
                write_durably(self._made(trust.name, _ROOTS) / f"{version}.root.json", root)
            trust.rotated.clear()
            self._raise_floors(trust.versions())
        except OSError as error:
            raise Refused(Code.DISK_FULL, f"{str(self._folder)!r}: {error.strerror}") from None

    def load(self, repository: str) -> dict[str, bytes]:
        """The stored files by role; `root` is always among them.

        Raises Refused(CONFIG_INVALID) if there is neither a stored nor a provisioned root.
        """
        files = {}
        for path in sorted((self._folder / repository).glob("*.json")):
            data = _read(path)
            if data is not None:
                files[unquote(path.name.removesuffix(".json"))] = data
        if "root" not in files:
            files["root"] = self._read_provisioned(repository)
        return files

    def save(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Bring `files` (by role) to the disk, in the order in which trust flows.

        Raises Refused(DISK_FULL) if they cannot be written.
        """
        try:
            folder = self._made(repository)
            for role in _in_order(files):
                path = folder / f"{quoted_role(role)}.json"
                if _read(path) != files[role]:
                    write_durably(path, files[role])
        except OSError as error:
            raise Refused(Code.DISK_FULL, f"{str(self._folder)!r}: {error.strerror}") from None

    def _other_roots(self, repository: str) -> list[bytes]:
        numbered = [
            (int(number), path)
            for path in (self._folder / repository / _ROOTS).glob("*.root.json")
            if (number := path.name.split(".")[0]).isdecimal()
        ]
        older = [_read(path) for _, path in sorted(numbered, reverse=True)]
        provisioned = self._provisioned.get(repository)
        return [
            root
            for root in [*older, _read(provisioned) if provisioned is not None else None]
            if root is not None
        ]

    def _read_provisioned(self, repository: str) -> bytes:
        root = self._provisioned[repository]
        try:
            return root.read_bytes()
        except OSError as error:
            raise Refused(
                Code.CONFIG_INVALID,
                f"trust.{repository}_root = {str(root)!r}: {error.strerror}; the provisioned "
                "root metadata is needed",
            ) from None

    def _raise_floors(self, versions: Mapping[str, int]) -> None:
        for name, version in versions.items():
            try:
                self._floors().raise_to(name, version)
            except Refused:
                self._versions = None
                self._floors().raise_to(name, version)

    def _floors(self) -> MonotonicStore:
        """The version floors; where both copies are damaged, new ones from what is stored.

        They are the second line behind the stored files, and no damage may shut updates out.
        """
        if self._versions is None:
            path = self._versions_path
            try:
                self._versions = FileMonotonicStore(path)
            except Refused:
                for copy in (path, path.with_name(f"{path.name}.copy")):
                    if copy.exists():
                        copy.replace(copy.with_name(f"damaged-{copy.name}"))
                self._versions = FileMonotonicStore(path)
        return self._versions

    def _made(self, *names: str) -> Path:
        folder = self._folder.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


def _in_order(roles: Collection[str]) -> list[str]:
    first = [role for role in TOP_LEVEL if role in roles]
    return first + sorted(set(roles) - set(first))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
