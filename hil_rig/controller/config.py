"""Configuration of the simulated controller, read from TOML; an example with every key:

    control_socket = "run/adas.sock"   # hil_rig/control.py
    [bus]
    interface = "wire"                 # a python-can interface
    channel = "run/hub.sock"
    fd = true                          # ISO-TP in 64-byte CAN FD frames with bit rate switch
    options = { }                      # more arguments of can.Bus
    request_id = 0x7A0
    response_id = 0x7A8
    functional_id = 0x7DF
    [identity]
    vin = "LXMA7000000000001"
    ecu_serial = "ADAS-0001"
    hardware_id = "adas-hw-3"
    [memory]
    file = "run/adas.flash"            # made if absent; + ".state" beside it
    window = 0x08000000                # address of the bank that is seen
    bank_size = 0x200000
    image = "images/base.bin"          # factory image (bin, ELF, HEX, S-record), or …
    version = "2.3.1"                  # … one generated with these
    rxswin = "R157-HPA-1"
    image_size = 0x40000
    [timing]
    p2_s = 0.05                        # first 0x78 at 0.8 of it
    pending_every_s = 2.0
    s3_s = 5.0
    erase_s = 0.05                     # each 64 KiB
    program_s = 0.0                    # each TransferData
    reset_s = 1.0                      # silence after a reset or power-on, each boot attempt
    [transfer]
    block_length = 4095                # maxNumberOfBlockLength
    fingerprint_required = true        # erase only after F15A
    block_size = 0                     # ISO-TP flow control BS and STmin (raw byte)
    st_min = 0
    [security]                         # without this table there is no 0x27
    key_file = "keys/adas.key"         # 16 bytes as hex text
    attempts = 3
    delay_s = 10.0
    [status]                           # without this table there is no ADAS_Status
    dbc = "dbc/adas.dbc"

Paths are relative to the configuration file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
StandardId = Annotated[int, msgspec.Meta(ge=0, le=0x7FF)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line: file, key, what is allowed."""


class Bus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the controller joins the bus."""

    interface: str
    channel: str
    fd: bool = False
    options: dict[str, str | int | float | bool] = {}
    request_id: StandardId = 0x7A0
    response_id: StandardId = 0x7A8
    functional_id: StandardId = 0x7DF


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What F190, F18C and F191 answer."""

    vin: str
    ecu_serial: str
    hardware_id: str


class Flash(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory file, its map, and what the factory put into bank A."""

    file: Path
    window: Annotated[int, msgspec.Meta(ge=0)] = 0x0800_0000
    bank_size: PositiveInt = 2 << 20
    image: Path | None = None
    version: str = "1.0.0"
    rxswin: str = ""
    image_size: PositiveInt = 256 << 10


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations in seconds."""

    p2_s: Annotated[float, msgspec.Meta(gt=0)] = 0.05
    p2_star_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    pending_every_s: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    s3_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    erase_s: Seconds = 0.05
    program_s: Seconds = 0.0
    reset_s: Seconds = 1.0


class Transfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How data is taken in."""

    block_length: Annotated[int, msgspec.Meta(ge=3, le=0xFFFF_FFFF)] = 4095
    fingerprint_required: bool = True
    block_size: Byte = 0
    st_min: Byte = 0


class SecurityConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """0x27: the file with the key, and the lock-out."""

    key_file: Path
    attempts: PositiveInt = 3
    delay_s: Seconds = 10.0


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the cyclic frame is described."""

    dbc: Path


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    bus: Bus
    identity: Identity
    memory: Flash
    timing: Timing = Timing()
    transfer: Transfer = Transfer()
    security: SecurityConfig | None = None
    status: Status | None = None
    control_socket: Path | None = None


def load(path: Path) -> Config:
    """Read the configuration; its paths become relative to `path`. Raises `ConfigError`."""

    def hook(kind: type, value: object) -> Path:
        if kind is Path and isinstance(value, str):
            return path.parent / value
        raise NotImplementedError(kind)

    try:
        return msgspec.toml.decode(path.read_bytes(), type=Config, dec_hook=hook)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def load_key(path: Path) -> bytes:
    """The security key: 16 bytes as hex text. Raises `ConfigError`, never with the content."""
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError:
        key = b""
    if len(key) != 16:
        raise ConfigError(f"{path}: is not a key of 16 bytes as hex text")
    return key
