"""What the Director may say about a release that the Image role signed: only the stricter. Pure.

So a thief of the Director's online keys can make an update rarer, slower and more demanding, and
nothing else (`docs/contracts.md`, section 7, has the table).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import ReleaseFacts
from vehicle_agent.trust.metadata import canonical_of_parsed, in_words

OWN_FIELDS = frozenset({"ecuIdentifiers", "campaign", "encryption"})
"""Fields of the Director's custom that the Image role does not have."""

UNREAD_FIELDS = frozenset({"name", "targetFormat", "uri", "createdAt", "updatedAt"})
"""Fields that Directors in the field write beside; nothing of ours reads them."""


class _Energy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    install_wh: float | None = None
    recovery_wh: float | None = None


class _Soak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    minutes: float


class _Stricter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields that may differ; None where the Director says nothing."""

    hardware_ids: tuple[str, ...] | None = None
    base_versions: tuple[str, ...] | None = None
    energy: _Energy | None = None
    minutes: int | None = None
    needs_technician: bool | None = None
    soak: _Soak | None = None


_MAY_DIFFER = frozenset(_Stricter.__struct_encode_fields__)


def tighten(
    where: str, facts: ReleaseFacts, director: Mapping[str, Any], image: Mapping[str, Any]
) -> ReleaseFacts:
    """`facts` with what the Director's custom demands beyond them.

    `director` and `image` are both customs, as they stand in the metadata; `where` names the
    target in refusals. Raises Refused: DIRECTOR_LOOSENS, METADATA_MALFORMED.
    """
    for name in director.keys() - OWN_FIELDS - UNREAD_FIELDS - _MAY_DIFFER:
        if name not in image or canonical_of_parsed(director[name]) != canonical_of_parsed(
            image[name]
        ):
            raise _loosens(where, name, "which Image has not signed so")
    try:
        said = msgspec.convert(director, _Stricter)
    except msgspec.ValidationError as error:
        raise Refused(Code.METADATA_MALFORMED, f"{where}, Director: {in_words(error)}") from None
    install, recovery = facts.energy.install_wh, facts.energy.recovery_wh
    if said.energy is not None:
        install = _higher(where, "energy.install_wh", said.energy.install_wh, install)
        recovery = _higher(where, "energy.recovery_wh", said.energy.recovery_wh, recovery)
    soak = None if said.soak is None else said.soak.minutes
    if said.needs_technician is False and facts.needs_technician:
        raise _loosens(where, "needsTechnician", "which Image has set")
    return msgspec.structs.replace(
        facts,
        hardware_ids=_fewer(where, "hardwareIds", said.hardware_ids, facts.hardware_ids),
        base_versions=_fewer(where, "baseVersions", said.base_versions, facts.base_versions),
        energy=msgspec.structs.replace(facts.energy, install_wh=install, recovery_wh=recovery),
        minutes=int(_higher(where, "minutes", said.minutes, facts.minutes)),
        needs_technician=facts.needs_technician or bool(said.needs_technician),
        soak=msgspec.structs.replace(
            facts.soak, minutes=_higher(where, "soak.minutes", soak, facts.soak.minutes)
        ),
    )


def _higher(where: str, name: str, said: float | None, signed: float) -> float:
    if said is not None and said < signed:
        raise _loosens(where, name, f"{said:g} where Image has signed {signed:g}")
    return signed if said is None else said


def _fewer(
    where: str, name: str, said: tuple[str, ...] | None, signed: tuple[str, ...]
) -> tuple[str, ...]:
    if said is None:
        return signed
    more = set(said) - set(signed)
    if more:
        raise _loosens(where, name, f"{sorted(more)[0][:32]!r} is not among what Image has signed")
    return said


def _loosens(where: str, name: str, what: str) -> Refused:
    return Refused(Code.DIRECTOR_LOOSENS, f"{where}: Director says {name[:32]!r}, {what}")
