"""Whether a vehicle version manifest was signed by the car that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hil_rig.backend.repository import canonical


def is_signed_by(key: Ed25519PublicKey, manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest, and each controller's statement in it, bears the key's signature."""
    try:
        statements = manifest["signed"]["ecu_version_manifests"].values()
        return all(_bears(key, part) for part in (manifest, *statements))
    except (AttributeError, KeyError, TypeError):
        return False


def _bears(key: Ed25519PublicKey, part: Mapping[str, Any]) -> bool:
    try:
        payload = canonical(part["signed"])
        for signature in part["signatures"]:
            key.verify(bytes.fromhex(signature["sig"]), payload)
    except (InvalidSignature, ValueError):
        return False
    return bool(part["signatures"])
