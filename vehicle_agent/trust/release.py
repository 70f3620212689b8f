"""Director targets and Image targets together: which release is this controller to have? Pure.

Uptane, full verification, the last steps. Director's targets: "no delegations", "no ECU identifier
is represented more than once", every ECU of this car. Then the Image repository's description of
the same target: "the hashes, the length, ... hardware identifiers and release counters" agree,
and the release counter is not lower than what the car has had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from tuf.api.metadata import TargetFile, Targets

from vehicle_agent.identity import EcuIdentity, VehicleIdentity
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Campaign, ImageEncryption, Release, ReleaseFacts
from vehicle_agent.trust.delegations import Located
from vehicle_agent.trust.metadata import (
    canonical_of_parsed,
    digest_of_parsed,
    in_words,
    known_hashes,
)
from vehicle_agent.trust.tightening import tighten

_TEXT_FIELDS = ("purpose", "changes", "minutes", "unavailable", "instructions")


@dataclass(frozen=True, slots=True)
class Directed:
    """What the Director has chosen for one controller."""

    ecu: EcuIdentity
    path: str
    target: TargetFile
    correlation_id: str


def directed_to(component: str, identity: VehicleIdentity, director: Targets) -> Directed:
    """Uptane, check Targets metadata of the Director, and its target for `component`.

    All of the file is checked, other controllers' targets too. Raises Refused: UNKNOWN_COMPONENT,
    DIRECTOR_DELEGATION, DIRECTOR_REPEATED_ECU_ID, BAD_ECU_ID, BAD_HARDWARE_ID, METADATA_MALFORMED;
    NO_UPDATE if it has none, as for a car that a staged campaign has not reached: no attack.
    """
    ecu = identity.ecu(component)
    if ecu is None:
        raise Refused(Code.UNKNOWN_COMPONENT, f"{component!r} is not in the configuration")
    path, target = _directed(director, identity, ecu)
    return Directed(ecu, path, target, _correlation_id(director))


def is_halted(directed: Directed) -> bool:
    """Whether the Director has halted the campaign of this target."""
    campaign = _custom("Director", directed.target).get("campaign")
    return isinstance(campaign, dict) and campaign.get("halted") is True


def release_for(
    directed: Directed,
    located: Located | None,
    *,
    image_url: str,
    counter_floor: int,
    signed_by: tuple[str, ...],
    hash_prefixed: bool = False,
) -> Release:
    """The release that both repositories name for a controller of this car.

    `located` is what the Image repository says of `directed.path`; `image_url` that repository's
    address; `counter_floor` the lowest release counter that this controller may still get;
    `signed_by` the key ids that signed both roles; `hash_prefixed` as consistent snapshots name
    targets.

    Raises Refused: BAD_HARDWARE_ID, TARGET_MISMATCH, DIRECTOR_LOOSENS, RELEASE_COUNTER_TOO_LOW,
    TEXTS_MISSING, FILING_MISSING, METADATA_MALFORMED.
    """
    ecu, path = directed.ecu, directed.path
    if located is None:
        raise Refused(
            Code.TARGET_MISMATCH, f"target {path!r}: the Image repository does not have it"
        )
    described = located.target
    image_custom, director_custom = (
        _custom("Image", described),
        _custom("Director", directed.target),
    )
    facts = _convert(f"Image target {path!r}", image_custom, ReleaseFacts)
    _check_hardware(path, ecu, facts)
    _check_alike(path, directed.target, described, director_custom, image_custom)
    facts = tighten(f"target {path!r}", facts, director_custom, image_custom)
    _check_hardware(path, ecu, facts)
    if facts.release_counter < counter_floor:
        raise Refused(
            Code.RELEASE_COUNTER_TOO_LOW,
            f"target {path!r}: release counter {facts.release_counter}, "
            f"the car has had {counter_floor}",
        )
    known = known_hashes(f"target {path!r}", described.hashes)
    sha256 = described.hashes.get("sha256")
    if sha256 is None:
        raise Refused(Code.METADATA_MALFORMED, f"target {path!r}: has no sha256")
    campaign = _campaign(path, director_custom)
    return Release(
        component=ecu.component,
        ecu_serial=ecu.serial,
        hardware_id=ecu.hardware_id,
        filepath=path,
        length=described.length,
        sha256=sha256,
        hashes={name: described.hashes[name] for name in known},
        image_url=f"{image_url.rstrip('/')}/targets/{quote(_served(path, sha256, hash_prefixed))}",
        facts=facts,
        campaign=campaign,
        correlation_id=directed.correlation_id,
        manifest_sha256=digest_of_parsed(
            {
                "director": _entry(directed.target, director_custom),
                "image": _entry(described, image_custom),
            }
        ),
        texts_sha256=digest_of_parsed(msgspec.to_builtins(campaign.texts)),
        signed_by=signed_by,
        encryption=_encryption(path, director_custom),
    )


def _directed(
    director: Targets, identity: VehicleIdentity, ecu: EcuIdentity
) -> tuple[str, TargetFile]:
    """The Director's target for `ecu`: path and entry."""
    if director.delegations is not None:
        raise Refused(Code.DIRECTOR_DELEGATION, "director targets: delegations are not allowed")
    chosen: dict[str, tuple[str, TargetFile]] = {}
    for path, target in director.targets.items():
        _check_path(path)
        for serial, hardware_id in _ecu_identifiers(path, target).items():
            if serial in chosen:
                raise Refused(
                    Code.DIRECTOR_REPEATED_ECU_ID, f"director targets: ECU {serial!r} named twice"
                )
            known = identity.ecu_by_serial(serial)
            if known is None:
                raise Refused(
                    Code.BAD_ECU_ID, f"director target {path!r}: this car has no ECU {serial!r}"
                )
            if hardware_id != known.hardware_id:
                raise Refused(
                    Code.BAD_HARDWARE_ID,
                    f"director target {path!r}: hardware {hardware_id!r} for ECU {serial!r}, "
                    f"which is {known.hardware_id!r}",
                )
            chosen[serial] = (path, target)
    if ecu.serial not in chosen:
        raise Refused(Code.NO_UPDATE, f"director targets: nothing for ECU {ecu.serial!r}")
    return chosen[ecu.serial]


