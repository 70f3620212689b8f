"""The time server: says what time it is, signed, bound to the nonce of whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from hil_rig.backend.repository import canonical


class TimeServer:
    """Signs attestations by `clock`, which gives aware UTC times."""

    def __init__(self, key: Ed25519PrivateKey, clock: Callable[[], datetime]) -> None:
        self._signer = CryptoSigner(key)
        self._clock = clock

    def attest(self, nonce: str) -> dict[str, Any]:
        """`{"signed": {"time", "nonce"}, "signatures": [{"keyid", "sig"}]}` (contracts §6)."""
        signed = {"time": self._clock().strftime("%Y-%m-%dT%H:%M:%SZ"), "nonce": nonce}
        signature = self._signer.sign(canonical(signed))
        return {
            "signed": signed,
            "signatures": [{"keyid": signature.keyid, "sig": signature.signature}],
        }


def time_key_statement(
    key: Ed25519PublicKey, version: int, not_before: datetime, root_signers: Iterable[Signer]
) -> dict[str, Any]:
    """What makes cars believe another key of the time server, by the Image root's signatures."""
    described = SSlibKey.from_crypto(key)
    signed = {
        "_type": "time-key",
        "version": version,
        "key": described.to_dict(),
        "notBefore": not_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    signatures = [signer.sign(canonical(signed)) for signer in root_signers]
    return {
        "signed": signed,
        "signatures": [{"keyid": each.keyid, "sig": each.signature} for each in signatures],
    }
