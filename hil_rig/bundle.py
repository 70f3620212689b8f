"""Offline bundles: one car's update in one tar. `docs/bundles.md` has the format."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from hil_rig.backend.repository import Repository

HEAD = "bundle.json"
_ROLE_ORDER = ("timestamp.json", "snapshot.json", "targets.json")
_PIECE = 1 << 20


class BundleError(Exception):
    """A bundle cannot be made or read; the message is one line."""


def write_bundle(
    out: BinaryIO, vin: str, director: Repository, image: Mapping[str, bytes], folder: Path
) -> None:
    """Write the bundle of one car, images streamed from the backend's `folder`.

    `director` is the offline Director; `image` the Image repository's metadata files by name. An
    image that is encrypted for the car stands below `director/<VIN>/targets`.
    Raises `BundleError` for an image that is not the one signed, OSError.
    """
    head = {"format": "vehicle-agent-bundle", "formatVersion": 1, "vin": vin}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, HEAD, json.dumps(head).encode())
        for name, files in (("director", director.files), ("image", image)):
            for file in sorted(files, key=_order):
                _add(archive, f"{name}/{file}", files[file])
        for path, described in sorted(director.targets.targets.items()):
            sealed = (described.custom or {}).get("encryption")
            owner = folder / "image" if sealed is None else folder / "director" / vin
            wanted = described.to_dict() if sealed is None else sealed
            place = owner / "targets" / path
            with place.open("rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
                length = source.tell()
                if (length, digest) != (wanted["length"], wanted["hashes"]["sha256"]):
                    raise BundleError(
                        f"{place}: not the image that the Director's targets describe"
                    )
                source.seek(0)
                info = tarfile.TarInfo(f"targets/{path}")
                info.size = length
                archive.addfile(info, source)


def describe(path: Path, now: datetime) -> dict[str, Any]:
    """What `show` tells of a bundle: car, roles, images. Signatures are for the car to check.

    Raises `BundleError` for a file that is no bundle, OSError.
    """
    roles: dict[str, dict[str, Any]] = {}
    images: dict[str, dict[str, Any]] = {}
    signed: dict[str, Any] = {}
    head: dict[str, Any] = {}
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None:
                    raise BundleError(f"{path}: {member.name!r} is no plain file")
                if member.name.startswith("targets/"):
                    digest = _digest(file)
                    images[member.name.removeprefix("targets/")] = {
                        "length": member.size,
                        "sha256": digest,
                    }
                elif member.name == HEAD:
                    head = json.load(file)
                else:
                    signed[member.name] = json.load(file)["signed"]
        roles = {
            name.removesuffix(".json"): {"version": each["version"], "expires": each["expires"]}
            for name, each in signed.items()
        }
        described = signed["director/targets.json"]["targets"]
        for name, facts in images.items():
            wanted = described[name]["custom"].get("encryption", described[name])
            facts["asSigned"] = facts["sha256"] == wanted["hashes"]["sha256"]
        counting: dict[tuple[str, str], str] = {}
        for name, role in roles.items():  # of the roots, which come by number, only the last counts
            repository, _, kind = name.partition("/")
            counting[repository, "root" if kind.endswith(".root") else kind] = role["expires"]
        until = min(counting.values())
        return {
            "vin": head["vin"],
            "goodUntil": until,
            "expired": datetime.fromisoformat(until) <= now,
            "images": images,
            "roles": roles,
        }
    except (tarfile.TarError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise BundleError(f"{path}: not a bundle: {what}") from None


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _order(name: str) -> tuple[int, int, str]:
    """Roots by number, then the roles as they are verified, then delegated ones."""
    number = name.removesuffix(".root.json")
    if number != name and number.isdecimal():
        return 0, int(number), name
    return 1, _ROLE_ORDER.index(name) if name in _ROLE_ORDER else len(_ROLE_ORDER), name


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
