"""Named ways to spoil one published metadata file, for scenarios and by control request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from securesystemslib.signer import CryptoSigner

from hil_rig.backend.repository import Repository

Tamper = Callable[[Repository, str], None]

_HUGE = 8 << 20


def _unsigned(repository: Repository, role: str) -> None:
    repository.forge(role, _as_it_is, signers=[])


def _unknown_key(repository: Repository, role: str) -> None:
    repository.forge(role, _as_it_is, signers=[CryptoSigner.generate_ed25519()])


def _repeated_signature(repository: Repository, role: str) -> None:
    repository.forge(role, _as_it_is, signers=repository.signers[role] * 2)


def _bad_key_id(repository: Repository, role: str) -> None:
    content = json.loads(repository.bytes_of(role))
    for signature in content["signatures"]:
        signature["keyid"] = "0" * 64
    _put(repository, role, json.dumps(content).encode())


def _expired(repository: Repository, role: str) -> None:
    repository.forge(role, lambda signed: signed.update(expires="2020-01-01T00:00:00Z"))


def _older(repository: Repository, role: str) -> None:
    repository.forge(role, lambda signed: signed.update(version=signed["version"] - 1))


def _newer(repository: Repository, role: str) -> None:
    repository.forge(role, lambda signed: signed.update(version=signed["version"] + 1))


def _no_threshold(repository: Repository, role: str) -> None:
    repository.forge("root", lambda signed: signed["roles"][role].update(threshold=0))


def _flipped_bit(repository: Repository, role: str) -> None:
    content = bytearray(repository.bytes_of(role))
    content[len(content) // 2] ^= 0x01
    _put(repository, role, bytes(content))


def _truncated(repository: Repository, role: str) -> None:
    content = repository.bytes_of(role)
    _put(repository, role, content[: len(content) // 2])


def _not_json(repository: Repository, role: str) -> None:
    _put(repository, role, b"this is no metadata\n")


def _huge(repository: Repository, role: str) -> None:
    _put(repository, role, repository.bytes_of(role) + b" " * _HUGE)


def _missing(repository: Repository, role: str) -> None:
    del repository.files[repository.file_name(role)]


TAMPERS: dict[str, Tamper] = {
    "unsigned": _unsigned,
    "unknown_key": _unknown_key,
    "repeated_signature": _repeated_signature,
    "bad_key_id": _bad_key_id,
    "expired": _expired,
    "older": _older,
    "newer": _newer,
    "no_threshold": _no_threshold,
    "flipped_bit": _flipped_bit,
    "truncated": _truncated,
    "not_json": _not_json,
    "huge": _huge,
    "missing": _missing,
}


def _as_it_is(signed: dict[str, Any]) -> None:
    """Signing alone changes."""


def _put(repository: Repository, role: str, content: bytes) -> None:
    repository.files[repository.file_name(role)] = content
