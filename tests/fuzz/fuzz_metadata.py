"""Change one thing in one metadata file: refused or harmless, never another meaning, no exception.

`run(seed, count)` makes `count` changes and tells how many ended in anything but that.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.release import ImageRelease, assign, publish_both
from hil_rig.backend.repository import Repository
from vehicle_agent.identity import EcuIdentity, VehicleIdentity
from vehicle_agent.refusals import Refused
from vehicle_agent.release import Release
from vehicle_agent.trust.delegations import locate
from vehicle_agent.trust.release import directed_to, release_for
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.workflow import drive, verify_files

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
COMPONENT, SERIAL, HARDWARE = "adas-controller", "ADAS-0042", "ADAS-HW-3"
PATH = "adas/adas-controller-2.4.0.bin"

Files = dict[str, dict[str, bytes]]
"""Repository name to file name to content."""


@dataclass(frozen=True)
class Base:
    """Both repositories as published, what they mean, and the identity they are for."""

    files: Files
    identity: VehicleIdentity
    director: RepositoryTrust
    image: RepositoryTrust
    meaning: Release

    def verify(self, files: Files) -> Release:
        """The release that `files` give a car that was provisioned with the first roots.

        A repository whose files are the published ones is not verified anew.
        """
        director, image = self.director, self.image
        if files["director"] is not self.files["director"]:
            director = _trusted("director", self.files, files)
        if files["image"] is not self.files["image"]:
            image = _trusted("image", self.files, files)
        return _release(self.identity, director, image, files)


def base() -> Base:
    """Repositories with a rotated root, a delegated role, and one release for one car."""
    release = ImageRelease(
        path=PATH,
        image=b"new software" * 100,
        version="2.4.0",
        release_counter=7,
        hardware_ids=(HARDWARE, "ADAS-HW-4"),
        base_versions=("2.3.1",),
        profile_sha256="ab" * 32,
        readback={0xF189: "2.4.0"},
        memory_check_expected="00" + "11" * 32,
        rxswin_before="R1",
        rxswin_after="R2",
    )
    identity = VehicleIdentity(
        vin="LXMA7AEB1R0000042",
        model="XMA7000MBEVR2",
        production_date=date(2024, 6, 1),
        ecus=(
            EcuIdentity(
                component=COMPONENT,
                serial=SERIAL,
                hardware_id=HARDWARE,
                profile="profile.toml",
                bus="adas",
            ),
        ),
    )
    image, director = Repository(NOW, describe_files=True), Repository(NOW)
    image.delegate("targets", "maker", ["adas/*"], hardware_ids=[HARDWARE])
    image.add_target(
        PATH, release.image, release.custom(), role="maker", hashes=["sha256", "sha512"]
    )
    image.images[PATH] = release.image
    assign(
        director,
        release,
        S2025M0149I,
        vin=identity.vin,
        ecus={SERIAL: HARDWARE},
        correlation_id="campaign-1",
    )
    described = director.targets.targets[PATH]
    described.hashes = dict(image.delegated["maker"].targets[PATH].hashes)
    described.custom["minutes"] = 40
    for repository in (image, director):
        repository.rotate("timestamp", NOW - timedelta(days=1))
    publish_both(image, director, NOW)
    files = {"director": dict(director.files), "image": dict(image.files)}
    trusted = {name: _trusted(name, files, files) for name in files}
    return Base(files, identity, **trusted, meaning=_release(identity, **trusted, files=files))


def run(seed: int, count: int) -> tuple[int, int]:
    """Make `count` changes; inputs tried, and those with another meaning or another exception."""
    chance = random.Random(seed)
    origin = base()
    unhandled = 0
    for number in range(count):
        changed, what = change(origin.files, chance)
        try:
            kept = origin.verify(changed) == origin.meaning
        except Refused:
            continue
        except Exception as error:
            kept, what = False, f"{what}: {type(error).__name__}: {error}"
        if not kept:
            unhandled += 1
            sys.stderr.write(f"fuzz_metadata: seed {seed}, input {number}: {what}\n")
    return count, unhandled


def change(files: Files, chance: random.Random) -> tuple[Files, str]:
    """`files` with one byte or field of one file changed, removed or doubled, and what it was."""
    repository = chance.choice(sorted(files))
    name = chance.choice(sorted(files[repository]))
    how = chance.choice((_change_bytes, _change_field))
    content, what = how(files[repository][name], chance)
    changed = {**files, repository: {**files[repository], name: content}}
    return changed, f"{repository}/{name}: {what}"


def _trusted(name: str, provisioned: Files, files: Files) -> RepositoryTrust:
    trust = RepositoryTrust(name, {"root": provisioned[name]["1.root.json"]})
    verify_files(trust, files[name], NOW)
    return trust


def _release(
    identity: VehicleIdentity, director: RepositoryTrust, image: RepositoryTrust, files: Files
) -> Release:
    directed = directed_to(COMPONENT, identity, director.targets)
    located = drive(
        locate(image, directed.path, directed.ecu.hardware_id),
        lambda file: files["image"].get(file.name),
    )
    return release_for(
        directed, located, image_url="https://localhost/image", counter_floor=0, signed_by=()
    )


def _change_bytes(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at = chance.randrange(len(content))
    new = chance.choice(
        (
            bytes([chance.randrange(256)]),
            bytes([content[at] ^ 1 << chance.randrange(8)]),
            b"",
            content[at : at + 1] * 2,
            b"\\",
            b"\0",
        )
    )
    return content[:at] + new + content[at + 1 :], f"byte {at} is {new!r}"


_STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**4000,
    "",
    "\ud800",
    "../x",
    "0" * 64,
    [],
    {},
    [[]],
    [None],
    {"": None},
)


def _change_field(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    document = json.loads(content)
    node, key = document, chance.choice(("signed", "signatures"))
    trace = [key]
    while isinstance(node[key], dict | list) and node[key] and chance.random() < 0.85:
        node = node[key]
        key = chance.choice(sorted(node)) if isinstance(node, dict) else chance.randrange(len(node))
        trace.append(str(key))
    what = f"{'.'.join(trace)[:120]}: " + chance.choice(_FIELD_CHANGES)(node, key, chance)
    return json.dumps(document).encode(), what


def _remove(node: Any, key: Any, chance: random.Random) -> str:
    del node[key]
    return "removed"


def _replace(node: Any, key: Any, chance: random.Random) -> str:
    node[key] = chance.choice(_STRANGE)
    return f"is {str(node[key])[:20]!r}"


def _double(node: Any, key: Any, chance: random.Random) -> str:
    if isinstance(node, list):
        node.append(node[key])
    else:
        node[f"{key}2"] = node[key]
    return "doubled"


def _nudge(node: Any, key: Any, chance: random.Random) -> str:
    value = node[key]
    if isinstance(value, int):
        node[key] = value + chance.choice((-1, 1, 256))
    elif isinstance(value, str):
        node[key] = value.swapcase() if chance.random() < 0.5 else value + " "
    elif isinstance(value, list):
        node[key] = [*reversed(value), "more"]
    else:
        node[key] = {"more": 1, **(value or {})}
    return "nudged"


_FIELD_CHANGES: tuple[Callable[[Any, Any, random.Random], str], ...] = (
    _remove,
    _replace,
    _double,
    _nudge,
)
