"""The image server over real TLS: ranges, ETags, and every fault as a client meets it."""

import ssl
import threading
from datetime import UTC, datetime

import pytest
import urllib3

from hil_rig.backend.faults import Fault, Kind
from hil_rig.backend.image_server import ImageServer
from hil_rig.backend.pki import make_server_certificate

IMAGE = bytes(range(256)) * 1024
URL = "/image/targets/adas.bin"


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_server_certificate(folder, datetime.now(UTC))
    return folder


@pytest.fixture
def server(tls):
    files = {URL: IMAGE, "/image/timestamp.json": b"{}"}
    server = ImageServer(files.get, certificate=tls / "server.pem", key=tls / "server.key")
    yield server
    server.close()


@pytest.fixture
def get(server, tls):
    with urllib3.PoolManager(ca_certs=str(tls / "ca.pem"), retries=False, timeout=5) as pool:
        yield lambda path=URL, method="GET", **more: pool.request(
            method, f"https://localhost:{server.port}{path}", **more
        )


def test_serves_whole_image_with_length_and_etag(get):
    answer = get()
    assert (answer.status, answer.data) == (200, IMAGE)
    assert answer.headers["Content-Length"] == str(len(IMAGE))
    assert answer.headers["ETag"] == get().headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "expected", "told"),
    [
        ("bytes=100-199", IMAGE[100:200], "100-199"),
        ("bytes=262000-", IMAGE[262000:], "262000-262143"),
        ("bytes=-10", IMAGE[-10:], "262134-262143"),
    ],
)
def test_serves_the_range_asked_for(get, asked, expected, told):
    answer = get(headers={"Range": asked, "If-Range": get(method="HEAD").headers["ETag"]})
    assert (answer.status, answer.data) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {told}/{len(IMAGE)}"


def test_range_of_another_object_gets_the_whole(get):
    answer = get(headers={"Range": "bytes=10-", "If-Range": '"another"'})
    assert (answer.status, answer.data) == (200, IMAGE)


def test_range_beyond_the_end_is_refused(get):
    answer = get(headers={"Range": f"bytes={len(IMAGE)}-"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(IMAGE)}")


def test_speaks_tls_1_3_and_nothing_older(server, tls):
    old = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    pool = urllib3.PoolManager(ssl_context=old, retries=False)
    with pool, pytest.raises(urllib3.exceptions.SSLError):
        pool.request("GET", f"https://localhost:{server.port}{URL}")


def test_stranger_does_not_trust_the_certificate(server):
    pool = urllib3.PoolManager(retries=False)
    with pool, pytest.raises(urllib3.exceptions.SSLError):
        pool.request("GET", f"https://localhost:{server.port}{URL}")


def test_unknown_path_is_404(get):
    assert get("/image/targets/none.bin").status == 404


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("status", [404, 500, 503])
def test_fault_status_holds_as_often_as_told(server, get, status):
    server.inject(Fault(kind=Kind.STATUS, amount=status, times=2))
    assert [get().status for _ in range(3)] == [status, status, 200]


@pytest.mark.requirement("A4")
def test_fault_truncated_ends_before_the_promised_length(server, get):
    server.inject(Fault(kind=Kind.TRUNCATED, amount=1000))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get()


@pytest.mark.requirement("A4")
def test_fault_longer_appends(server, get):
    server.inject(Fault(kind=Kind.LONGER, amount=7))
    assert get().data == IMAGE + bytes(7)


@pytest.mark.requirement("A1")
def test_fault_corrupt_changes_one_bit(server, get):
    server.inject(Fault(kind=Kind.CORRUPT, amount=5000))
    got = get().data
    assert [i for i, (a, b) in enumerate(zip(got, IMAGE, strict=True)) if a != b] == [5000]


@pytest.mark.requirement("A4")
def test_fault_dropped_closes_without_an_answer(server, get):
    server.inject(Fault(kind=Kind.DROPPED, times=1))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get()
    assert get().status == 200


@pytest.mark.requirement("A4")
def test_server_that_is_gone_refuses_and_comes_back_on_the_same_port(server, get):
    server.close()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        get()
    server.clear()
    assert get().data == IMAGE


@pytest.mark.requirement("A4")
def test_fault_endless_outlasts_any_limit(server, get):
    server.inject(Fault(kind=Kind.ENDLESS))
    answer = get(preload_content=False)
    assert "Content-Length" not in answer.headers
    assert len(answer.read(4 * len(IMAGE))) == 4 * len(IMAGE)
    answer.close()


@pytest.mark.requirement("A4")
def test_fault_stall_sends_no_more_than_told(server, get):
    server.inject(Fault(kind=Kind.STALL, amount=100))
    answer = get(preload_content=False, timeout=urllib3.Timeout(connect=5, read=0.2))
    assert answer.read(100) == IMAGE[:100]
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        answer.read(1)


@pytest.mark.requirement("A4")
def test_fault_drip_sends_in_small_pieces_until_the_server_goes(server, get):
    server.inject(Fault(kind=Kind.DRIP, amount=100))
    answer = get(preload_content=False)
    assert answer.read(10) == IMAGE[:10]
    closing = threading.Thread(target=server.close)
    closing.start()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        answer.read()
    closing.join()


def test_fault_without_ranges_sends_all(server, get):
    server.inject(Fault(kind=Kind.WITHOUT_RANGES))
    answer = get(headers={"Range": "bytes=10-"})
    assert (answer.status, answer.data) == (200, IMAGE)


def test_fault_concerns_only_the_paths_that_match(server, get):
    server.inject(Fault(kind=Kind.STATUS, amount=500))
    assert get("/image/timestamp.json").data == b"{}"
