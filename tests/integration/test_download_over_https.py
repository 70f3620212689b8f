"""Images and metadata over real TLS from a server that fails and attacks in every named way."""

import asyncio
import hashlib
import shutil
import socket
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hil_rig.backend.faults import Fault, Kind
from hil_rig.backend.image_server import ImageServer
from hil_rig.backend.pki import make_server_certificate
from vehicle_agent.download import DownloadConfig, Downloader, part
from vehicle_agent.refusals import Code, Refused

IMAGE = bytes(range(256)) * 4096
LENGTH = len(IMAGE)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
PATH = "/image/targets/adas.bin"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_server_certificate(folder, datetime.now(UTC))
    return folder


@pytest.fixture
def server(tls):
    contents = {PATH: IMAGE, "/image/timestamp.json": b"{}" * 50}
    server = ImageServer(contents.get, certificate=tls / "server.pem", key=tls / "server.key")
    server.contents = contents
    yield server
    server.close()


class Client:
    def __init__(self, tls, server, folder, **config):
        self.folder = folder
        self.destination = folder / "images" / "adas.image"
        self.part = self.destination.with_name("adas.image.part")
        self.base = f"https://localhost:{getattr(server, 'port', 0)}"
        self.progress = []
        self.now = None
        settings = {"slow_after_s": 5.0} | config
        self.downloader = Downloader(
            DownloadConfig(ca="", **settings), ca=tls / "ca.pem", now=lambda: self.now
        )

    async def image(self, *, path=PATH, length=LENGTH, sha256=SHA256, **hashes):
        def note(there, total):
            self.progress.append((there, total))

        signed = {"sha256": sha256, **hashes}
        url = self.base + path
        return await self.downloader.image(url, length, signed, self.destination, note)

    async def image_refused(self, **arguments):
        with pytest.raises(Refused) as caught:
            await self.image(**arguments)
        assert not self.destination.exists()
        return caught.value.refusal.code


@pytest.fixture
def client(tls, server, tmp_path):
    return Client(tls, server, tmp_path)


async def until(happened):
    """Look again whenever the loop has had its turn; the test's own timeout ends it."""
    while not happened():  # noqa: ASYNC110 - a file in another thread or process sets no event
        await asyncio.sleep(0.005)


async def test_image_arrives_whole_and_nothing_is_left_beside_it(client):
    assert await client.image() == client.destination
    assert client.destination.read_bytes() == IMAGE
    assert [path.name for path in client.destination.parent.iterdir()] == ["adas.image"]
    assert client.progress[-1] == (len(IMAGE), len(IMAGE))
    assert client.progress == sorted(client.progress)
    assert len(client.progress) > 3


async def test_complete_image_is_hashed_again_not_fetched_again(client, server):
    await client.image()
    await client.image()
    assert server.requests == [PATH]
    client.destination.write_bytes(IMAGE[:-1] + b"\0")
    await client.image()
    assert server.requests == [PATH, PATH]
    assert client.destination.read_bytes() == IMAGE


async def test_truncated_image_is_resumed_where_it_ended(client, server):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=300_000, times=1))
    assert await client.image_refused() is Code.IMAGE_TRUNCATED
    there = client.part.stat().st_size
    assert 0 < there <= 300_000
    await client.image()
    assert (server.log[-1].range, server.log[-1].status) == (f"bytes={there}-", 206)
    assert server.log[-1].sent == len(IMAGE) - there
    assert client.destination.read_bytes() == IMAGE


async def test_part_of_another_object_is_not_continued(client, server):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=300_000, times=1))
    await client.image_refused()
    other = IMAGE[::-1]
    server.contents[PATH] = other
    await client.image(sha256=hashlib.sha256(other).hexdigest())
    assert client.destination.read_bytes() == other


async def test_server_without_ranges_sends_all_again(client, server):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=300_000, times=1))
    await client.image_refused()
    server.inject(Fault(kind=Kind.WITHOUT_RANGES))
    await client.image()
    assert client.destination.read_bytes() == IMAGE


async def test_part_torn_by_a_power_cut_is_no_attack(client, server):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=300_000, times=1))
    await client.image_refused()
    client.part.write_bytes(b"\0" * client.part.stat().st_size)
    await client.image()
    assert client.destination.read_bytes() == IMAGE


@pytest.mark.requirement("A1")
async def test_changed_byte_is_refused_and_the_part_removed(client, server):
    server.inject(Fault(kind=Kind.CORRUPT, amount=5))
    assert await client.image_refused() is Code.TARGET_HASH_MISMATCH
    assert list(client.destination.parent.iterdir()) == []


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("kind", [Kind.LONGER, Kind.ENDLESS])
async def test_longer_image_is_refused_with_the_disk_bounded(client, server, kind):
    server.inject(Fault(kind=kind, amount=1))
    assert await client.image_refused() is Code.OVERSIZED_TARGET
    assert list(client.destination.parent.iterdir()) == []


