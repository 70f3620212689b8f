"""Is this car in the recall, and may this release follow what it has? Pure (requirement B4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Release, Texts


def check(
    release: Release,
    identity: VehicleIdentity,
    *,
    installed_version: str | None,
    languages: Sequence[str],
    profile_sha256: str,
) -> None:
    """Raise Refused with the first reason, in a fixed order, why this car must not get `release`.

    `installed_version` is what the controller answers to F189; None while it has not been asked:
    then ALREADY_INSTALLED and BASE_VERSION_MISMATCH are left for the check before the erase.
    `languages` are the locales that the driver must be informed in, `profile_sha256` the digest of
    the controller profile in use.
    """
    for code, detail in _reasons(release, identity, installed_version, languages, profile_sha256):
        raise Refused(code, detail)


def _reasons(
    release: Release,
    identity: VehicleIdentity,
    installed_version: str | None,
    languages: Sequence[str],
    profile_sha256: str,
) -> Iterator[tuple[Code, str]]:
    campaign, facts = release.campaign, release.facts
    if campaign.vin != identity.vin:
        yield Code.VIN_MISMATCH, f"campaign is for VIN {campaign.vin!r}, this car is {identity.vin}"
    if campaign.halted:
        yield Code.CAMPAIGN_HALTED, f"recall {campaign.recall!r} is halted"
    if identity.model not in campaign.models:
        yield (
            Code.MODEL_NOT_AFFECTED,
            f"model {identity.model!r}, the campaign names {', '.join(campaign.models)}",
        )
    window = campaign.production_window
    if not window.first <= identity.production_date <= window.last:
        yield (
            Code.BUILD_DATE_NOT_AFFECTED,
            f"built {identity.production_date}, the campaign has {window.first} to {window.last}",
        )
    for name in ("recall", "authority", "filing"):
        if not getattr(campaign, name).strip():
            yield Code.FILING_MISSING, f"campaign: {name!r} is empty"
    for language in languages:
        missing = _missing_texts(campaign.texts.get(language))
        if missing:
            yield Code.TEXTS_MISSING, f"campaign texts in {language!r} lack {', '.join(missing)}"
    if facts.profile_sha256 != profile_sha256:
        yield (
            Code.PROFILE_MISMATCH,
            f"signed for profile {facts.profile_sha256[:16]!r}, in use is {profile_sha256[:16]!r}",
        )
    if facts.needs_technician:
        yield Code.NEEDS_TECHNICIAN, f"release {facts.version!r} is for skilled persons only"
    if installed_version is None:
        return
    if installed_version == facts.version:
        yield Code.ALREADY_INSTALLED, f"the controller runs {installed_version!r}"
    if installed_version not in facts.base_versions:
        yield (
            Code.BASE_VERSION_MISMATCH,
            f"the controller runs {installed_version!r}, "
            f"{facts.version!r} may follow {', '.join(facts.base_versions)}",
        )


def _missing_texts(texts: Texts | None) -> list[str]:
    fields = Texts.__struct_fields__
    return [name for name in fields if texts is None or not getattr(texts, name).strip()]
