"""Keys: the car's own signing key, and public keys of others. Private keys are never logged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.signer import SSlibKey

from vehicle_agent.refusals import Code, Refused


class Signer(Protocol):
    """Signs for the car; a file now, a PKCS#11 token can take its place."""

    @property
    def keyid(self) -> str:
        """Key id as in TUF: digest of the public key's description."""
        ...

    @property
    def public_key(self) -> Ed25519PublicKey:
        """By what others check the signatures."""
        ...

    def sign(self, payload: bytes) -> bytes:
        """The Ed25519 signature over `payload`; raises Refused(SIGNER_UNAVAILABLE)."""
        ...


class FileSigner:
    """An Ed25519 key in a PEM file (PKCS8) that its owner alone may read."""

    def __init__(self, path: Path) -> None:
        """Load the key; raises Refused(CONFIG_INVALID) if others could read it, or it is none."""
        key = load_private_key(path)
        if not isinstance(key, Ed25519PrivateKey):
            raise Refused(
                Code.CONFIG_INVALID, f"key file {str(path)!r}: not an Ed25519 key in PKCS8 PEM"
            )
        self._key = key
        self._keyid = keyid_of(key.public_key())

    @property
    def keyid(self) -> str:
        """Key id as in TUF."""
        return self._keyid

    @property
    def public_key(self) -> Ed25519PublicKey:
        """By what others check the signatures."""
        return self._key.public_key()

    def sign(self, payload: bytes) -> bytes:
        """The Ed25519 signature over `payload`."""
        return self._key.sign(payload)


def load_private_key(path: Path) -> PrivateKeyTypes | None:
    """Read a private key (PKCS8 PEM) that its owner alone may read; None if it is no key.

    Raises Refused(CONFIG_INVALID) if others could read it, or it cannot be read at all.
    """
    try:
        return load_pem_private_key(read_private_file(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def read_private_file(path: Path) -> bytes:
    """What stands in a key or PIN file that its owner alone may read.

    Raises Refused(CONFIG_INVALID) if others could read it, or it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(1 << 16)
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"key file {str(path)!r}: {error.strerror}") from None
    if mode & 0o077:
        raise Refused(
            Code.CONFIG_INVALID,
            f"key file {str(path)!r} has mode {mode:04o}: others may read it; "
            f"0600 is needed, and a new key if it was exposed",
        )
    return content


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key in PEM; raises Refused(CONFIG_INVALID)."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"key file {str(path)!r}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Refused(
            Code.CONFIG_INVALID, f"key file {str(path)!r}: not an Ed25519 public key in PEM"
        )
    return key


def keyid_of(key: Ed25519PublicKey) -> str:
    """Key id as in TUF."""
    return str(SSlibKey.from_crypto(key).keyid)


def is_signed(key: Ed25519PublicKey, signature_hex: object, payload: bytes) -> bool:
    """Whether `signature_hex` is the signature of `key` over `payload`; false for any nonsense."""
    if not isinstance(signature_hex, str):
        return False
    try:
        key.verify(bytes.fromhex(signature_hex), payload)
    except (InvalidSignature, ValueError):
        return False
    return True
