"""Trusted metadata on disk: one folder a repository, one file a role."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused

ROLES = ("root", "timestamp", "snapshot", "targets")


class TrustStore:
    """Files `<folder>/<repository>/<role>.json`, and the roots the car was provisioned with."""

    def __init__(self, folder: Path, provisioned_roots: Mapping[str, Path]) -> None:
        """`provisioned_roots`: repository name to the root file that counts until one is stored."""
        self._folder = folder
        self._provisioned = dict(provisioned_roots)

    def load(self, repository: str) -> dict[str, bytes]:
        """The stored files by role; `root` is always among them.

        Raises Refused(CONFIG_INVALID) if there is neither a stored nor a provisioned root.
        """
        files = {}
        for role in ROLES:
            path = self._path(repository, role)
            if path.is_file():
                files[role] = path.read_bytes()
        if "root" not in files:
            root = self._provisioned[repository]
            try:
                files["root"] = root.read_bytes()
            except OSError as error:
                raise Refused(
                    Code.CONFIG_INVALID,
                    f"trust.{repository}_root = {str(root)!r}: {error.strerror}; the provisioned "
                    "root metadata is needed",
                ) from None
        return files

    def save(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Bring `files` (by role) to the disk, in the order in which trust flows.

        Raises Refused(DISK_FULL) if they cannot be written.
        """
        folder = self._folder / repository
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for role in ROLES:
                path = self._path(repository, role)
                if role in files and not (path.is_file() and path.read_bytes() == files[role]):
                    write_durably(path, files[role])
        except OSError as error:
            raise Refused(Code.DISK_FULL, f"{str(folder)!r}: {error.strerror}") from None

    def _path(self, repository: str, role: str) -> Path:
        return self._folder / repository / f"{role}.json"
