"""What the driver must be told, and the signed answer. Pure (requirements D1, D2)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Release
from vehicle_agent.strict_json import canonical, parse_object, unwrap

PublicKey = Ed25519PublicKey

_BOUND = ("activityId", "manifestSha256", "textsSha256", "challenge")


class ConsentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table `[consent]`.

    `hmi_key` is the PEM file with the public key of this car's driver display; `languages` the
    locales in which all driver information has to be there.
    """

    hmi_key: str
    languages: tuple[str, ...] = ("zh-CN", "en")

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("languages is empty; the driver's languages are needed")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the driver said. `not_before` (ISO 8601 with zone, or None) is the earliest start."""

    status: Literal["APPROVED", "DENIED", "POSTPONED"]
    locale: str
    not_before: str | None


class _Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`ownerconsentfeedback`, contracts §6."""

    status: Literal["APPROVED", "DENIED", "POSTPONED"]
    activity_id: str
    manifest_sha256: str
    texts_sha256: str
    locale: str
    challenge: str
    not_before: str | None
    signature: str


def build_request(
    release: Release, activity_id: str, challenge: str, minutes: int
) -> dict[str, object]:
    """The payload of `ownerconsent`: what the answer will be bound to, and the texts to show.

    `challenge` is 16 random bytes in hex, new for each time of asking; `minutes` how long the car
    will be out of use.
    """
    return {
        "activityId": activity_id,
        "manifestSha256": release.manifest_sha256,
        "textsSha256": release.texts_sha256,
        "challenge": challenge,
        "recall": release.campaign.recall,
        "minutes": minutes,
        "texts": {
            locale: msgspec.to_builtins(text) for locale, text in release.campaign.texts.items()
        },
    }


def check_answer(payload: bytes, request: dict[str, object], hmi_key: PublicKey) -> Answer:
    """Read `ownerconsentfeedback` (in an envelope or without) as the answer to `request`.

    An answer counts for one request only: its challenge, update, manifest and texts are signed
    with it. Whoever calls forgets the request with the first answer.

    Raises Refused(CONSENT_INVALID).
    """
    try:
        fields: dict[str, Any] = unwrap(parse_object(payload))
        answer = msgspec.convert(fields, _Feedback)
        signed = canonical({name: fields[name] for name in fields if name != "signature"})
        hmi_key.verify(bytes.fromhex(answer.signature), signed)
    except InvalidSignature:
        raise _invalid("not signed by this car's HMI") from None
    except ValueError as error:
        raise _invalid(str(error)[:160]) from None
    for name in _BOUND:
        if fields[name] != request[name]:
            raise _invalid(f"{name} is not the one asked about")
    texts = request["texts"]
    if not isinstance(texts, dict) or answer.locale not in texts:
        raise _invalid(f"locale {answer.locale[:16]!r} was not shown")
    if answer.not_before is not None:
        _check_time(answer.not_before)
    return Answer(status=answer.status, locale=answer.locale, not_before=answer.not_before)


def _check_time(text: str) -> None:
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise _invalid(f"notBefore {text[:40]!r} is not ISO 8601 with a zone")


def _invalid(what: str) -> Refused:
    return Refused(Code.CONSENT_INVALID, f"consent answer: {what}")
