"""A maker's folder with one car's bundle, and the car that opens it without a network."""

from __future__ import annotations

import io
import tarfile
from datetime import timedelta

from hil_rig.bundle_command import make_bundle
from hil_rig.bundle_director import ROOT_FILE, open_director
from tests.unit.trust_world import IDENTITY, NOW, PATH, VIN, World
from vehicle_agent.trust.bundle import BundleVerifier
from vehicle_agent.trust.store import TrustStore

LIFETIME = timedelta(days=60)


class BundleWorld:
    """`make` writes the bundle of what stands in the world's repositories; `open` is the car."""

    def __init__(self, folder, vin=VIN, **world):
        self.vin = vin
        self.folder = folder / "maker"
        self.path = folder / "update.tar"
        self.destination = folder / "car" / "images" / "image"
        (self.folder / "cars" / vin).mkdir(parents=True)
        self.world = World(folder, vin=vin, **world)
        self.write()
        self.now = NOW
        self.offline = open_director(self.folder, vin, NOW, LIFETIME)
        roots = {name: folder / f"{name}.root.json" for name in ("director", "image")}
        roots["director-offline"] = self.folder / "cars" / vin / ROOT_FILE
        self.store = TrustStore(folder / "trust" / "metadata", roots)
        self.verifier = BundleVerifier(
            self.store, IDENTITY, floors=self.world.floors, now=lambda: self.now
        )

    def write(self):
        """Bring the world's repositories to the maker's folder."""
        self.world.image.write_to(self.folder / "image")
        self.world.director.write_to(self.folder / "director" / self.vin)

    def make(self, now=NOW, lifetime=LIFETIME):
        make_bundle(self.path, self.folder, self.vin, now, lifetime)
        return self.path.read_bytes()

    def open(self, component="adas-controller"):
        return self.verifier.open(self.path, component, lambda _: self.destination)

    @property
    def kept(self):
        """What the car has stored of this bundle, as names."""
        places = (self.destination.parent, self.store._folder)
        return sorted(
            path.name
            for place in places
            for path in place.rglob("*")
            if path.is_file() and not path.name.startswith("versions.json")
        )


def members(content):
    """Name and content of each file of a tar, in order."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [(each.name, archive.extractfile(each).read()) for each in archive]


def archive(files, form=tarfile.USTAR_FORMAT):
    """A tar of `files`, name and content, in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


IMAGE_MEMBER = f"targets/{PATH}"
