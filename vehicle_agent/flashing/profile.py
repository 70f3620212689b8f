"""Controller profile: all that is particular to one kind of controller, in one TOML file.

A new controller is a new profile. Its digest is part of what a release is signed for.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, inspect

from vehicle_agent.refusals import Code, Refused

_MAX_FILE = 1 << 16

Byte = Annotated[int, Meta(ge=0, le=0xFF)]
Identifier = Annotated[int, Meta(ge=0, le=0xFFFF)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Addressing(_Table, frozen=True, kw_only=True):
    """CAN identifiers, normal addressing; `extended`: 29 bits."""

    request: Annotated[int, Meta(ge=0, le=0x1FFFFFFF)]
    response: Annotated[int, Meta(ge=0, le=0x1FFFFFFF)]
    functional: Annotated[int, Meta(ge=0, le=0x1FFFFFFF)]
    extended: bool = False

    def __post_init__(self) -> None:
        limit = 0x1FFFFFFF if self.extended else 0x7FF
        for name in ("request", "response", "functional"):
            if getattr(self, name) > limit:
                raise ValueError(f"{name} must be at most 0x{limit:X}")
        if self.response in (self.request, self.functional):
            raise ValueError("response must differ from request and functional")


class IsoTpParameters(_Table, frozen=True, kw_only=True):
    """ISO 15765-2. `tx_data_length` above 8 means CAN FD frames, 8 classic ones.

    `padding` absent: classic frames stay short. `st_min` (as coded on the bus) and `block_size`
    are what we ask of the controller; `max_length` bounds a response.
    """

    tx_data_length: Literal[8, 12, 16, 20, 24, 32, 48, 64] = 8
    bitrate_switch: bool = False
    padding: Byte | None = None
    st_min: Byte = 0
    block_size: Byte = 0
    max_wait_frames: Byte = 16
    max_length: Annotated[int, Meta(ge=8, le=1 << 24)] = 1 << 16
    n_as_s: Seconds = 1.0
    n_bs_s: Seconds = 1.0
    n_cr_s: Seconds = 1.0


class SessionTiming(_Table, frozen=True, kw_only=True):
    """ISO 14229-2 timing, as seen by the client.

    `pending_cap_s`: how long 0x78 may put off one answer. `reset_s`: silence granted after a
    reset; `restart_s`: how long after that the controller may stay silent. `seed_delay_s`: wait
    after 0x37. `busy_backoff_s`: first wait after 0x21, doubled each time.
    """

    p2_s: Seconds = 0.15
    p2_star_s: Seconds = 5.5
    s3_s: Seconds = 5.0
    pending_cap_s: Seconds = 120.0
    reset_s: Seconds = 0.5
    restart_s: Seconds = 30.0
    seed_delay_s: Seconds = 10.0
    busy_backoff_s: Seconds = 0.1


class SecurityAccess(_Table, frozen=True, kw_only=True):
    """Access `seed-key` (0x27 at odd `level`, key from the named provider) or `none`."""

    access: Literal["none", "seed-key"] = "seed-key"
    level: Annotated[int, Meta(ge=1, le=0x7D)] = 1
    provider: str = "aes-cmac"

    def __post_init__(self) -> None:
        if self.level % 2 == 0:
            raise ValueError("level must be odd: it is the requestSeed sub-function")


class Identifiers(_Table, frozen=True, kw_only=True):
    """Data identifiers; `bank_status` absent for a controller that has none."""

    vin: Identifier = 0xF190
    ecu_serial: Identifier = 0xF18C
    hardware_id: Identifier = 0xF191
    software_version: Identifier = 0xF189
    rxswin: Identifier = 0xF1EF
    fingerprint: Identifier = 0xF15A
    bank_status: Identifier | None = None


class Routines(_Table, frozen=True, kw_only=True):
    """Routine identifiers; absent ones are not asked for."""

    preconditions: Identifier | None = 0x0203
    erase: Identifier = 0xFF00
    check_memory: Identifier = 0x0202
    check_dependencies: Identifier = 0xFF01
    revert: Identifier | None = None
    confirm: Identifier | None = None
    self_test: Identifier | None = None


class CommunicationControl(_Table, frozen=True, kw_only=True):
    """Who is sent 0x28 and which messages fall silent (`type`, the communicationType byte).

    `functional` reaches every controller of the bus, those of the park gate and the drive inhibit
    too: it is allowed only for a named subnet (high nibble 1 to E).
    """

    type: Byte = 0x01
    target: Literal["physical", "functional"] = "physical"

    def __post_init__(self) -> None:
        if self.target == "functional" and self.type >> 4 in (0x0, 0xF):
            raise ValueError(
                "target 'functional' needs a type that names a subnet (0x11 to 0xE3): "
                "without it the frames of the park gate and the drive inhibit would fall silent"
            )


class Window(_Table, frozen=True, kw_only=True):
    """Memory that may be programmed: first address and number of bytes."""

    start: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
    length: Annotated[int, Meta(ge=1, le=1 << 28)]

    def __post_init__(self) -> None:
        if self.start + self.length > 1 << 32:
            raise ValueError("start + length must be at most 0x100000000")

    def holds(self, address: int, length: int) -> bool:
        """Whether all of these bytes are inside."""
        return self.start <= address and address + length <= self.start + self.length


class ProfileFile(_Table, frozen=True, kw_only=True):
    """The file's content; `merge_gap`: holes of an image up to this size are filled with `fill`."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    banks: Literal["ab", "single"]
    drive_without_controller: Literal["degraded", "inhibit"]
    addressing: Addressing
    memory: Annotated[tuple[Window, ...], Meta(min_length=1, max_length=64)]
    isotp: IsoTpParameters = IsoTpParameters()
    session: SessionTiming = SessionTiming()
    security: SecurityAccess = SecurityAccess()
    identifiers: Identifiers = Identifiers()
    routines: Routines = Routines()
    communication_control: CommunicationControl = CommunicationControl()
    max_block_length: Annotated[int, Meta(ge=3, le=1 << 16)] = 4095
    data_format_identifier: Literal[0] = 0
    merge_gap: Annotated[int, Meta(ge=0, le=1 << 20)] = 4096
    fill: Byte = 0xFF


