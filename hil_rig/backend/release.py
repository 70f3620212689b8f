"""A release in both repositories: facts in Image, signed offline, the campaign in Director."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hil_rig.backend.campaign import Recall
from hil_rig.backend.encryption import EncryptedImage
from hil_rig.backend.repository import Repository


@dataclass(frozen=True, kw_only=True)
class ImageRelease:
    """One controller image and what is signed of it in the Image repository (contracts §7).

    `minutes` and `soak_minutes` are minutes, energies Wh, all whole: canonical JSON, over which
    signatures go, has no fractions. `readback` maps a data identifier to the
    text that the new software answers; `memory_check_expected` is the status record in hex.
    """

    path: str
    image: bytes
    version: str
    release_counter: int
    hardware_ids: tuple[str, ...]
    base_versions: tuple[str, ...]
    profile_sha256: str
    readback: Mapping[int, str]
    memory_check_expected: str
    rxswin_before: str
    rxswin_after: str
    memory_check_routine: int = 0x0202
    install_wh: int = 120
    recovery_wh: int = 120
    minutes: int = 25
    soak_minutes: int = 30
    needs_technician: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def custom(self) -> dict[str, Any]:
        """The `custom` object of the Image target; `more` overrides any field of it."""
        return {
            "version": self.version,
            "releaseCounter": self.release_counter,
            "hardwareIds": list(self.hardware_ids),
            "baseVersions": list(self.base_versions),
            "profileSha256": self.profile_sha256,
            "energy": {"install_wh": self.install_wh, "recovery_wh": self.recovery_wh},
            "minutes": self.minutes,
            "readback": [{"did": did, "equals": text} for did, text in self.readback.items()],
            "memoryCheck": {
                "routine": self.memory_check_routine,
                "expected": self.memory_check_expected,
            },
            "rxswin": {"before": self.rxswin_before, "after": self.rxswin_after},
            "needsTechnician": self.needs_technician,
            "soak": {"minutes": self.soak_minutes},
            **self.more,
        }


def add_image(image: Repository, release: ImageRelease) -> None:
    """Describe and hold the release in the Image repository; `publish` makes it known."""
    image.add_target(release.path, release.image, release.custom())
    image.images[release.path] = release.image


def assign(
    director: Repository,
    release: ImageRelease,
    recall: Recall,
    *,
    vin: str,
    ecus: Mapping[str, str],
    correlation_id: str,
    halted: bool = False,
    campaign: Mapping[str, Any] | None = None,
    encrypted: EncryptedImage | None = None,
) -> None:
    """Direct the release to one car; `publish` makes it known.

    `ecus` maps ECU serials to hardware ids; `campaign` overrides fields of the campaign;
    `encrypted` is the image as this car alone can read it, None if it fetches the plain one.
    """
    custom = {
        "ecuIdentifiers": {serial: {"hardwareId": hardware} for serial, hardware in ecus.items()},
        "releaseCounter": release.custom()["releaseCounter"],
        "campaign": recall.custom(vin, minutes=release.minutes, halted=halted)
        | dict(campaign or {}),
    }
    if encrypted is not None:
        custom["encryption"] = encrypted.custom
        director.images[release.path] = encrypted.content
    director.add_target(release.path, release.image, custom)
    director.targets.unrecognized_fields["custom"] = {"correlationId": correlation_id}


def publish_both(image: Repository, director: Repository, now: datetime) -> None:
    """Publish the Image repository, then the Director, as a maker would."""
    image.publish(now)
    director.publish(now)
