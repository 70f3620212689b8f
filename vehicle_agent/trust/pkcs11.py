"""The car's own key on a PKCS#11 token: it signs there and never leaves it.

The key is named by an RFC 7512 URI, for example

    pkcs11:token=car;object=vehicle?module-path=/usr/lib/token.so&pin-source=file:/run/pin

`token` (label), `serial`, `object` (label) and `id` find it; `module-path` is the token's library
and `pin-source` a file that only the agent may read. The PIN itself has no place in a URI.
Needs the package python-pkcs11 (extra `token`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.keys import keyid_of, read_private_file

SCHEME = "pkcs11:"
_PATH = ("token", "serial", "object", "id", "type")
_QUERY = ("module-path", "pin-source")


@dataclass(frozen=True)
class TokenKey:
    """Where a key is: the parts of its URI, decoded; None matches anything."""

    module: str
    pin_file: str
    token: str | None
    serial: str | None
    label: str | None
    id: bytes | None


def parse_uri(uri: str) -> TokenKey:
    """Read an RFC 7512 URI; raises Refused(CONFIG_INVALID), which never repeats a PIN."""
    if not uri.startswith(SCHEME):
        raise _invalid(f"needs to begin with {SCHEME!r}")
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    parts = _attributes(path, ";", _PATH)
    more = _attributes(query, "&", _QUERY)
    for name in _QUERY:
        if not more.get(name):
            raise _invalid(f"{name} is missing")
    if unquote(parts.get("type", "private")) != "private":
        raise _invalid("type has to be 'private'")
    if not {"token", "serial"} & parts.keys() or not {"object", "id"} & parts.keys():
        raise _invalid("token or serial, and object or id, are needed")

    def text(name: str) -> str | None:
        return unquote(parts[name]) if name in parts else None

    return TokenKey(
        module=unquote(more["module-path"]),
        pin_file=unquote(more["pin-source"]).removeprefix("file://").removeprefix("file:"),
        token=text("token"),
        serial=text("serial"),
        label=text("object"),
        id=unquote_to_bytes(parts["id"]) if "id" in parts else None,
    )


class TokenSigner:
    """Signs with the Ed25519 key that `uri` names; a token that was away is opened again."""

    def __init__(self, uri: str) -> None:
        """Open the token and find the key.

        Raises Refused: CONFIG_INVALID (URI, PIN file, missing package, no such key), or
        SIGNER_UNAVAILABLE (the token does not answer).
        """
        self._where = parse_uri(uri)
        self._lock = Lock()
        try:
            self._pkcs11 = importlib.import_module("pkcs11")
        except ImportError:
            raise _invalid("the package python-pkcs11 is not installed (extra 'token')") from None
        self._session: Any = None
        self._public: Ed25519PublicKey = self._call(self._read_public)
        self._keyid = keyid_of(self._public)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The public half, as the token gives it."""
        return self._public

    @property
    def keyid(self) -> str:
        """Key id as in TUF."""
        return self._keyid

    def sign(self, payload: bytes) -> bytes:
        """The Ed25519 signature over `payload`; raises Refused(SIGNER_UNAVAILABLE)."""
        mechanism = self._pkcs11.Mechanism.EDDSA
        signature = bytes(self._call(lambda: self._private().sign(payload, mechanism=mechanism)))
        try:
            self._public.verify(signature, payload)
        except InvalidSignature:
            raise Refused(
                Code.SIGNER_UNAVAILABLE, "the token's signature is not of the car's key"
            ) from None
        return signature

    def _call(self, work: Callable[[], Any]) -> Any:
        """Do `work` in an open session; once more in a fresh one if the old one is dead."""
        errors = self._pkcs11.exceptions
        with self._lock:
            for is_last in (False, True):
                try:
                    if self._session is None:
                        self._session = self._open()
                    return work()
                except (errors.NoSuchKey, errors.MultipleObjectsReturned) as error:
                    raise _invalid(f"the token has no such key, or several: {error!r}") from None
                except (errors.PinIncorrect, errors.PinInvalid, errors.PinLocked) as error:
                    # Never tried twice: a token locks itself after a few wrong PINs.
                    raise _invalid(f"PIN refused: {type(error).__name__}") from None
                except (errors.PKCS11Error, OSError, RuntimeError) as error:
                    self._close()
                    if is_last:
                        raise Refused(
                            Code.SIGNER_UNAVAILABLE,
                            f"token {self._where.token or self._where.serial!r}: "
                            f"{type(error).__name__}",
                        ) from None
        raise AssertionError("the last try returns or raises")

    def _open(self) -> Any:
        where = self._where
        pin = read_private_file(Path(where.pin_file)).decode("utf-8", "replace").strip()
        library = self._pkcs11.lib(where.module)
        wanted: dict[str, Any] = {}
        if where.token is not None:
            wanted["token_label"] = where.token
        if where.serial is not None:
            wanted["token_serial"] = where.serial.encode()
        token = library.get_token(**wanted)
        return token.open(user_pin=pin)

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except self._pkcs11.exceptions.PKCS11Error:
                return

    def _private(self) -> Any:
        return self._find(self._pkcs11.ObjectClass.PRIVATE_KEY)

    def _find(self, kind: Any) -> Any:
        wanted = {"label": self._where.label, "id": self._where.id}
        return self._session.get_key(
            object_class=kind,
            key_type=self._pkcs11.KeyType.EC_EDWARDS,
            **{name: value for name, value in wanted.items() if value is not None},
        )

    def _read_public(self) -> Ed25519PublicKey:
        self._private()  # a token that has the public half alone cannot sign
        public = self._find(self._pkcs11.ObjectClass.PUBLIC_KEY)
        point = bytes(public[self._pkcs11.Attribute.EC_POINT])
        if len(point) == 34:  # a DER octet string around the point
            point = point[2:]
        try:
            return Ed25519PublicKey.from_public_bytes(point)
        except ValueError:
            raise _invalid("the key on the token is not Ed25519") from None


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _invalid("pin-value puts the PIN into the configuration; pin-source is allowed")
        if name not in known or not equals or name in found:
            raise _invalid(f"attribute {name[:32]!r}; each of {', '.join(known)} may stand once")
        found[name] = value
    return found


def _invalid(what: str) -> Refused:
    return Refused(Code.CONFIG_INVALID, f"trust.vehicle_key, PKCS#11 URI: {what}")
