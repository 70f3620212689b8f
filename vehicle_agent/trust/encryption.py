"""Images encrypted for one car: opened while they stream, believed only when all of it is right.

The image is sealed with a content key of its own in pieces of 64 KiB (AES-256-GCM in the STREAM
construction: a nonce of prefix, piece number and "this is the last one", so that no piece can be
changed, moved, dropped or added). The content key is sealed for the car's X25519 key by HPKE
(RFC 9180, base mode), bound to the digest of the image that it is for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from vehicle_agent.durable import sync_folder
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import ImageEncryption
from vehicle_agent.trust.keys import load_private_key
from vehicle_agent.trust.metadata import known_hashes

ALGORITHM = "HPKE-X25519-HKDF-SHA256-AES256GCM+STREAM-AES256GCM-64K"
PIECE, TAG = 1 << 16, 16
PREFIX = 7
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_LAST = 0xFFFFFFFF


class ImageKey(Protocol):
    """The car's key for encrypted images; a file now, a token or TEE can take its place."""

    @property
    def keyid(self) -> str:
        """SHA-256 (hex) of the raw public key."""
        ...

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The content key in `sealed` (HPKE); raises ValueError if it is not for this key."""
        ...


class FileImageKey:
    """An X25519 key in a PEM file (PKCS8) that its owner alone may read."""

    def __init__(self, path: Path) -> None:
        """Load the key; raises Refused(CONFIG_INVALID) if others could read it, or it is none."""
        key = load_private_key(path)
        if not isinstance(key, X25519PrivateKey):
            raise Refused(
                Code.CONFIG_INVALID, f"key file {str(path)!r}: not an X25519 key in PKCS8 PEM"
            )
        self._key = key

    @property
    def public_key(self) -> X25519PublicKey:
        """What the Director encrypts for."""
        return self._key.public_key()

    @property
    def keyid(self) -> str:
        """SHA-256 (hex) of the raw public key."""
        return hashlib.sha256(self.public_key.public_bytes_raw()).hexdigest()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The content key in `sealed`; raises ValueError if it is not for this key."""
        try:
            return bytes(_SUITE.decrypt(sealed, self._key, info=info))
        except (InvalidTag, ValueError):
            raise ValueError("the content key does not open") from None


def binding(sha256: str) -> bytes:
    """What a sealed content key is bound to: the algorithm and the image's digest (hex)."""
    return f"{ALGORITHM}\n{sha256}".encode()


def sealed_length(length: int) -> int:
    """Bytes of an encrypted image whose plain image has `length`; an empty one has a piece too."""
    return length + TAG * max(1, -(-length // PIECE))


def content_key(
    key: ImageKey | None, encryption: ImageEncryption, length: int, sha256: str
) -> bytes:
    """The key of the image's pieces, before a byte of it is fetched.

    `length` and `sha256` are of the plain image. Raises Refused: CONFIG_INVALID (the car has no
    image key), DECRYPTION_FAILED (encrypted for another key, for another image, or in another way).
    """
    if key is None:
        raise Refused(
            Code.CONFIG_INVALID, "the image is encrypted; [trust] image_key names no key file"
        )
    if encryption.algorithm != ALGORITHM:
        raise _failed(f"algorithm {encryption.algorithm[:80]!r}, known is {ALGORITHM!r}")
    if encryption.recipient != key.keyid:
        raise _failed(
            f"encrypted for key {encryption.recipient[:16]!r}, this car's is {key.keyid[:16]!r}"
        )
    if encryption.length != sealed_length(length):
        raise _failed(f"{encryption.length} encrypted bytes; {length} give {sealed_length(length)}")
    try:
        opened = key.open(bytes.fromhex(encryption.sealed_key), binding(sha256))
    except ValueError as error:
        raise _failed(str(error)) from None
    if len(opened) != 32 or len(_prefix(encryption)) != PREFIX:
        raise _failed("content key or nonce has a wrong length")
    return opened


def decrypt_image(
    sealed: Path,
    destination: Path,
    *,
    encryption: ImageEncryption,
    key: bytes,
    length: int,
    hashes: Mapping[str, str],
    reserve: int = 0,
) -> None:
    """Open the encrypted image `sealed` into `destination`, which then has reached the disk.

    `key` is the content key; `reserve` bytes stay free on the disk. What has not `length` bytes
    and all of `hashes` (algorithm to hex digest) never stands under the name `destination`.
    Blocking; memory does not grow with the image. Raises Refused: DECRYPTION_FAILED,
    TARGET_HASH_MISMATCH, METADATA_MALFORMED (no hash that is known), DISK_FULL.
    """
    beside = destination.with_name(f"{destination.name}.opening")
    known = known_hashes("the image", hashes)
    digests, there = [hashlib.new(name) for name in known], 0
    try:
        free = shutil.disk_usage(destination.parent).free
        if free < length + reserve:
            raise Refused(Code.DISK_FULL, f"{free} bytes free, {length} to decrypt")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with sealed.open("rb") as source, os.fdopen(descriptor, "wb", buffering=0) as file:
            for plain in open_pieces(source, key, _prefix(encryption)):
                for digest in digests:
                    digest.update(plain)
                there += len(plain)
                _write(file.fileno(), plain)
            os.fsync(file.fileno())
        found = {name: d.hexdigest() for name, d in zip(known, digests, strict=True)}
        if (there, found) != (length, {name: hashes[name] for name in known}):
            raise Refused(
                Code.TARGET_HASH_MISMATCH,
                f"the decrypted image has {there} bytes of {length}, or other content than was "
                "signed",
            )
        beside.replace(destination)
        sync_folder(destination.parent)
    except OSError as error:
        raise Refused(Code.DISK_FULL, f"{str(beside)!r}: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def open_pieces(source: BinaryIO, key: bytes, prefix: bytes) -> Iterator[bytes]:
    """The plain pieces of an encrypted image, each checked before it is given.

    Raises Refused(DECRYPTION_FAILED) for a piece that is changed, out of order, missing or added.
    """
    opener = AESGCM(key)
    piece = source.read(PIECE + TAG)
    for number in range(_LAST):
        following = source.read(PIECE + TAG)
        nonce = prefix + number.to_bytes(4, "big") + (b"\0" if following else b"\1")
        try:
            yield opener.decrypt(nonce, piece, None)
        except (InvalidTag, ValueError):
            raise _failed(f"piece {number} is not as it was encrypted, or not the last") from None
        if not following:
            return
        piece = following
    raise _failed("more pieces than can be counted")


def _prefix(encryption: ImageEncryption) -> bytes:
    try:
        return bytes.fromhex(encryption.nonce)
    except ValueError:
        raise _failed("the nonce is not hex") from None


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _failed(what: str) -> Refused:
    return Refused(Code.DECRYPTION_FAILED, f"encrypted image: {what}")
