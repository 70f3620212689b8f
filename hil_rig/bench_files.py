"""The configuration files of a whole bench in one folder: one car, its controller, its backend."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from hil_rig.bench_image import BANK_SIZE, WINDOW, BenchImage, fit
from hil_rig.firmware import FirmwareError, make_image

PROJECT = Path(__file__).resolve().parent.parent
RXSWIN = "R157-HPA-1"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is on the bench. Durations in seconds, sizes in bytes.

    `bus` is "wire" or the name of a SocketCAN interface. `image` is a firmware file of its own
    instead of a generated one of `image_size`; memory map, profile and release fit it. `pace`
    hurries the car's manoeuvres.
    """

    bus: str = "wire"
    bitrate: int = 500_000
    data_bitrate: int = 2_000_000
    vin: str = "LNBXMA7R2RB000149"
    model: str = "XMA7000MBEVR2"
    production_date: str = "2024-05-17"
    ecu_serial: str = "ADAS-24051700149"
    hardware_id: str = "adas-hw-3"
    version_before: str = "2.3.1"
    version: str = "2.4.0"
    image: Path | None = None
    image_size: int = 1 << 20
    soak_minutes: int = 0
    driving: bool = True
    pace: float = 1.0
    consent: str = "approve"
    erase_s: float = 0.05
    program_s: float = 0.0
    reset_s: float = 1.0
    profile_changes: tuple[tuple[str, str], ...] = ()
    agent_changes: tuple[tuple[str, str], ...] = ()
    sockets: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="rig-")))

    @property
    def hub(self) -> Path:
        """Socket of the software wire."""
        return self.sockets / "hub"

    def control(self, part: str) -> Path:
        """Control socket of a part; short, because socket paths are."""
        return self.sockets / part

    def bus_table(self, indent: str = "") -> str:
        """The keys by which a part joins the bus."""
        wire = self.bus == "wire"
        lines = (
            f'interface = "{"wire" if wire else "socketcan"}"',
            f'channel = "{self.hub if wire else self.bus}"',
            "fd = true",
        )
        return "\n".join(indent + line for line in lines)


def write_bench(bench: Bench, folder: Path, *, mqtt_port: int, mqtt_version: int) -> None:
    """Write everything that exists before the backend has made its keys (see `write_agent`)."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_security_key(folder / "adas.key")
    path = _write_image(bench, folder / "release.image")
    profile = _changed_profile(bench)
    table = tomllib.loads(profile)
    image = fit(path, merge_gap=table.get("merge_gap", 4096), fill=table.get("fill", 0xFF))
    profile = _with_memory(profile, image)
    (folder / "adas.toml").write_text(profile)
    mqtt = f'host = "127.0.0.1"\nport = {mqtt_port}\nversion = {mqtt_version}'
    (folder / "car.toml").write_text(_car(bench))
    (folder / "controller.toml").write_text(_controller(bench, image))
    (folder / "backend.toml").write_text(_backend(bench, folder, profile, image, mqtt))
    (folder / "hmi.toml").write_text(_hmi(bench, folder, mqtt))


def write_agent(bench: Bench, folder: Path, *, mqtt_port: int, mqtt_version: int) -> Path:
    """Write the agent's configuration; `folder` holds the keys that the backend provisioned."""
    provisioned = f"backend/cars/{bench.vin}"
    text = _AGENT.format(
        bench=bench,
        bus=bench.bus_table(),
        provisioned=provisioned,
        adas_dbc=PROJECT / "dbc" / "adas.dbc",
        mqtt_port=mqtt_port,
        mqtt_version=mqtt_version,
        console=bench.control("agent"),
    )
    for old, new in bench.agent_changes:
        if old not in text:
            raise ValueError(f"agent.toml has no {old!r}")
        text = text.replace(old, new)
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def _write_security_key(path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16) + "\n")


def _changed_profile(bench: Bench) -> str:
    text = (PROJECT / "vehicle_agent" / "flashing" / "adas.toml").read_text()
    changes = (
        ("tx_data_length = 8", "tx_data_length = 64\nbitrate_switch = true"),
        *bench.profile_changes,
    )
    for old, new in changes:
        if old not in text:
            raise ValueError(f"the profile has no {old!r}")
        text = text.replace(old, new)
    return text


def _with_memory(profile: str, image: BenchImage) -> str:
    """The profile with the memory map of the image, where that is not the profile's own."""
    if (image.window, image.bank_size) == (WINDOW, BANK_SIZE):
        return profile
    before, mark, _ = profile.partition("[[memory]]\n")
    return f"{before}{mark}start = 0x{image.window:08X}\nlength = 0x{image.bank_size:X}\n"


