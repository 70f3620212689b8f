"""One car, its two repositories in memory, and the agent's verifier over them."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.release import ImageRelease, add_image, assign, publish_both
from hil_rig.backend.repository import Repository
from vehicle_agent.identity import EcuIdentity, VehicleIdentity
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.verifier import TrustConfig, Verifier

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VIN = "LXMA7AEB1R0000042"
SERIAL, HARDWARE = "ADAS-0042", "ADAS-HW-3"
PROFILE = "ab" * 32
PATH = "adas/adas-controller-2.4.0.bin"
DIRECTOR_URL = f"https://localhost:8443/director/{VIN}"
IMAGE_URL = "https://localhost:8443/image"

IDENTITY = VehicleIdentity(
    vin=VIN,
    model="XMA7000MBEVR2",
    production_date=date(2024, 6, 1),
    ecus=(
        EcuIdentity(
            component="adas-controller",
            serial=SERIAL,
            hardware_id=HARDWARE,
            profile="profile.toml",
            bus="adas",
        ),
    ),
)


def release(**changes) -> ImageRelease:
    fields = {
        "path": PATH,
        "image": b"new software" * 100,
        "version": "2.4.0",
        "release_counter": 7,
        "hardware_ids": (HARDWARE,),
        "base_versions": ("2.3.1",),
        "profile_sha256": PROFILE,
        "readback": {0xF189: "2.4.0"},
        "memory_check_expected": "00" + "11" * 32,
        "rxswin_before": "R1",
        "rxswin_after": "R2",
    }
    return ImageRelease(**(fields | changes))


class World:
    """Both repositories published at NOW; `fetch` serves their files, and counts."""

    def __init__(self, folder, *, published=None, **director):
        self.folder = folder
        self.image, self.director = Repository(NOW), Repository(NOW)
        self.release = published or release()
        add_image(self.image, self.release)
        options = {"vin": VIN, "ecus": {SERIAL: HARDWARE}, "correlation_id": "campaign-1"}
        assign(self.director, self.release, S2025M0149I, **(options | director))
        publish_both(self.image, self.director, NOW)
        self.now = NOW
        self.fetched = []
        for name, repository in self.by_name.items():
            (folder / f"{name}.root.json").write_bytes(repository.files["1.root.json"])
        self.restart()

    @property
    def by_name(self):
        return {"director": self.director, "image": self.image}

    def restart(self):
        """A new process over the same files."""
        config = TrustConfig(
            directory=str(self.folder / "trust"),
            director_root=str(self.folder / "director.root.json"),
            image_root=str(self.folder / "image.root.json"),
            time_key="",
            vehicle_key="",
            allowed_hosts=("localhost:8443",),
        )
        self.store = config.store()
        self.floors = FileMonotonicStore(config.floors_path())
        self.verifier = Verifier(
            config,
            self.store,
            self.fetch,
            IDENTITY,
            floors=self.floors,
            now=lambda: self.now,
        )

    async def fetch(self, url, limit):
        self.fetched.append(url)
        base, _, name = url.rpartition("/")
        repository = self.director if base == DIRECTOR_URL else self.image
        data = repository.files.get(name)
        return None if data is None else data[: limit + 1]

    def verify(self, component="adas-controller", version="2.4.0", urls=(DIRECTOR_URL, IMAGE_URL)):
        return asyncio.run(self.verifier.verify(component, version, *urls))
