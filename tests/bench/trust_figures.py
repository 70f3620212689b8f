"""Storing and verifying against the least that the same work can cost."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hil_rig.backend.image_server import ImageServer
from hil_rig.backend.pki import make_server_certificate
from tests.bench.figures import Figures
from tests.unit.trust_world import IDENTITY, NOW, PATH, SERIAL, World
from vehicle_agent.download.part import Digests, Part
from vehicle_agent.trust.delegations import locate
from vehicle_agent.trust.release import directed_to, release_for
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.workflow import drive, verify_files

RUNS = 5
_MIB = 1 << 20
_IMAGE = 256 * _MIB
_CHUNK = 1 << 16

_FETCH = """
import asyncio, resource, sys
from pathlib import Path
from vehicle_agent.download import DownloadConfig, Downloader

ca, url, length, sha256, destination = sys.argv[1:]
downloader = Downloader(DownloadConfig(ca=ca), ca=Path(ca))
asyncio.run(
    downloader.image(url, int(length), {"sha256": sha256}, Path(destination), lambda *_: None)
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(figures: Figures) -> None:
    """All figures of trust."""
    with tempfile.TemporaryDirectory(dir=Path.cwd() / "build", prefix="bench-") as folder:
        _store(figures, Path(folder))
        _verify(figures, Path(folder))
        _memory(figures, Path(folder))


def _store(figures: Figures, folder: Path) -> None:
    chunk = os.urandom(_CHUNK)
    digest = hashlib.sha256()
    for _ in range(_IMAGE // _CHUNK):
        digest.update(chunk)
    signed = {"sha256": digest.hexdigest()}
    ratios, ours_s, plain_s = [], [], []
    for _ in range(RUNS):
        plain = _seconds(lambda: _store_plainly(folder / "plain", chunk))
        ours = _seconds(lambda: _store_verified(folder / "image", chunk, signed))
        ratios.append(plain / ours)
        plain_s.append(plain)
        ours_s.append(ours)
    detail = f"256 MiB: ours {_list(ours_s)} s, sha256 + write + fsync {_list(plain_s)} s"
    figures.add("trust.store_ratio", ratios, limit=">= 0.9", detail=detail)


def _chunks(chunk: bytes) -> Iterator[bytes]:
    for _ in range(_IMAGE // _CHUNK):
        yield chunk


def _store_plainly(path: Path, chunk: bytes) -> None:
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for each in _chunks(chunk):
            digest.update(each)
            file.write(each)
        os.fsync(file.fileno())
    path.unlink()


def _store_verified(destination: Path, chunk: bytes, signed: dict[str, str]) -> None:
    part = Part(destination)
    part.begin('"etag"')
    part.need_room(_IMAGE)
    digests = Digests(signed)
    if part.store(_chunks(chunk), 0, _IMAGE, digests, lambda _: None) != _IMAGE or digests.wrong():
        raise AssertionError("not the image")
    part.finish(destination)
    destination.unlink()


def _verify(figures: Figures, folder: Path) -> None:
    """One update: both repositories from their first roots on, and the release out of them."""
    world = World(folder)
    repeats = 50
    provisioned = {name: world.store.load(name) for name in world.by_name}

    def one_update() -> None:
        trusts = {name: RepositoryTrust(name, files) for name, files in provisioned.items()}
        for name, trust in trusts.items():
            verify_files(trust, world.by_name[name].files, NOW)
        directed = directed_to("adas-controller", IDENTITY, trusts["director"].targets)
        files = world.image.files
        located = drive(
            locate(trusts["image"], directed.path, "ADAS-HW-3"), lambda want: files.get(want.name)
        )
        found = release_for(directed, located, image_url="", counter_floor=0, signed_by=())
        if (found.filepath, found.ecu_serial) != (PATH, SERIAL):
            raise AssertionError("not the release")

    checks = _recorded(one_update)

    def bare() -> None:
        for key, signature, payload in checks:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, payload)

    ratios, ours_ms, bare_ms = [], [], []
    for _ in range(RUNS):
        ours = _cpu_s(lambda: [one_update() for _ in range(repeats)]) / repeats
        least = _cpu_s(lambda: [bare() for _ in range(repeats)]) / repeats
        ratios.append(ours / least)
        ours_ms.append(ours * 1000)
        bare_ms.append(least * 1000)
    detail = f"ours {_list(ours_ms)} ms, {len(checks)} bare Ed25519 checks {_list(bare_ms)} ms CPU"
    figures.add("trust.verify_ratio", ratios, limit="<= 2", detail=detail)


def _recorded(work: Callable[[], None]) -> list[tuple[bytes, bytes, bytes]]:
    """The signature checks that `work` makes: raw key, signature, payload."""
    from securesystemslib.signer import SSlibKey

    seen = []
    real = SSlibKey.verify_signature

    def verify(self, signature, data):
        seen.append(
            (bytes.fromhex(self.keyval["public"]), bytes.fromhex(signature.signature), data)
        )
        real(self, signature, data)

    SSlibKey.verify_signature = verify
    try:
        work()
    finally:
        SSlibKey.verify_signature = real
    return seen


class _Zeros:
    """An object that nobody holds in memory."""

    def __init__(self, length: int) -> None:
        self.etag = f'"{length}"'
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice, /) -> bytes:
        return bytes(span.stop - span.start)


def _memory(figures: Figures, folder: Path) -> None:
    """Peak memory of a process that fetches over TLS; one run each, it is no matter of chance."""
    make_server_certificate(folder, datetime.now(UTC) - timedelta(days=1))
    peaks, seconds = {}, {}
    for length in (_MIB, 1024 * _MIB):
        content = _Zeros(length)
        server = ImageServer(
            {"/image": content}.get, certificate=folder / "server.pem", key=folder / "server.key"
        )
        digest = hashlib.sha256()
        for _ in range(length // _MIB):
            digest.update(bytes(_MIB))
        url = f"https://localhost:{server.port}/image"
        arguments = (folder / "ca.pem", url, length, digest.hexdigest(), folder / "fetched")
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _FETCH, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds[length] = time.perf_counter() - begin
        peaks[length] = int(done.stdout) / 1024
        (folder / "fetched").unlink()
        server.close()
    growth = peaks[1024 * _MIB] - peaks[_MIB]
    detail = f"1 run each over TLS: {_list(peaks.values())} MiB in {_list(seconds.values())} s"
    figures.add("trust.rss_growth_mib", [growth], limit="<= 10", detail=detail)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _cpu_s(work: Callable[[], object]) -> float:
    """Processor time: what needs nothing else is not made slower by who else is running."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _list(values) -> str:
    return " ".join(f"{value:.3g}" for value in values)
