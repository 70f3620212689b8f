"""Encrypts an image for one car, in the way that the Director's targets then describe.

`HPKE-X25519-HKDF-SHA256-AES256GCM+STREAM-AES256GCM-64K`: pieces of 64 KiB, each sealed with
AES-256-GCM under a content key of its own; nonce = 7 random bytes, piece number (4 bytes, big
endian), 1 for the last piece and 0 for the others. The content key is sealed for the car's X25519
key by HPKE (RFC 9180, base mode) with `info` = algorithm, line feed, SHA-256 of the image in hex.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

ALGORITHM = "HPKE-X25519-HKDF-SHA256-AES256GCM+STREAM-AES256GCM-64K"
_PIECE = 1 << 16
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True)
class EncryptedImage:
    """What the Director serves, and `custom.encryption` of its target."""

    content: bytes
    custom: dict[str, Any]


def encrypt_image(image: bytes, recipient: X25519PublicKey) -> EncryptedImage:
    """Encrypt `image` for the holder of `recipient`'s private key; never twice the same."""
    content_key, prefix = secrets.token_bytes(32), secrets.token_bytes(7)
    seal = AESGCM(content_key)
    starts = range(0, len(image), _PIECE) or range(1)
    content = b"".join(
        seal.encrypt(
            prefix + number.to_bytes(4, "big") + bytes([start == starts[-1]]),
            image[start : start + _PIECE],
            None,
        )
        for number, start in enumerate(starts)
    )
    info = f"{ALGORITHM}\n{hashlib.sha256(image).hexdigest()}".encode()
    custom = {
        "algorithm": ALGORITHM,
        "recipient": hashlib.sha256(recipient.public_bytes_raw()).hexdigest(),
        "sealedKey": _SUITE.encrypt(content_key, recipient, info=info).hex(),
        "nonce": prefix.hex(),
        "length": len(content),
        "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
    }
    return EncryptedImage(content, custom)
