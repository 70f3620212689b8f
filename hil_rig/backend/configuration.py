"""Configuration of the backend (TOML), and the release that it describes.

folder = "build/maker"                  # keys, metadata, reports, what each car needs
control = "build/maker.sock"
vins = ["LXMA7000MBEV00001"]
recall = "S2025M0149I"
https_port = 0                          # 0: a free one; `info` tells which
[mqtt]
host = "127.0.0.1"
port = 1883
version = 5                             # 4 is MQTT 3.1.1
[ecu]
serial = "ADAS-0001"
hardware_id = "ADAS-HW-3"
[release]
image = "build/adas-2.4.0.bin"
version = "2.4.0"
counter = 24
base_versions = ["2.3.1"]
profile_sha256 = "…64 hex digits…"
rxswin_before = "…"
rxswin_after = "…"
memory_check_expected = "00…"           # status record of routine 0202, in hex
soak_minutes = 30
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from hil_rig.backend.campaign import RECALLS
from hil_rig.backend.mqtt_link import MqttConfig
from hil_rig.backend.release import ImageRelease

_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")


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

    def __post_init__(self) -> None:
        """Raise ValueError for a recall or VIN that cannot be."""
        if self.recall not in RECALLS:
            raise ValueError(f"recall {self.recall!r}; one of {', '.join(RECALLS)}")
        if not self.vins:
            raise ValueError("vins is empty; at least one car is needed")
        for vin in self.vins:
            if not _VIN.fullmatch(vin):
                raise ValueError(f"vins has {vin!r}; 17 letters (no I, O, Q) and digits are needed")


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
