"""What the driver's display answers to a question for consent, honest or forged. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.repository import canonical

FIELDS = ("purpose", "changes", "minutes", "unavailable", "instructions")
_POSTPONE = timedelta(hours=8)


class Policy(StrEnum):
    """How the display behaves when asked."""

    APPROVE = "approve"
    DENY = "deny"
    POSTPONE = "postpone"
    ASK = "ask"  # waits for somebody to answer over the control socket
    SILENCE = "silence"
    FORGED_KEY = "forged_key"  # approves, signed by a key that the car does not know
    FORGED_MANIFEST = "forged_manifest"  # approves another manifest than the one asked for
    REPLAY = "replay"  # approves with the challenge of another question


class NotShown(Exception):
    """The question cannot be shown to a driver; the message says what it lacks."""


def shown_texts(question: Mapping[str, Any], locale: str) -> Mapping[str, str]:
    """The words that go on the display. Raises NotShown if one is missing (requirement D1)."""
    texts = question.get("texts")
    words = texts.get(locale) if isinstance(texts, Mapping) else None
    if not isinstance(words, Mapping):
        raise NotShown(f"no texts for {locale}")
    missing = [name for name in FIELDS if not str(words.get(name, "")).strip()]
    if missing:
        raise NotShown(f"texts for {locale} lack {', '.join(missing)}")
    digest = hashlib.sha256(canonical(texts)).hexdigest()
    if digest != question.get("textsSha256"):
        raise NotShown("the texts are not those that textsSha256 names")
    return {name: str(words[name]) for name in FIELDS}


def answer(
    question: Mapping[str, Any],
    policy: Policy,
    *,
    key: Ed25519PrivateKey,
    locale: str,
    now: datetime,
    randomness: Callable[[int], bytes],
    not_before: str | None = None,
) -> dict[str, Any]:
    """The payload of `ownerconsentfeedback` (contracts §6), signed.

    `policy` is none of ASK and SILENCE. `not_before` (ISO 8601) is for POSTPONE, 8 h if not given.
    """
    status = {Policy.DENY: "DENIED", Policy.POSTPONE: "POSTPONED"}.get(policy, "APPROVED")
    later = not_before or (now + _POSTPONE).strftime("%Y-%m-%dT%H:%M:%SZ")
    said: dict[str, Any] = {
        "status": status,
        "activityId": question["activityId"],
        "manifestSha256": question["manifestSha256"],
        "textsSha256": question["textsSha256"],
        "locale": locale,
        "challenge": question["challenge"],
        "notBefore": later if policy is Policy.POSTPONE else None,
    }
    if policy is Policy.FORGED_MANIFEST:
        said["manifestSha256"] = hashlib.sha256(randomness(16)).hexdigest()
    elif policy is Policy.REPLAY:
        said["challenge"] = randomness(16).hex()
    signer = Ed25519PrivateKey.generate() if policy is Policy.FORGED_KEY else key
    return said | {"signature": signer.sign(canonical(said)).hex()}