async def test_shorter_image_is_refused(client):
    assert await client.image_refused(length=len(IMAGE) + 1) is Code.IMAGE_TRUNCATED


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=Kind.STATUS, amount=404),
        Fault(kind=Kind.STATUS, amount=503),
        Fault(kind=Kind.STATUS, amount=302),
        Fault(kind=Kind.DROPPED),
    ],
)
async def test_failing_server_is_unavailable(client, server, fault):
    server.inject(fault)
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE


async def test_server_that_is_gone_and_back(client, server):
    server.close()
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE
    server.open()
    await client.image()


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("kind", [Kind.DRIP, Kind.STALL])
async def test_server_that_drips_is_left_and_what_came_is_kept(tls, server, tmp_path, kind):
    client = Client(tls, server, tmp_path, slow_after_s=0.3, minimum_rate=1_000_000)
    server.inject(Fault(kind=kind, amount=1000))
    assert await client.image_refused() is Code.SLOW_RETRIEVAL
    assert client.part.stat().st_size > 0


async def test_cancelling_ends_the_thread_at_once(client, server):
    server.inject(Fault(kind=Kind.STALL, amount=1000))
    task = asyncio.create_task(client.image())
    await until(client.part.exists)
    before = threading.active_count()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, timeout=4)
    assert threading.active_count() <= before


async def test_full_disk_is_asked_first(client, server, monkeypatch):
    usage = shutil.disk_usage(client.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=len(IMAGE)))
    assert await client.image_refused() is Code.DISK_FULL
    assert server.requests == []


async def test_disk_that_fills_up_meanwhile(client, monkeypatch):
    def no_room(file, chunk):
        raise part.DiskError("No space left on device")

    monkeypatch.setattr(part, "_write", no_room)
    assert await client.image_refused() is Code.DISK_FULL


async def test_metadata_is_bounded_and_absence_told_apart(client, server):
    url = f"{client.base}/image/timestamp.json"
    assert await client.downloader.fetch(url, 100) == b"{}" * 50
    assert await client.downloader.fetch(f"{client.base}/image/2.root.json", 100) is None
    with pytest.raises(Refused) as caught:
        await client.downloader.fetch(url, 99)
    assert caught.value.refusal.code is Code.METADATA_MALFORMED


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Kind.ENDLESS, Code.METADATA_MALFORMED),
        (Kind.TRUNCATED, Code.METADATA_UNAVAILABLE),
        (Kind.DROPPED, Code.METADATA_UNAVAILABLE),
        (Kind.STALL, Code.SLOW_RETRIEVAL),
    ],
)
async def test_metadata_from_a_hostile_server(tls, server, tmp_path, fault, code):
    client = Client(tls, server, tmp_path, slow_after_s=0.3)
    server.inject(Fault(kind=fault, url_path="*", amount=10))
    with pytest.raises(Refused) as caught:
        await client.downloader.fetch(f"{client.base}/image/timestamp.json", 1000)
    assert caught.value.refusal.code is code


@pytest.mark.requirement("A1")
async def test_server_of_another_authority_is_not_believed(server, tmp_path):
    make_server_certificate(tmp_path / "other", datetime.now(UTC))
    client = Client(tmp_path / "other", server, tmp_path)
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE
    assert server.requests == []


async def test_name_in_the_certificate_must_be_the_hosts(client, server):
    client.base = f"https://127.0.0.2:{server.port}"
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE
    assert server.requests == []


async def test_dates_of_a_certificate_are_judged_by_trusted_time_alone(tmp_path):
    long_ago = datetime(2010, 1, 1, tzinfo=UTC)
    make_server_certificate(tmp_path, long_ago)
    server = ImageServer(
        {PATH: IMAGE}.get, certificate=tmp_path / "server.pem", key=tmp_path / "server.key"
    )
    try:
        client = Client(tmp_path, server, tmp_path)
        await client.image()
        client.destination.unlink()
        client.now = long_ago + timedelta(days=5000)
        assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE
        client.now = long_ago
        await client.image()
    finally:
        server.close()


async def test_tls_below_1_3_is_not_spoken(client, server):
    server._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.close()
    server._context.minimum_version = ssl.TLSVersion.TLSv1_2
    server._context.maximum_version = ssl.TLSVersion.TLSv1_2
    folder = client.folder / "tls12"
    make_server_certificate(folder, datetime.now(UTC))
    server._context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.open()
    client = Client(folder, server, client.folder)
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE


