"""Offline bundles: an update for one car in one file, verified as one that comes over the air.

`docs/bundles.md` has the format. The Image repository's metadata is the same as online. In place of
the Director's online keys, offline ones sign for a single VIN: repository `director-offline`, with
a root of its own that the car was provisioned with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

import msgspec
from tuf.api.metadata import Targets

from vehicle_agent.durable import sync_folder
from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Release
from vehicle_agent.strict_json import parse_object
from vehicle_agent.strict_tar import CutOff, Member, Source, TarError, TarReader
from vehicle_agent.trust.delegations import locate
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.metadata import known_hashes, parse, verify
from vehicle_agent.trust.release import directed_to, is_halted, release_for
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.verifier import DIRECTOR, DIRECTOR_OFFLINE, IMAGE, release_counter
from vehicle_agent.trust.workflow import Want, drive, refresh

"""Name of the offline Director's repository in the TrustStore, which has to know its root."""

HEAD = "bundle.json"
MAX_HEAD = 1 << 12
MAX_MEMBERS = 1024
MAX_METADATA = 1 << 25
"""Bytes of all metadata files of a bundle together."""

_SPARE = 1 << 20
_BOUND_ROLES = ("timestamp", "snapshot", "targets")


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    format: Literal["vehicle-agent-bundle"]
    format_version: Literal[1]
    vin: str


class BundleVerifier:
    """Opens bundles for one car. Blocking: call it in a thread, and never beside a `Verifier`."""

    def __init__(
        self,
        store: TrustStore,
        identity: VehicleIdentity,
        *,
        floors: MonotonicStore,
        now: Callable[[], datetime | None],
        metadata_limit: int = 1 << 20,
    ) -> None:
        """`store` is the one that online verification uses; `now` is trusted time or None.

        One metadata file has at most `metadata_limit` bytes.
        """
        self._store = store
        self._identity = identity
        self._floors = floors
        self._now = now
        self._metadata_limit = metadata_limit

    def open(self, path: Path, component: str, place: Callable[[Release], Path]) -> Release:
        """The release of the bundle at `path` for `component`; its image stands at `place` of it.

        The image is there as a download would leave it, encrypted if it came so. On return image
        and metadata are on the disk. Where anything is refused nothing is kept, and nothing counts
        as seen. Raises Refused: as `Verifier.verify`; VIN_MISMATCH for a bundle that is not wholly
        for this car; METADATA_MALFORMED for one that is not well formed; OVERSIZED_TARGET,
        IMAGE_TRUNCATED, TARGET_HASH_MISMATCH, DISK_FULL for its image.
        """
        now = self._now()
        if now is None:
            raise Refused(Code.NO_TRUSTED_TIME, "expiry of metadata cannot be judged")
        try:
            with _Source(path) as file:
                return self._open(file, component, place, now)
        except CutOff as error:
            raise Refused(Code.IMAGE_TRUNCATED, f"bundle {path.name!r}: {error}") from None
        except TarError as error:
            raise Refused(Code.METADATA_MALFORMED, f"bundle {path.name!r}: {error}") from None
        except _Unreadable as error:
            raise Refused(Code.METADATA_UNAVAILABLE, f"bundle {path.name!r}: {error}") from None
        except OSError as error:
            raise Refused(
                Code.DISK_FULL, f"{str(error.filename or path)!r}: {error.strerror}"
            ) from None

    def _open(
        self, file: Source, component: str, place: Callable[[Release], Path], now: datetime
    ) -> Release:
        archive = TarReader(file, most_members=MAX_MEMBERS)
        self._check_head(archive)
        files, target = self._read_metadata(archive)
        try:
            director, image = self._store.trusted(DIRECTOR_OFFLINE), self._store.trusted(IMAGE)
        except KeyError:
            raise Refused(
                Code.CONFIG_INVALID,
                "trust: no root of the offline Director is configured; bundles need it",
            ) from None
        release = self._verify(component, director, image, files, now)
        destination = place(release)
        beside = destination.with_name(f"{destination.name}.bundle")
        try:
            found = False
            while target is not None:
                if target.name == f"targets/{release.filepath}":
                    _copy(archive, target, release, beside)
                    found = True
                elif target.name.removeprefix("targets/") not in director.targets.targets:
                    raise TarError(f"{target.name[:64]!r} is no file that the Director names")
                target = archive.next()
            if not found:
                raise TarError(f"the image {release.filepath[:64]!r} is not in it")
            self._store.keep(image)
            self._store.keep(director)
            beside.replace(destination)
            sync_folder(destination.parent)
        finally:
            beside.unlink(missing_ok=True)
        return release

    def _check_head(self, archive: TarReader) -> None:
        first = archive.next()
        if first is None or first.name != HEAD:
            raise TarError(f"{HEAD!r} has to come first")
        content = archive.read(MAX_HEAD)
        try:
            head = msgspec.convert(parse_object(content), _Head)
        except ValueError as error:
            raise TarError(f"{HEAD}: {error}") from None
        self._check_vin(HEAD, head.vin)

    def _read_metadata(self, archive: TarReader) -> tuple[dict[str, bytes], Member | None]:
        """All metadata by name, and the first member behind it."""
        files: dict[str, bytes] = {}
        left = MAX_METADATA
        while (member := archive.next()) is not None:
            folder, _, name = member.name.partition("/")
            if folder == "targets":
                break
            if folder not in ("director", "image") or "/" in name or not name.endswith(".json"):
                raise TarError(f"{member.name[:64]!r} belongs to no part of a bundle")
            files[member.name] = archive.read(min(self._metadata_limit, left))
            left -= member.size
        return files, member

    def _verify(
        self,
        component: str,
        director: RepositoryTrust,
        image: RepositoryTrust,
        files: dict[str, bytes],
        now: datetime,
    ) -> Release:
        """The steps of `Verifier.verify`, and that every role of the Director is for this VIN."""

        def directors(file: Want) -> bytes | None:
            return files.get(f"director/{file.name}")

        def images(file: Want) -> bytes | None:
            return files.get(f"image/{file.name}")

        drive(refresh(director, now), directors)
        for role in _BOUND_ROLES:
            custom = parse_object(director.accepted[role])["signed"].get("custom")
            vin = custom.get("vin") if isinstance(custom, dict) else None
            self._check_vin(f"{DIRECTOR_OFFLINE} {role}", vin)
        directed = directed_to(component, self._identity, director.targets)
        drive(refresh(image, now), images)
        located = drive(locate(image, directed.path, directed.ecu.hardware_id), images)
        release = release_for(
            directed,
            located,
            image_url="bundle:",
            counter_floor=self._floors.get(release_counter(directed.ecu.serial)),
            signed_by=director.targets_signed_by + (located.signed_by if located else ()),
        )
        self._check_vin("campaign", release.campaign.vin)
        if self._is_halted_online(release):
            campaign = msgspec.structs.replace(release.campaign, halted=True)
            release = msgspec.structs.replace(release, campaign=campaign)
        return release

    def _is_halted_online(self, release: Release) -> bool:
        """Whether the online Director has last been heard to halt this very campaign.

        However old its word is by now: a bundle from before the halt does not undo it.
        """
        data = self._store.load(DIRECTOR).get("targets")
        if data is None:
            return False
        try:
            targets = parse("stored director targets", Targets, data)
            verify(targets, self._store.trusted(DIRECTOR).root, "targets")
            directed = directed_to(release.component, self._identity, targets.signed)
        except Refused:
            return False
        return directed.correlation_id == release.correlation_id and is_halted(directed)

    def _check_vin(self, where: str, vin: object) -> None:
        if vin != self._identity.vin:
            raise Refused(
                Code.VIN_MISMATCH,
                f"bundle, {where}: for {str(vin)[:32]!r}, this car is {self._identity.vin!r}",
            )