def _write_image(bench: Bench, path: Path) -> Path:
    if bench.image is not None:
        try:
            path.write_bytes(bench.image.read_bytes())
        except OSError as error:
            raise FirmwareError(f"{bench.image}: {error.strerror}") from error
    else:
        content = make_image(
            bench.version, RXSWIN, bench.hardware_id, size=bench.image_size, seed=149
        )
        path.write_bytes(content)
    return path


_AGENT = """\
[agent]
state_dir = "state"
security_key = "adas.key"

[vehicle]
vin = "{bench.vin}"
model = "{bench.model}"
production_date = {bench.production_date}
[[vehicle.ecus]]
component = "adas-controller"
serial = "{bench.ecu_serial}"
hardware_id = "{bench.hardware_id}"
profile = "adas.toml"
bus = "adas"

[bus.vehicle]
{bus}
[bus.adas]
{bus}

[mqtt]
host = "127.0.0.1"
port = {mqtt_port}
version = {mqtt_version}

[trust]
directory = "state/trust"
director_root = "{provisioned}/director-root.json"
director_offline_root = "{provisioned}/director-offline-root.json"
image_root = "{provisioned}/image-root.json"
time_key = "{provisioned}/time.pub"
vehicle_key = "{provisioned}/vehicle.key"
image_key = "{provisioned}/image.key"
allowed_hosts = ["localhost"]

[download]
ca = "{provisioned}/ca.pem"

[consent]
hmi_key = "{provisioned}/hmi.pub"
languages = ["zh-CN", "en"]

[park]
condition_set = "project"
bus = "vehicle"

[inhibit]
bus = "vehicle"
dbc = ["{adas_dbc}"]
[inhibit.request]
message = "OTA_DriveInhibit"
inhibit = {{ OTA_InhibitRequest = "INHIBIT" }}
release = {{ OTA_InhibitRequest = "RELEASE" }}
reason_signal = "OTA_InhibitReason"
[inhibit.status]
message = "DU_InhibitStatus"
signal = "DU_Inhibited"
acknowledged = "YES"

[console]
socket = "{console}"
"""


def _car(bench: Bench) -> str:
    return f"""\
[bus]
{bench.bus_table()}
[car]
vehicle_dbc = "{PROJECT / "dbc" / "vehicle.dbc"}"
adas_dbc = "{PROJECT / "dbc" / "adas.dbc"}"
control = "{bench.control("car")}"
driving = {str(bench.driving).lower()}
pace = {bench.pace}
"""


def _controller(bench: Bench, image: BenchImage) -> str:
    return f"""\
control_socket = "{bench.control("controller")}"
[bus]
{bench.bus_table()}
[identity]
vin = "{bench.vin}"
ecu_serial = "{bench.ecu_serial}"
hardware_id = "{bench.hardware_id}"
[memory]
file = "adas.flash"
window = {image.window}
bank_size = {image.bank_size}
version = "{bench.version_before}"
rxswin = "{RXSWIN}"
[timing]
erase_s = {bench.erase_s}
program_s = {bench.program_s}
reset_s = {bench.reset_s}
[security]
key_file = "adas.key"
[status]
dbc = "{PROJECT / "dbc" / "adas.dbc"}"
"""


def _backend(bench: Bench, folder: Path, profile: str, image: BenchImage, mqtt: str) -> str:
    return f"""\
folder = "{folder / "backend"}"
control = "{bench.control("backend")}"
vins = ["{bench.vin}"]
[mqtt]
{mqtt}
[ecu]
serial = "{bench.ecu_serial}"
hardware_id = "{bench.hardware_id}"
[release]
image = "{image.path}"
version = "{image.version}"
counter = 7
base_versions = ["{bench.version_before}"]
profile_sha256 = "{hashlib.sha256(profile.encode()).hexdigest()}"
rxswin_before = "{RXSWIN}"
rxswin_after = "{image.rxswin or RXSWIN}"
memory_check_expected = "{image.memory_check}"
soak_minutes = {bench.soak_minutes}
"""


def _hmi(bench: Bench, folder: Path, mqtt: str) -> str:
    return f"""\
vin = "{bench.vin}"
key = "{folder / "backend" / "cars" / bench.vin / "hmi.key"}"
control = "{bench.control("hmi")}"
policy = "{bench.consent}"
[mqtt]
{mqtt}
"""
