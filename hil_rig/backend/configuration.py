"""Configuration of the backend (TOML), and the release that it describes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hil_rig.backend.mqtt_link import MqttConfig
from hil_rig.backend.release import ImageRelease


class EcuConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The controller that the campaign is for, in every car alike."""

    serial: str
    hardware_id: str


class ReleaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The release to offer; names as in contracts §7, times in minutes, energies in Wh.

    `readback` maps data identifiers in hex to what they answer; without it F189 answers `version`
    and F1EF `rxswin_after`. `memory_check_expected` is a status record in hex.
    """

    image: str
    version: str
    counter: int
    base_versions: tuple[str, ...]
    profile_sha256: str
    rxswin_before: str
    rxswin_after: str
    memory_check_expected: str
    memory_check_routine: int = 0x0202
    readback: dict[str, str] = {}
    install_wh: int = 120
    recovery_wh: int = 120
    minutes: int = 25
    soak_minutes: int = 30
    needs_technician: bool = False


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configuration of the backend; paths as in the file, `https_port` 0 takes a free one."""

    folder: str
    control: str
    vins: tuple[str, ...]
    mqtt: MqttConfig
    ecu: EcuConfig
    release: ReleaseConfig
    recall: str = "S2025M0149I"
    https_port: int = 0


def release_of(config: BackendConfig) -> ImageRelease:
    """The release that the configuration describes, its image read from disk."""
    given = config.release
    path = Path(given.image)
    readback = {int(did, 16): text for did, text in given.readback.items()}
    return ImageRelease(
        path=path.name,
        image=path.read_bytes(),
        version=given.version,
        release_counter=given.counter,
        hardware_ids=(config.ecu.hardware_id,),
        base_versions=given.base_versions,
        profile_sha256=given.profile_sha256,
        readback=readback or {0xF189: given.version, 0xF1EF: given.rxswin_after},
        memory_check_expected=given.memory_check_expected,
        memory_check_routine=given.memory_check_routine,
        rxswin_before=given.rxswin_before,
        rxswin_after=given.rxswin_after,
        install_wh=given.install_wh,
        recovery_wh=given.recovery_wh,
        minutes=given.minutes,
        soak_minutes=given.soak_minutes,
        needs_technician=given.needs_technician,
    )
