"""The agent's configuration: one TOML file, composed of the rooms' own typed tables.

Paths in it are relative to the file itself; durations are seconds (`*_s`), sizes bytes. An error
names file, key, value and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

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

    def __post_init__(self) -> None:
        if not self.state_dir:
            raise ValueError("state_dir is empty; a folder is needed")


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
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error}") from error
    except RecursionError:
        raise Refused(Code.CONFIG_INVALID, f"{path}: nested too deep") from None
    try:
        _check_texts(raw, ())
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {_explain(raw, str(error))}") from None
    _check_references(path, config)
    return msgspec.structs.replace(config, base=path.resolve().parent)


def _check_texts(value: Any, keys: tuple[str, ...]) -> None:
    """A NUL character has no place in a path or a name; every other text is checked by its room."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(inner, (*keys, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_texts(inner, (*keys, str(number)))
    elif isinstance(value, str) and "\0" in value:
        raise msgspec.ValidationError(f"{'.'.join(keys)} = {value!r}: a NUL is not allowed")


def _explain(raw: dict[str, Any], message: str) -> str:
    """Turn `... - at `$.mqtt.port`` into `mqtt.port = 'x': ...` and what is allowed there."""
    text, _, where = message.partition(" - at `$")
    value: Any = raw
    shape: Any = inspect.type_info(Config)
    name = ""
    for step in re.findall(r"\.\.\.|[^.\[\]]+", where.rstrip("`")):
        unnamed = step == "..." and isinstance(value, dict)
        key = _culprit(raw, message, value) if unnamed else step
        if isinstance(value, list):
            name, value, shape = f"{name}[{key}]", value[int(key)], _inner(shape, key)
        else:
            name = f"{name}.{key}".lstrip(".")
            value, shape = value.get(key) if isinstance(value, dict) else value, _inner(shape, key)
    shown = "" if isinstance(value, dict | list) else f" = {value!r}"
    place = f"{name}{shown}: " if name else ""
    return f"{place}{text}{_allowed(shape, text)}"


def _culprit(raw: dict[str, Any], message: str, table: dict[str, Any]) -> str:
    """The key of `table`, a part of `raw`, without whose value the same message does not come."""
    for key, value in list(table.items()):
        del table[key]
        try:
            msgspec.convert(raw, Config)
            found = ""
        except msgspec.ValidationError as error:
            found = str(error)
        table[key] = value
        if found != message:
            return key
    return ""


def _inner(shape: Any, key: str) -> Any:
    """The type behind a key of a table or an entry of a list; None where it is not known."""
    if isinstance(shape, inspect.UnionType):
        known = [each for each in shape.types if not isinstance(each, inspect.NoneType)]
        shape = known[0] if len(known) == 1 else None
    if isinstance(shape, inspect.StructType):
        return next((f.type for f in shape.fields if f.encode_name == key), None)
    if isinstance(shape, inspect.DictType):
        return shape.value_type
    return getattr(shape, "item_type", None)


def _allowed(shape: Any, text: str) -> str:
    if isinstance(shape, inspect.LiteralType):
        return f"; allowed: {', '.join(map(repr, shape.values))}"
    if isinstance(shape, inspect.StructType) and "unknown field" in text:
        return f"; allowed: {', '.join(field.encode_name for field in shape.fields)}"
    return ""


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
