"""JSON from strangers, read with one meaning only, and the canonical bytes that signatures cover.

A leaf. Plain `json.loads` lets two programs read one text differently: repeated names, NaN,
fractions that round. Here each of those is an error, and so is nesting without end.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

DEEPEST = 64
"""How many objects and arrays may stand within each other."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object in UTF-8.

    Raises ValueError, with one line that says what is wrong, for anything else.
    """
    try:
        value = _decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {_kind(value)}, not an object")
    if data.count(b"{") + data.count(b"[") > DEEPEST:
        _check_depth(value)
    return value


def canonical(value: Any) -> bytes:
    """The canonical JSON (OLPC) of `value`: what TUF signatures and our digests cover.

    Raises ValueError if `value` holds what has no canonical form (fractions, lone surrogates).
    """
    try:
        text = encode_canonical(value)
    except (FormatError, RecursionError):
        raise ValueError("holds a value without canonical form, such as a fraction") from None
    if text is None:
        raise ValueError("has no canonical form")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds a text that is not Unicode") from None


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of `value`; raises ValueError as `canonical`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def unwrap(message: dict[str, Any]) -> dict[str, Any]:
    """The payload of an envelope; a message without envelope is its own payload."""
    payload = message.get("payload")
    return payload if isinstance(payload, dict) else message


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:20]} is not a whole number")


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_refuse_number
).decode


def _check_depth(value: Any) -> None:
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]


def _kind(value: Any) -> str:
    names = {list: "list", str: "text", bool: "truth value", int: "number"}
    return names.get(type(value), "null")
