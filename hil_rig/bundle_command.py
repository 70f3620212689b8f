"""`hil-rig bundle make|show|provision|time`: updates for a car without a network.

FOLDER is the backend's (`hil-rig backend`). `provision` gives a car the root of the offline
Director, as the factory would; `make` does so too where it is missing. `time` answers the line that
the car has printed, as the time server would: carry its line back to the car within ten minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata, Timestamp
from tuf.api.serialization import DeserializationError

from hil_rig.backend.attestation import TimeServer
from hil_rig.bundle import BundleError, describe, write_bundle
from hil_rig.bundle_director import DEFAULT_DAYS, direct_as_online, open_director


def make_bundle(output: Path, folder: Path, vin: str, now: datetime, lifetime: timedelta) -> None:
    """Write the bundle of what the Director last directed to this car. Raises `BundleError`."""
    _check_vin(folder, vin)
    image = {path.name: path.read_bytes() for path in (folder / "image").glob("*.json")}
    try:
        timestamp = Metadata[Timestamp].from_bytes(image["timestamp.json"]).signed
    except (KeyError, DeserializationError):
        raise BundleError(f"{folder / 'image'}: holds no Image repository") from None
    if timestamp.is_expired(now):
        raise BundleError(
            f"the Image repository's timestamp expired {timestamp.expires:%Y-%m-%dT%H:%M:%SZ}: "
            f"publish it anew first"
        )
    director = open_director(folder, vin, now, lifetime)
    direct_as_online(folder, vin, director, now)
    beside = output.with_name(f"{output.name}.new")
    try:
        with beside.open("wb") as out:
            write_bundle(out, vin, director, image, folder)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def attest(folder: Path, request: str, now: datetime) -> str:
    """The time server's answer to the line that a car has printed. Raises `BundleError`."""
    try:
        nonce = json.loads(request)["nonce"]
        if not isinstance(nonce, str):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        raise BundleError('the line of the car is needed: {"nonce":"<32 hex>"}') from None
    key = load_pem_private_key((folder / "keys" / "time.key").read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{folder / 'keys' / 'time.key'}: not an Ed25519 key")
    return json.dumps(TimeServer(key, lambda: now).attest(nonce))


def _check_vin(folder: Path, vin: str) -> None:
    """The VIN becomes part of paths, and the backend has to know the car."""
    if not vin.isalnum() or not (folder / "director" / vin / "targets.json").is_file():
        raise BundleError(f"{folder}: the backend directs nothing to VIN {vin[:32]!r}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hil-rig bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    make = parts.add_parser("make", help="make the bundle of one car")
    make.add_argument("output", type=Path)
    make.add_argument("--days", type=int, default=DEFAULT_DAYS, help="how long it is good for")
    show = parts.add_parser("show", help="tell what a bundle holds, and until when it is good")
    show.add_argument("bundle", type=Path)
    show.add_argument("--json", action="store_true")
    provision = parts.add_parser("provision", help="give a car the offline Director's root")
    time = parts.add_parser("time", help="answer a car's question for the time")
    time.add_argument("request", help="the line that the car has printed")
    for each in (make, provision, time):
        each.add_argument("--folder", type=Path, required=True, help="the backend's folder")
    for each in (make, provision):
        each.add_argument("--vin", required=True)
    return parser


def _shown(facts: dict[str, Any]) -> str:
    lines = [f"vin         {facts['vin']}"]
    lines.append(f"good until  {facts['goodUntil']}{' (expired)' if facts['expired'] else ''}")
    for name, image in facts["images"].items():
        as_signed = "as signed" if image["asSigned"] else "NOT AS SIGNED"
        lines.append(f"image       {name}: {image['length']} bytes, {as_signed}")
    for name, role in facts["roles"].items():
        lines.append(f"{name:<24}version {role['version']}, expires {role['expires']}")
    return "\n".join(lines)


def _run(options: argparse.Namespace, now: datetime) -> str:
    match options.part:
        case "make":
            if not 1 <= options.days <= 3650:
                raise BundleError(f"--days {options.days}; allowed: 1 to 3650")
            lifetime = timedelta(days=options.days)
            make_bundle(options.output, options.folder, options.vin, now, lifetime)
            return ""
        case "provision":
            _check_vin(options.folder, options.vin)
            open_director(options.folder, options.vin, now)
            return ""
        case "time":
            return attest(options.folder, options.request, now)
    facts = describe(options.bundle, now)
    return json.dumps(facts, indent=2) if options.json else _shown(facts)


def main(argv: list[str]) -> int:
    """Exit 0, or 2 with one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        said = _run(options, datetime.now(UTC))
    except BundleError as error:
        sys.stderr.write(f"hil-rig bundle: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"hil-rig bundle: {error.filename}: {error.strerror}\n")
        return 2
    sys.stdout.write(f"{said}\n" if said else "")
    return 0