def _copy(archive: TarReader, member: Member, release: Release, beside: Path) -> None:
    """Bring the image to the disk as `beside`, hashed on the way."""
    where, sealed = f"bundle, {release.filepath!r}", release.encryption
    length = release.length if sealed is None else sealed.length
    hashes = {"sha256": release.sha256, **release.hashes} if sealed is None else sealed.hashes
    if member.size != length:
        raise Refused(
            Code.OVERSIZED_TARGET if member.size > length else Code.IMAGE_TRUNCATED,
            f"{where}: {member.size} bytes, {length} are signed",
        )
    beside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(beside.parent).free
    if free < member.size + _SPARE:
        raise Refused(
            Code.DISK_FULL,
            f"{str(beside.parent)!r}: {free} bytes free, {member.size} + {_SPARE} are needed",
        )
    digests = {name: hashlib.new(name) for name in known_hashes(where, hashes)}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(beside, flags, 0o600), "wb", buffering=0) as file:
        for piece in archive.pieces():
            for digest in digests.values():
                digest.update(piece)
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
        os.fsync(file.fileno())
    if any(digest.hexdigest() != hashes[name] for name, digest in digests.items()):
        raise Refused(Code.TARGET_HASH_MISMATCH, f"{where}: not the bytes that were signed")


class _Unreadable(Exception):
    """The medium does not give the bundle's bytes; the message is one line."""


class _Source:
    """The bundle's file; what goes wrong with it is not taken for a fault of our own disk."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise _Unreadable(error.strerror) from None
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self._file.close()
            raise _Unreadable("not a plain file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise _Unreadable(error.strerror) from None
