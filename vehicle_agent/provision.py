"""`vehicle-agent provision`: gives a car its roots of trust and a key of its own, once.

Everything is checked before anything is written. What a car trusts already is never replaced here,
but by a chain of roots in which each is signed by the one before, as it would come over the air.
"""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from vehicle_agent.config import Config, load_config
from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical
from vehicle_agent.trust.encryption import FileImageKey
from vehicle_agent.trust.keys import Signer, load_public_key
from vehicle_agent.trust.pkcs11 import SCHEME
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.signer import open_signer
from vehicle_agent.trust.verifier import DIRECTOR, IMAGE

REQUEST = "vehicle-key-request"


@dataclass(frozen=True, kw_only=True)
class Given:
    """The maker's files. `roots` maps a repository to its root, or a chain of roots in order."""

    roots: Mapping[str, Sequence[Path]]
    time_key: Path | None = None
    hmi_key: Path | None = None
    ca: Path | None = None


def main(config: Path, given: Given) -> int:
    """Provision the car of this configuration and print its key request as JSON."""
    request = provision(load_config(config), given)
    sys.stdout.write(json.dumps(request, indent=2) + "\n")
    return 0


def provision(config: Config, given: Given) -> dict[str, Any]:
    """Write what is given to where the configuration says, and make the car's own keys.

    Returns `{"signed": {_type, vin, primary_ecu_serial, ecus, keys, roots}, "signatures"}`, signed
    by the car's own key: by this the maker knows the car from now on. Doing it again with the same
    files changes nothing. Raises Refused: CONFIG_INVALID, TRUST_ANCHOR_EXISTS,
    ROOT_ROTATION_ERROR, another code of a root that is none, DISK_FULL, SIGNER_UNAVAILABLE.
    """
    checked = [write for name in (DIRECTOR, IMAGE) for write in _roots(config, given, name)]
    checked += [write for anchor in _anchors(config, given) for write in anchor]
    try:
        for write in checked:
            write()
        _make_key(config.trust.vehicle_key, config.base, Ed25519PrivateKey.generate)
        if config.trust.image_key is not None:
            _make_key(config.trust.image_key, config.base, X25519PrivateKey.generate)
    except OSError as error:
        raise Refused(Code.DISK_FULL, f"{error.filename!r}: {error.strerror}") from None
    return _request(config, open_signer(config.trust.vehicle_key, config.base))


def _roots(config: Config, given: Given, name: str) -> Iterator[Callable[[], None]]:
    """Check the roots given for one repository against what the car trusts of it."""
    paths = given.roots.get(name, ())
    files = [(path, _read(f"{name} root", path)) for path in paths]
    place = config.path(getattr(config.trust, f"{name}_root"))
    store = config.trust.store(config.base)
    if place.exists() or (config.path(config.trust.directory) / "metadata" / name).exists():
        trust = store.trusted(name)
    elif files:
        trust = RepositoryTrust(name, {"root": files[0][1]})
    else:
        raise Refused(Code.CONFIG_INVALID, f"the car has no {name} root; --{name}-root is needed")
    for path, data in files:
        _go_on(trust, name, path, data)
    last = trust.accepted.get("root", files[0][1] if files else b"")
    if not place.exists() and files:
        yield lambda: _write(place, last)
    elif trust.rotated:
        yield lambda: store.keep(trust)


def _go_on(trust: RepositoryTrust, name: str, path: Path, data: bytes) -> None:
    """Follow one more root; the one that is trusted already, or an older one, says nothing."""
    given = RepositoryTrust(name, {"root": data}).root
    if given.version > trust.root.version:
        trust.rotate_root(data)
    elif given.version == trust.root.version and given != trust.root:
        raise Refused(
            Code.TRUST_ANCHOR_EXISTS,
            f"{str(path)!r}: {name} root {given.version} is not the one that this car trusts",
        )


def _anchors(config: Config, given: Given) -> Iterator[list[Callable[[], None]]]:
    """Check each key file that is given against the one in its place."""
    anchors: list[tuple[str, Path | None, str, Callable[[Path], object]]] = [
        ("time-key", given.time_key, config.trust.time_key, load_public_key),
        ("hmi-key", given.hmi_key, config.consent.hmi_key, load_public_key),
        ("ca", given.ca, config.download.ca, _load_ca),
    ]
    for name, source, configured, load in anchors:
        place = config.path(configured)
        if source is None:
            if name == "time-key" and not place.exists():
                raise Refused(Code.CONFIG_INVALID, "the car has no time key; --time-key is needed")
            continue
        load(source)
        content = _read(name, source)
        if not place.exists():
            yield [lambda place=place, content=content: _write(place, content)]  # type: ignore[misc]
        elif place.read_bytes() != content:
            raise Refused(
                Code.TRUST_ANCHOR_EXISTS,
                f"--{name} {str(source)!r}: {str(place)!r} is another one, and stays",
            )


def _load_ca(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise Refused(Code.CONFIG_INVALID, f"--ca {str(path)!r}: {error}") from None


def _read(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"{what} {str(path)!r}: {error.strerror}") from None


def _write(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(place, content)


def _make_key(
    configured: str, base: Path, generate: Callable[[], Ed25519PrivateKey | X25519PrivateKey]
) -> None:
    """A new private key where there is none; a key on a token is made by the token's own tools."""
    if configured.startswith(SCHEME) or (base / configured).exists():
        return
    pem = generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(base / configured, pem)


def _request(config: Config, signer: Signer) -> dict[str, Any]:
    keys = {
        "vehicle": {
            "keyid": signer.keyid,
            "keytype": "ed25519",
            "scheme": "ed25519",
            "keyval": {"public": signer.public_key.public_bytes_raw().hex()},
        }
    }
    if config.trust.image_key is not None:
        key = FileImageKey(config.path(config.trust.image_key))
        keys["image"] = {
            "keyid": key.keyid,
            "keytype": "x25519",
            "scheme": "hpke-base",
            "keyval": {"public": key.public_key.public_bytes_raw().hex()},
        }
    store = config.trust.store(config.base)
    signed = {
        "_type": REQUEST,
        "vin": config.vehicle.vin,
        "primary_ecu_serial": config.vehicle.ecus[0].serial,
        "ecus": {ecu.serial: {"hardwareId": ecu.hardware_id} for ecu in config.vehicle.ecus},
        "keys": keys,
        "roots": {name: store.trusted(name).root.version for name in (DIRECTOR, IMAGE)},
    }
    signature = {
        "keyid": signer.keyid,
        "method": "ed25519",
        "sig": signer.sign(canonical(signed)).hex(),
    }
    return {"signed": signed, "signatures": [signature]}
