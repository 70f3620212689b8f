"""The agent's configuration: one TOML file, composed of the rooms' own typed tables.

Paths in it are relative to the file itself; durations are seconds (`*_s`), sizes bytes. An error
names file, key, value and what is allowed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from vehicle_agent.bus import BusConfig
from vehicle_agent.consent import ConsentConfig
from vehicle_agent.console.server import ConsoleConfig
from vehicle_agent.download import DownloadConfig
from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.notices.mqtt import MqttConfig
from vehicle_agent.parking.inhibit import InhibitConfig
from vehicle_agent.parking.park_config import ParkConfig
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.verifier import TrustConfig


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[agent]`: what belongs to no room.

    `state_dir`: journal, images and console socket. `security_key`: key file of the controllers'
    security provider, mode 0600, or none.
    """

    state_dir: str
    security_key: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. `base` is its folder, against which paths are resolved."""

    agent: AgentConfig
    vehicle: VehicleIdentity
    bus: dict[str, BusConfig]
    mqtt: MqttConfig
    trust: TrustConfig
    download: DownloadConfig
    consent: ConsentConfig
    park: ParkConfig
    inhibit: InhibitConfig
    console: ConsoleConfig = ConsoleConfig()
    base: Path = Path()

    def path(self, value: str) -> Path:
        """Resolve a path of the file."""
        return self.base / value

    @property
    def state_dir(self) -> Path:
        """The folder of everything that the agent remembers."""
        return self.path(self.agent.state_dir)

    @property
    def console_socket(self) -> Path:
        """Where the local console stands."""
        return self.path(self.console.socket or f"{self.agent.state_dir}/console.sock")


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises `Refused(CONFIG_INVALID)` with file, key, value and what is allowed.
    """
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {_explain(str(error))}") from error
    _check_references(path, config)
    return msgspec.structs.replace(config, base=path.resolve().parent)


def _explain(message: str) -> str:
    """Turn `... - at `$.mqtt.port`` into `mqtt.port: ...`."""
    text, separator, where = message.rpartition(" - at `$.")
    return f"{where.rstrip('`')}: {text}" if separator else message


def _check_references(path: Path, config: Config) -> None:
    """Every bus that a table names must be there."""
    named = [(f"vehicle.ecus[{e.component}].bus", e.bus) for e in config.vehicle.ecus]
    named += [("inhibit.bus", config.inhibit.bus)]
    if config.park.bus is not None:
        named.append(("park.bus", config.park.bus))
    for key, bus in named:
        if bus not in config.bus:
            allowed = ", ".join(f"{name!r}" for name in config.bus) or "none is defined"
            raise Refused(
                Code.CONFIG_INVALID, f"{path}: {key} = {bus!r} has no table [bus.{bus}]; {allowed}"
            )
    if config.base != Path():
        raise Refused(Code.CONFIG_INVALID, f"{path}: base: no such key")
