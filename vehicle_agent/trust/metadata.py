"""One metadata file: bytes in, a signed role or a refusal out. Pure.

Read over python-tuf's Metadata API, but signatures are checked over the canonical bytes of what
stands in the file, so that nothing is accepted with a meaning other than the signed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import Signature
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
    VerificationResult,
)

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical, digest, parse_object

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SecureSystemsError,
)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A metadata file that was read; its signatures are not verified yet.

    `where` names the file in refusals; `data` are its bytes; `payload` is the canonical form of
    its signed part, which the signatures cover.
    """

    where: str
    data: bytes
    payload: bytes
    signed: T
    signatures: dict[str, Signature]


def parse(where: str, kind: type[T], data: bytes) -> Parsed[T]:
    """Read `data` as metadata of the role `kind`.

    Raises Refused: METADATA_MALFORMED, NON_UNIQUE_SIGNATURES, ILLEGAL_THRESHOLD, BAD_KEY_ID.
    """
    try:
        document = parse_object(data)
        signed = document["signed"]
        payload = canonical(signed)
        _check_signatures(where, document["signatures"])
        for holder in (signed, signed.get("delegations")):
            if holder is not None:
                _check_keys(where, holder.get("keys", {}))
                _check_roles(where, holder.get("roles", {}))
        _check_numbers(signed)
        metadata = Metadata[T].from_dict(document)
        if not isinstance(metadata.signed, kind):
            raise TypeError(f"a {metadata.signed.type} file where {kind.type} is needed")
    except _MALFORMED as error:
        raise Refused(Code.METADATA_MALFORMED, f"{where}: {in_words(error)}") from None
    return Parsed(where, data, payload, metadata.signed, metadata.signatures)


def verify(parsed: Parsed[T], delegator: Root | Targets, role: str) -> tuple[str, ...]:
    """The key ids by which `delegator` finds `parsed` signed for `role`, the threshold met.

    Raises Refused: UNMET_THRESHOLD, METADATA_MALFORMED (a key or signature that is none).
    """
    result = verification_result(parsed, delegator, role)
    if not result:
        raise Refused(
            Code.UNMET_THRESHOLD,
            f"{parsed.where}: signed by {len(result.signed)} of the role's keys, "
            f"{result.threshold} are needed",
        )
    return tuple(result.signed)


def verification_result(
    parsed: Parsed[T], delegator: Root | Targets, role: str
) -> VerificationResult:
    """python-tuf's verdict on the signatures; raises Refused(METADATA_MALFORMED)."""
    try:
        return delegator.get_verification_result(role, parsed.payload, parsed.signatures)
    except _MALFORMED as error:
        raise Refused(Code.METADATA_MALFORMED, f"{parsed.where}: {in_words(error)}") from None


def check_described(where: str, data: bytes, meta: MetaFile) -> None:
    """Raise Refused(VERSION_MISMATCH) unless `data` has the length and hashes its parent names."""
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError:
        raise Refused(
            Code.VERSION_MISMATCH, f"{where}: length or hash is not what its parent names"
        ) from None


def in_words(error: Exception) -> str:
    """One bounded line for what a parser found."""
    text = str(error) if not isinstance(error, KeyError) else f"{error} is missing"
    return (text or type(error).__name__)[:160]


def _check_signatures(where: str, signatures: Any) -> None:
    keyids = [signature["keyid"] for signature in _need(signatures, list)]
    if len(set(keyids)) != len(keyids):
        raise Refused(Code.NON_UNIQUE_SIGNATURES, f"{where}: one key signs twice")


def _check_keys(where: str, keys: Any) -> None:
    for keyid, key in _need(keys, dict).items():
        described = {name: key[name] for name in ("keytype", "scheme", "keyval")}
        if keyid != digest(described):
            raise Refused(
                Code.BAD_KEY_ID, f"{where}: key id {keyid[:16]!r} is not the digest of its key"
            )


def _check_roles(where: str, roles: Any) -> None:
    listed = roles.items() if isinstance(roles, dict) else [(role["name"], role) for role in roles]
    for name, role in listed:
        threshold = _need(role["threshold"], int)
        if threshold < 1:
            raise Refused(
                Code.ILLEGAL_THRESHOLD, f"{where}: role {str(name)[:32]!r} has {threshold}"
            )
        for keyid in _need(role["keyids"], list):
            _need(keyid, str)


def _check_numbers(signed: Mapping[str, Any]) -> None:
    """Refuse truth values where numbers belong: to Python they are numbers."""
    _need(signed["version"], int)
    for files, numbers in (("meta", ("version", "length")), ("targets", ("length",))):
        for entry in _need(signed.get(files, {}), dict).values():
            for number in numbers:
                if number in entry:
                    _need(entry[number], int)


def _need(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:32]!r} where a {kind.__name__} is needed")
    return value
