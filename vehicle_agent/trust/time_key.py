"""The time server's key: the one the car was built with, until the Image root names another.

A statement `{"signed": {"_type": "time-key", "version", "key", "notBefore"}, "signatures"}` carries
the signatures of the Image *root* role, whose keys are offline. It comes the way attestations do;
who relays it does not matter. `version` only rises. Each key has a time floor of its own, which
begins at `notBefore`: a floor that a stolen key has driven into the future ends with that key.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import Signature
from tuf.api.metadata import Root

from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical, parse_object
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.keys import keyid_of, load_public_key

if TYPE_CHECKING:
    from vehicle_agent.trust.verifier import TrustConfig

FLOOR = "time_s"
"""Name of the time floor in the MonotonicStore, in seconds since 1970, for the first key."""

VERSION = "time_key_version"
"""Name of the floor of statements."""

_TYPE = "time-key"
_HIGHEST = 1 << 31


class TimeKey(NamedTuple):
    """A public key of the time server; version 0 is the one that the car was built with."""

    key: Ed25519PublicKey
    keyid: str
    version: int


class _Statement(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    type: str = msgspec.field(name="_type")
    version: int
    key: dict[str, Any]
    not_before: datetime


class TimeKeys:
    """Knows the key to believe. `image_root` gives the trusted Image root metadata as it is now."""

    def __init__(
        self,
        built_in: Ed25519PublicKey,
        file: Path,
        floors: MonotonicStore,
        image_root: Callable[[], bytes],
    ) -> None:
        """`file` keeps the last statement.

        It was verified when it came, and is not again: a later root may have other keys. Lost or
        older than the floor it leaves no key at all, never the one before.
        """
        self._file = file
        self._floors = floors
        self._image_root = image_root
        self.current: TimeKey | None = TimeKey(built_in, keyid_of(built_in), 0)
        kept = self._kept()
        if kept is not None and kept.version >= floors.get(VERSION):
            self.current = kept
        elif floors.get(VERSION):
            self.current = None

    @classmethod
    def open(cls, config: TrustConfig, base: Path, floors: MonotonicStore) -> TimeKeys:
        """As `[trust]` says; `base` is the folder that relative paths start from.

        Raises Refused(CONFIG_INVALID) if there is no built-in key.
        """
        built_in = load_public_key(base / config.time_key)
        file = base / config.directory / "time-key.json"
        return cls(built_in, file, floors, lambda: config.store(base).load("image")["root"])

    @property
    def floor_name(self) -> str:
        """The name of the time floor that belongs to the key in use."""
        version = self.current.version if self.current else self._floors.get(VERSION)
        return f"{FLOOR}/{version}" if version else FLOOR

    def accept(self, document: dict[str, Any]) -> bool:
        """Take a statement; False if this very key is in use already.

        Raises Refused: TIME_ATTESTATION_INVALID, DISK_FULL.
        """
        statement, payload = _read(document)
        self._verify(document, payload)
        known = self.current.version if self.current else self._floors.get(VERSION) - 1
        key = TimeKey(*_public_key(statement.key), statement.version)
        if key == self.current:
            return False
        if statement.version <= known:
            raise _invalid(f"version {statement.version}, known is {known}")
        try:
            write_durably(self._file, msgspec.json.encode(document))
            self._floors.raise_to(
                f"{FLOOR}/{statement.version}", int(statement.not_before.timestamp())
            )
            self._floors.raise_to(VERSION, statement.version)
        except OSError as error:
            raise Refused(Code.DISK_FULL, f"{str(self._file)!r}: {error.strerror}") from None
        self.current = key
        return True

    def _verify(self, document: dict[str, Any], payload: bytes) -> None:
        root = Root.from_dict(parse_object(self._image_root())["signed"])
        try:
            offered = [Signature.from_dict(dict(each)) for each in document["signatures"]]
            signatures = {each.keyid: each for each in offered}
            result = root.get_verification_result(Root.type, payload, signatures)
        except (KeyError, TypeError, ValueError, AttributeError, SecureSystemsError):
            raise _invalid("signatures cannot be read") from None
        if not result:
            raise _invalid(
                f"signed by {len(result.signed)} keys of the Image root, {result.threshold} needed"
            )

    def _kept(self) -> TimeKey | None:
        try:
            statement, _ = _read(parse_object(self._file.read_bytes()))
        except (OSError, ValueError, Refused):
            return None
        return TimeKey(*_public_key(statement.key), statement.version)


def is_statement(signed: Any) -> bool:
    """Whether the signed part of a message is a statement about the key, not an attestation."""
    return isinstance(signed, dict) and signed.get("_type") == _TYPE


def _read(document: dict[str, Any]) -> tuple[_Statement, bytes]:
    try:
        payload = canonical(document["signed"])
        statement = msgspec.convert(document["signed"], _Statement)
    except (KeyError, ValueError) as error:  # ValidationError is a ValueError
        raise _invalid(str(error)[:160]) from None
    if not 0 < statement.version < _HIGHEST or statement.not_before.tzinfo is None:
        raise _invalid(f"version is not 1 to {_HIGHEST - 1}, or notBefore has no zone")
    return statement, payload


def _public_key(described: dict[str, Any]) -> tuple[Ed25519PublicKey, str]:
    try:
        if (described["keytype"], described["scheme"]) != ("ed25519", "ed25519"):
            raise ValueError
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(described["keyval"]["public"]))
    except (KeyError, TypeError, ValueError):
        raise _invalid("key is not an Ed25519 key as in TUF metadata") from None
    return public, keyid_of(public)


def _invalid(what: str) -> Refused:
    return Refused(Code.TIME_ATTESTATION_INVALID, f"time key: {what}")