class ControllerProfile(ProfileFile, frozen=True, kw_only=True):
    """A profile and the SHA-256 (hex) of the bytes of its file."""

    sha256: str


def load_profile(path: Path) -> ControllerProfile:
    """Read a profile.

    Raises Refused(CONFIG_INVALID) with one line: file, key, value, what is allowed.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
        if len(raw) > _MAX_FILE:
            raise Refused(Code.CONFIG_INVALID, f"{path}: more than {_MAX_FILE} bytes")
        table = tomllib.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib raises more than its own
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error}") from error
    try:
        content = msgspec.convert(table, ProfileFile)
    except msgspec.ValidationError as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {_explain(str(error), table)}") from error
    fields = {name: getattr(content, name) for name in content.__struct_fields__}
    return ControllerProfile(**fields, sha256=hashlib.sha256(raw).hexdigest())


def _explain(message: str, table: dict[str, Any]) -> str:
    """msgspec's message with key, value and, for a choice, the allowed values."""
    problem, _, place = message.partition(" - at `$")
    keys = place.rstrip("`").replace("[", ".[").strip(".").split(".") if place else []
    value: Any = table
    shape: Any = inspect.type_info(ProfileFile)
    for key in keys:
        if key.startswith("["):
            index = key.strip("[]")
            value = value[int(index)] if index.isdigit() else value
            shape = shape.item_type
        else:
            value = value.get(key) if isinstance(value, dict) else value
            shape = next((f.type for f in shape.fields if f.encode_name == key), shape)
    if not keys:
        return problem
    allowed = ""
    if isinstance(shape, inspect.LiteralType):
        allowed = f"; allowed: {', '.join(map(repr, shape.values))}"
    name = ".".join(keys).replace(".[", "[")
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"{name}{shown}: {problem}{allowed}"