KILLED = """
import asyncio, sys
from pathlib import Path
from vehicle_agent.download import DownloadConfig, Downloader

ca, url, length, sha256, destination = sys.argv[1:]
downloader = Downloader(DownloadConfig(ca=ca, slow_after_s=60.0), ca=Path(ca))
asyncio.run(
    downloader.image(url, int(length), {"sha256": sha256}, Path(destination), lambda *_: None)
)
"""


async def test_download_is_resumed_after_sigkill(client, server, tls):
    server.inject(Fault(kind=Kind.STALL, amount=300_000, times=1))
    arguments = [tls / "ca.pem", client.base + PATH, len(IMAGE), SHA256, client.destination]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *map(str, arguments), cwd=Path(__file__).parents[2]
    )
    await until(lambda: client.part.exists() and client.part.stat().st_size > 200_000)
    process.kill()
    await process.wait()
    there = client.part.stat().st_size
    assert there < len(IMAGE)
    again = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *map(str, arguments), cwd=Path(__file__).parents[2]
    )
    assert await again.wait() == 0
    assert [answer.range for answer in server.log] == ["", f"bytes={there}-"]
    assert server.log[1].sent == len(IMAGE) - there
    assert client.destination.read_bytes() == IMAGE
    assert [path.name for path in client.destination.parent.iterdir()] == ["adas.image"]


async def test_object_swapped_after_a_kill_starts_again(client, server):
    server.inject(Fault(kind=Kind.STALL, amount=300_000, times=1))
    task = asyncio.create_task(client.image())
    await until(lambda: client.part.exists() and client.part.stat().st_size > 200_000)
    task.cancel()
    await asyncio.wait({task})
    there = client.part.stat().st_size
    other = IMAGE[::-1]
    server.contents[PATH] = other
    await client.image(sha256=hashlib.sha256(other).hexdigest())
    assert (server.log[-1].range, server.log[-1].status) == (f"bytes={there}-", 200)
    assert client.destination.read_bytes() == other


async def test_server_that_resumes_elsewhere_is_not_followed(client, server):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=300_000, times=1))
    await client.image_refused()
    server.inject(Fault(kind=Kind.OTHER_RANGE, amount=1000, times=1))
    assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE
    assert not client.part.exists()
    await client.image()


@pytest.mark.requirement("A1")
async def test_every_signed_hash_is_checked(client, server):
    sha512 = hashlib.sha512(IMAGE).hexdigest()
    assert await client.image_refused(sha512="0" * 128) is Code.TARGET_HASH_MISMATCH
    wrong = {"sha256": "0" * 64, "sha512": sha512}
    assert await client.image_refused(**wrong) is Code.TARGET_HASH_MISMATCH
    await client.image(sha512=sha512, md5="not known here")
    assert client.destination.read_bytes() == IMAGE


async def test_server_that_accepts_and_never_answers_is_unavailable(tls, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(tls, silent, tmp_path, slow_after_s=0.2)
        client.base = f"https://localhost:{silent.getsockname()[1]}"
        assert await client.image_refused() is Code.IMAGE_SERVER_UNAVAILABLE


class Zeros:
    """An object of many GB that nobody holds."""

    etag = '"zeros"'

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, span):
        return bytes(span.stop - span.start)


class Counting:
    """Takes the place of a digest: the digest is the length. Reading 4 GiB would cost seconds."""

    name = "sha256"

    def __init__(self, _name):
        self.count = 0

    def update(self, chunk):
        self.count += len(chunk)

    def hexdigest(self):
        return str(self.count)


async def test_image_beyond_4_gib_is_resumed_at_its_offset(client, server, monkeypatch):
    def count_file(path, digests, _on_read):
        digests._running[0].count = path.stat().st_size
        return digests._running[0].count

    monkeypatch.setattr(hashlib, "new", Counting)
    monkeypatch.setattr(part, "hash_file", count_file)
    length = (1 << 32) + 3 * (1 << 16) + 7
    there = (1 << 32) + 5
    server.contents[PATH] = Zeros(length)
    client.part.parent.mkdir()
    with client.part.open("wb") as sparse:
        sparse.truncate(there)
    client.destination.with_name("adas.image.etag").write_text(Zeros.etag)
    await client.image(length=length, sha256=str(length))
    assert server.log[-1].range == f"bytes={there}-"
    assert server.log[-1].sent == length - there
    assert client.destination.stat().st_size == length
    assert client.destination.stat().st_blocks * 512 < 1 << 24
