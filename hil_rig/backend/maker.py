"""What the maker keeps in one folder: all keys, the repositories, and what each car was given.

keys/director, keys/image   <role>-<n>.pem      private keys of the two repositories
keys/time.key               the time server's private key
tls/                        ca.pem, ca.key, server.pem, server.key
image/, director/<VIN>/     metadata as published
cars/<VIN>/                 what the car leaves the factory with (`provision_car`)
reports.jsonl               what the cars have reported
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.pki import (
    load_or_make_image_key,
    load_or_make_key,
    make_server_certificate,
    public_pem,
)
from hil_rig.backend.repository import (
    Repository,
    Signers,
    make_signers,
    read_signers,
    write_signers,
)
from hil_rig.bundle_director import open_director


class Maker:
    """Keys and repositories of `folder`, made where there are none; one Director for each VIN."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self.folder = folder
        self.now = now
        (folder / "keys").mkdir(parents=True, exist_ok=True)
        self.time_key = load_or_make_key(folder / "keys" / "time.key")
        if not (folder / "tls" / "server.pem").exists():
            make_server_certificate(folder / "tls", now)
        self._director_signers = self._signers("director")
        self.image = self._repository(folder / "image", self._signers("image"))
        self.directors: dict[str, Repository] = {}

    def director(self, vin: str) -> Repository:
        """The Director repository of one car."""
        if vin not in self.directors:
            place = self.folder / "director" / vin
            self.directors[vin] = self._repository(place, self._director_signers)
        return self.directors[vin]

    def publish(self, now: datetime) -> None:
        """Publish every repository and keep the metadata on disk."""
        self.image.publish(now)
        self.image.write_to(self.folder / "image")
        for vin, director in self.directors.items():
            director.publish(now)
            director.write_to(self.folder / "director" / vin)

    def rotate(self, repository: str, role: str, now: datetime) -> int:
        """Replace a role's keys, in every Director alike; the new root version. Publish after it.

        `repository` is "director" or "image".
        """
        concerned = [self.image] if repository == "image" else list(self.directors.values())
        signers = [CryptoSigner.generate_ed25519()]
        for each in concerned:
            each.rotate(role, now, signers=list(signers))
        write_signers(self.folder / "keys" / repository, concerned[0].signers)
        return concerned[0].root.version

    def resolve(self, path: str) -> bytes | None:
        """What stands under the URL path of the image server, or None."""
        match path.strip("/").split("/"):
            case ["image", "targets", *rest]:
                return self.image.images.get("/".join(rest))
            case ["image", name]:
                return self.image.files.get(name)
            case ["director", vin, "targets", *rest] if vin in self.directors:
                return self.directors[vin].images.get("/".join(rest))
            case ["director", vin, name] if vin in self.directors:
                return self.directors[vin].files.get(name)
        return None

    def car_folder(self, vin: str) -> Path:
        """Where `provision_car` puts what this car needs."""
        return self.folder / "cars" / vin

    def vehicle_key(self, vin: str) -> Ed25519PublicKey:
        """The public key of a car that is provisioned."""
        return load_or_make_key(self.car_folder(vin) / "vehicle.key").public_key()

    def image_key(self, vin: str) -> X25519PublicKey:
        """The public key that images for a provisioned car are encrypted with."""
        return load_or_make_image_key(self.car_folder(vin) / "image.key").public_key()

    def hmi_key(self, vin: str) -> Ed25519PublicKey:
        """The public key of the display in a car that is provisioned."""
        return load_or_make_key(self.car_folder(vin) / "hmi.key").public_key()

    def _signers(self, name: str) -> Signers:
        place = self.folder / "keys" / name
        if not place.exists():
            write_signers(place, make_signers())
        return read_signers(place)

    def _repository(self, place: Path, signers: Signers) -> Repository:
        repository = Repository(self.now, signers=signers)
        if (place / "timestamp.json").exists():
            repository.resume(place)
        return repository


def director_url(port: int, vin: str) -> str:
    """Where a car finds its Director metadata."""
    return f"https://localhost:{port}/director/{quote(vin)}"


def image_url(port: int) -> str:
    """Where all cars find the Image metadata, and below it the images."""
    return f"https://localhost:{port}/image"


def provision_car(folder: Path, vin: str, maker: Maker) -> None:
    """Write what a car needs into `folder`; keys that are there already stay.

    | file | what | for |
    |---|---|---|
    | `director-root.json`, `image-root.json` | first root of each repository | agent |
    | `director-offline-root.json` | the root that bundles go back to | agent |
    | `ca.pem` | the maker's certificate authority | agent |
    | `time.pub`, `hmi.pub` | public keys of time server and display, as PEM | agent |
    | `vehicle.key` (0600), `vehicle.pub` | the car's own key; its public half | agent; backend |
    | `image.key` (0600), `image.pub` | opens images that are encrypted for it | agent; backend |
    | `hmi.key` (0600) | the display's private key (PKCS8) | `hil-rig hmi` |
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "director-root.json").write_bytes(maker.director(vin).files["1.root.json"])
    (folder / "image-root.json").write_bytes(maker.image.files["1.root.json"])
    open_director(maker.folder, vin, maker.now)
    (folder / "ca.pem").write_bytes((maker.folder / "tls" / "ca.pem").read_bytes())
    (folder / "time.pub").write_bytes(public_pem(maker.time_key.public_key()))
    for name in ("hmi", "vehicle"):
        key = load_or_make_key(folder / f"{name}.key")
        (folder / f"{name}.pub").write_bytes(public_pem(key.public_key()))
    image_key = load_or_make_image_key(folder / "image.key")
    (folder / "image.pub").write_bytes(public_pem(image_key.public_key()))
