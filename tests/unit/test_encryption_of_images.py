"""Encrypted images: whoever changes, moves, cuts or adds a piece gets nothing installed."""

from __future__ import annotations

import hashlib
import tracemalloc

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.backend.encryption import encrypt_image
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import ImageEncryption
from vehicle_agent.trust.encryption import (
    PIECE,
    TAG,
    FileImageKey,
    content_key,
    decrypt_image,
    sealed_length,
)

IMAGE = bytes(range(256)) * 768  # three pieces, the last one whole
SEALED_PIECE = PIECE + TAG


def write_key(path, key=None):
    key = key or X25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    return FileImageKey(path)


@pytest.fixture(name="key")
def _key(tmp_path):
    return write_key(tmp_path / "image.key")


class Car:
    """An image as it reaches the car, and what opening it gives."""

    def __init__(self, folder, key, image=IMAGE):
        self.folder, self.key, self.image = folder, key, image
        made = encrypt_image(image, key.public_key)
        self.sealed, self.custom = made.content, made.custom
        self.sha256 = hashlib.sha256(image).hexdigest()
        self.hashes = {"sha256": self.sha256}

    def open(self, key=None):
        source, destination = self.folder / "image.sealed", self.folder / "plain.image"
        source.write_bytes(self.sealed)
        facts = msgspec.convert(self.custom, ImageEncryption)
        opened = content_key(key or self.key, facts, len(self.image), self.sha256)
        try:
            decrypt_image(
                source,
                destination,
                encryption=facts,
                key=opened,
                length=len(self.image),
                hashes=self.hashes,
            )
        finally:
            assert not (self.folder / "plain.image.opening").exists()
        return destination.read_bytes()

    def refused(self, key=None):
        with pytest.raises(Refused) as raised:
            self.open(key)
        assert not (self.folder / "plain.image").exists()
        return raised.value.refusal.code


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_what_was_encrypted_for_the_car_comes_out_as_it_was(tmp_path, key, length):
    car = Car(tmp_path, key, IMAGE[:length])
    assert len(car.sealed) == sealed_length(length)
    assert car.open() == IMAGE[:length]


def test_every_hash_that_image_signed_is_checked(tmp_path, key):
    car = Car(tmp_path, key)
    car.hashes = {"sha256": car.sha256, "sha512": hashlib.sha512(IMAGE).hexdigest()}
    assert car.open() == IMAGE
    (tmp_path / "plain.image").unlink()
    car.hashes["sha512"] = hashlib.sha512(b"other").hexdigest()
    assert car.refused() is Code.TARGET_HASH_MISMATCH


def pieces(sealed):
    return [sealed[at : at + SEALED_PIECE] for at in range(0, len(sealed), SEALED_PIECE)]


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[:2],
        lambda p: p[:1] + p[2:],
        lambda p: [p[1], p[0], p[2]],
        lambda p: [*p, p[2]],
        lambda p: [*p, b"x"],
        lambda p: [*p[:2], p[2][:-1]],
        lambda p: [p[0]],
        lambda p: [],
        lambda p: [*p, bytes(SEALED_PIECE)],
    ],
    ids=["cut", "left-out", "swapped", "repeated", "added", "byte-less", "first", "none", "zeros"],
)
def test_pieces_cut_moved_or_added_are_refused(tmp_path, key, change):
    car = Car(tmp_path, key)
    car.sealed = b"".join(change(pieces(car.sealed)))
    assert car.refused() is Code.DECRYPTION_FAILED


@given(at=st.integers(0, len(IMAGE) + 3 * TAG - 1), bit=st.integers(0, 7))
def test_any_changed_bit_is_refused(tmp_path_factory, at, bit):
    folder = tmp_path_factory.getbasetemp() / "bits"
    folder.mkdir(exist_ok=True)
    car = Car(folder, write_key(folder / "image.key"))
    changed = bytearray(car.sealed)
    changed[at] ^= 1 << bit
    car.sealed = bytes(changed)
    assert car.refused() is Code.DECRYPTION_FAILED


def test_another_cars_key_opens_nothing(tmp_path, key):
    car = Car(tmp_path, key)
    other = write_key(tmp_path / "other.key")
    assert car.refused(other) is Code.DECRYPTION_FAILED
    car.custom["recipient"] = other.keyid
    assert car.refused(other) is Code.DECRYPTION_FAILED


def test_a_director_that_encrypts_something_else_is_found_out_after_decryption(tmp_path, key):
    car = Car(tmp_path, key)
    evil = Car(tmp_path, key, IMAGE[::-1])
    car.sealed, car.custom = evil.sealed, evil.custom
    assert car.refused() is Code.DECRYPTION_FAILED  # the content key is bound to the signed digest


def test_a_content_key_that_is_bound_right_does_not_make_other_content_right(tmp_path, key):
    car = Car(tmp_path, key)
    car.hashes = {"sha256": hashlib.sha256(IMAGE[::-1]).hexdigest()}
    assert car.refused() is Code.TARGET_HASH_MISMATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algorithm", "none"),
        ("sealedKey", "00" * 80),
        ("sealedKey", ""),
        ("sealedKey", "no hex"),
        ("nonce", "00" * 6),
        ("nonce", "no hex"),
        ("nonce", "00" * 7),
        ("length", 7),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path, key, name, value):
    car = Car(tmp_path, key)
    car.custom[name] = value
    assert car.refused() is Code.DECRYPTION_FAILED


def test_a_car_without_an_image_key_says_what_is_missing(tmp_path, key):
    facts = msgspec.convert(Car(tmp_path, key).custom, ImageEncryption)
    with pytest.raises(Refused, match="image_key") as raised:
        content_key(None, facts, len(IMAGE), "00")
    assert raised.value.refusal.code is Code.CONFIG_INVALID


def test_a_key_file_that_others_may_read_is_refused(tmp_path, key):
    (tmp_path / "image.key").chmod(0o640)
    with pytest.raises(Refused, match="0640"):
        FileImageKey(tmp_path / "image.key")


def test_a_key_of_another_kind_is_refused(tmp_path):
    (tmp_path / "image.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n")
    (tmp_path / "image.key").chmod(0o600)
    with pytest.raises(Refused, match="X25519"):
        FileImageKey(tmp_path / "image.key")


def test_memory_does_not_grow_with_the_image(tmp_path, key):
    car = Car(tmp_path, key, bytes(64 * PIECE))
    tracemalloc.start()
    try:
        source, facts = tmp_path / "s", msgspec.convert(car.custom, ImageEncryption)
        source.write_bytes(car.sealed)
        opened = content_key(key, facts, len(car.image), car.sha256)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        decrypt_image(
            source,
            tmp_path / "p",
            encryption=facts,
            key=opened,
            length=len(car.image),
            hashes=car.hashes,
        )
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 8 * PIECE
