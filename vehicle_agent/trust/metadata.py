"""One metadata file: bytes in, a signed role or a refusal out. Pure.

Read over python-tuf's Metadata API, but signatures are checked over the canonical bytes of what
stands in the file, so that nothing is accepted with a meaning other than the signed one. A file
is read once and brought into canonical form once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical, parse_object

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

KNOWN_HASHES = ("sha256", "sha384", "sha512")
"""Hash algorithms that count. Others may be listed beside one of these, never alone."""

_encode = msgspec.json.Encoder(order="sorted").encode

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


def parse(where: str, kind: type[T], data: bytes, *, keyids_are_digests: bool = True) -> Parsed[T]:
    """Read `data` as metadata of the role `kind`.

    `keyids_are_digests`: as Uptane asks; plain TUF lets a repository choose its key ids (TAP 12).
    Raises Refused: METADATA_MALFORMED, NON_UNIQUE_SIGNATURES, ILLEGAL_THRESHOLD, BAD_KEY_ID.
    """
    try:
        document = parse_object(data)
        signed = document["signed"]
        payload = canonical_of_parsed(signed)
        _check_signatures(where, document["signatures"])
        for holder in (signed, signed.get("delegations")):
            if holder is not None:
                if keyids_are_digests:
                    _check_keys(where, holder.get("keys", {}))
                _check_roles(where, holder.get("roles", {}))
        _check_kinds(signed)
        metadata: Metadata[T] = Metadata.from_dict(document)
        if not isinstance(metadata.signed, kind):
            raise TypeError(f"a {metadata.signed.type} file where {kind.type} is needed")
    except _MALFORMED as error:
        raise Refused(Code.METADATA_MALFORMED, f"{where}: {in_words(error)}") from None
    return Parsed(where, data, payload, metadata.signed, metadata.signatures)


def verify(parsed: Parsed[T], delegator: Root | Targets, role: str) -> tuple[str, ...]:
    """The key ids by which `delegator` finds `parsed` signed for `role`, the threshold met.

    Uptane: "verify that it has been signed by the threshold of keys specified". Raises Refused:
    UNMET_THRESHOLD, METADATA_MALFORMED (a key or signature that is none).
    """
    signed, threshold = verification_result(parsed, delegator, role)
    if len(signed) < threshold:
        raise Refused(
            Code.UNMET_THRESHOLD,
            f"{parsed.where}: signed by {len(signed)} of the role's keys, {threshold} are needed",
        )
    return signed


def verification_result(
    parsed: Parsed[T], delegator: Root | Targets, role: str
) -> tuple[tuple[str, ...], int]:
    """The key ids that signed, each key counted once, and the threshold.

    A key that stands under several ids (another spelling, another scheme) is one key still.
    Raises Refused(METADATA_MALFORMED).
    """
    try:
        result = delegator.get_verification_result(role, parsed.payload, parsed.signatures)
        signed = tuple(result.signed)
        if len(signed) > 1:
            signed = tuple({_material(key): keyid for keyid, key in result.signed.items()}.values())
    except _MALFORMED as error:
        raise Refused(Code.METADATA_MALFORMED, f"{parsed.where}: {in_words(error)}") from None
    return signed, result.threshold


def check_described(where: str, data: bytes, meta: MetaFile) -> None:
    """Raise Refused(VERSION_MISMATCH) unless `data` has the length and hashes its parent names."""
    if meta.length is not None and len(data) != meta.length:
        raise Refused(
            Code.VERSION_MISMATCH,
            f"{where}: {len(data)} bytes long, its parent names {meta.length}",
        )
    if meta.hashes is None:
        return
    for name in known_hashes(f"{where}, in its parent", meta.hashes):
        if hashlib.new(name, data).hexdigest() != meta.hashes[name]:
            raise Refused(Code.VERSION_MISMATCH, f"{where}: {name} is not what its parent names")


def known_hashes(where: str, hashes: Iterable[str]) -> tuple[str, ...]:
    """The algorithms among `hashes` that count; each of them has to agree.

    Raises Refused(METADATA_MALFORMED) if there is none: nothing would be checked.
    """
    known = tuple(name for name in KNOWN_HASHES if name in hashes)
    if not known:
        raise Refused(
            Code.METADATA_MALFORMED,
            f"{where}: no hash among {', '.join(sorted(hashes))[:80]!r} that is known here, "
            f"one of {', '.join(KNOWN_HASHES)} is needed",
        )
    return known


def canonical_of_parsed(value: Any) -> bytes:
    """As `strict_json.canonical`, for what `parse_object` has read; some twenty times faster.

    The two encoders differ in control characters alone, which show as escapes, and in fractions,
    which `parse_object` refuses.
    """
    try:
        encoded = _encode(value)
    except (ValueError, OverflowError, RecursionError):
        return canonical(value)
    return canonical(value) if b"\\" in encoded else encoded


def digest_of_parsed(value: Any) -> str:
    """SHA-256, in hex, of `canonical_of_parsed`."""
    return hashlib.sha256(canonical_of_parsed(value)).hexdigest()


def in_words(error: Exception) -> str:
    """One bounded line for what a parser found."""
    text = str(error) if not isinstance(error, KeyError) else f"{error} is missing"
    return (text or type(error).__name__)[:160]


def _material(key: Key) -> bytes:
    public = key.keyval["public"]
    if key.keytype == "ed25519":
        return bytes.fromhex(public)
    return load_pem_public_key(public.encode()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def _check_signatures(where: str, signatures: Any) -> None:
    keyids = [signature["keyid"] for signature in _need(signatures, list)]
    if len(set(keyids)) != len(keyids):
        raise Refused(Code.NON_UNIQUE_SIGNATURES, f"{where}: one key signs twice")


def _check_keys(where: str, keys: Any) -> None:
    for keyid, key in _need(keys, dict).items():
        described = {name: key[name] for name in ("keytype", "scheme", "keyval")}
        if keyid != digest_of_parsed(described):
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


def _check_kinds(signed: Mapping[str, Any]) -> None:
    """Refuse what python-tuf takes though it is of another kind: to Python, truth is a number."""
    _need(signed["version"], int)
    if signed.get("consistent_snapshot") is not None:
        _need(signed["consistent_snapshot"], bool)
    for files, numbers in (("meta", ("version", "length")), ("targets", ("length",))):
        for entry in _need(signed.get(files, {}), dict).values():
            for number in numbers:
                if number in entry:
                    _need(entry[number], int)
    delegations = signed.get("delegations")
    if delegations is not None:
        for role in delegations.get("roles") or ():
            _need(role["terminating"], bool)
            _need(role["name"], str)
            for patterns in ("paths", "path_hash_prefixes"):
                if patterns in role:
                    _need(role[patterns], list)
        if delegations.get("succinct_roles") is not None:
            _need(delegations["succinct_roles"]["bit_length"], int)


def _need(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:32]!r} where a {kind.__name__} is needed")
    return value