def _ecu_identifiers(path: str, target: TargetFile) -> dict[str, str]:
    ecus = _custom("Director", target).get("ecuIdentifiers")
    if not isinstance(ecus, dict) or not ecus:
        raise Refused(
            Code.METADATA_MALFORMED, f"director target {path!r}: custom.ecuIdentifiers is missing"
        )
    hardware_ids = {}
    for serial, ecu in ecus.items():
        hardware_id = ecu.get("hardwareId") if isinstance(ecu, dict) else None
        if not isinstance(hardware_id, str):
            raise Refused(
                Code.METADATA_MALFORMED, f"director target {path!r}: ECU without hardwareId"
            )
        hardware_ids[serial] = hardware_id
    return hardware_ids


def _served(path: str, sha256: str, hash_prefixed: bool) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{sha256}.{name}" if hash_prefixed else path


def _check_hardware(path: str, ecu: EcuIdentity, facts: ReleaseFacts) -> None:
    if ecu.hardware_id not in facts.hardware_ids:
        raise Refused(
            Code.BAD_HARDWARE_ID,
            f"target {path!r}: hardware {ecu.hardware_id!r}, it is for {list(facts.hardware_ids)}",
        )


def _check_alike(
    path: str,
    directed: TargetFile,
    described: TargetFile,
    director_custom: Mapping[str, Any],
    image_custom: Mapping[str, Any],
) -> None:
    """Length, all hashes and release counter are equal in both."""
    compared = (
        ("length", directed.length, described.length),
        ("hashes", directed.hashes, described.hashes),
        ("releaseCounter", director_custom.get("releaseCounter"), image_custom["releaseCounter"]),
    )
    for name, ours, theirs in compared:
        if canonical_of_parsed(ours) != canonical_of_parsed(theirs):
            raise Refused(
                Code.TARGET_MISMATCH,
                f"target {path!r}: {name} differs between Director and Image repository",
            )


def _campaign(path: str, custom: Mapping[str, Any]) -> Campaign:
    where = f"director target {path!r}, campaign"
    campaign = custom.get("campaign")
    if not isinstance(campaign, dict):
        raise Refused(Code.METADATA_MALFORMED, f"{where}: is missing")
    if not campaign.get("filing"):
        raise Refused(Code.FILING_MISSING, f"{where}: 'filing' is missing")
    texts = campaign.get("texts")
    if not isinstance(texts, dict) or not texts:
        raise Refused(Code.TEXTS_MISSING, f"{where}: 'texts' is missing")
    for locale, fields in texts.items():
        for name in _TEXT_FIELDS:
            text = fields.get(name) if isinstance(fields, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise Refused(Code.TEXTS_MISSING, f"{where}: texts.{locale[:16]}.{name} is missing")
    return _convert(where, campaign, Campaign)


def _encryption(path: str, custom: Mapping[str, Any]) -> ImageEncryption | None:
    if "encryption" not in custom:
        return None
    where = f"director target {path!r}, encryption"
    encryption = _convert(where, custom["encryption"], ImageEncryption)
    known_hashes(where, encryption.hashes)
    return encryption


_Shape = TypeVar("_Shape", Campaign, ImageEncryption, ReleaseFacts)


def _convert(where: str, value: Mapping[str, Any], shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise Refused(Code.METADATA_MALFORMED, f"{where}: {in_words(error)}") from None


def _custom(repository: str, target: TargetFile) -> dict[str, Any]:
    custom = target.custom
    if not isinstance(custom, dict):
        raise Refused(
            Code.METADATA_MALFORMED, f"{repository} target {target.path!r}: custom is missing"
        )
    return custom


def _entry(target: TargetFile, custom: Mapping[str, Any]) -> dict[str, Any]:
    return {"length": target.length, "hashes": target.hashes, "custom": custom}


def _correlation_id(director: Targets) -> str:
    custom = director.unrecognized_fields.get("custom")
    value = custom.get("correlationId") if isinstance(custom, dict) else None
    return value if isinstance(value, str) else ""


def _check_path(path: str) -> None:
    if not path.isprintable() or any(part in ("", ".", "..") for part in path.split("/")):
        raise Refused(
            Code.METADATA_MALFORMED, f"director target {path[:64]!r}: not a plain relative path"
        )
