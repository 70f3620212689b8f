"""Sessions, timers and negative responses of the simulated controller: ISO 14229-1."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.controller_driver import Bench

DEFAULT, PROGRAMMING, EXTENDED = 1, 2, 3
UNKNOWN, WRONG_SESSION = 0x11, 0x7F

# A request of right shape for each service, and the sessions in which it may run.
SERVICES = {
    0x10: ("1001", {1, 2, 3}),
    0x11: ("1101", {1, 2, 3}),
    0x14: ("14ffffff", {1, 3}),
    0x19: ("1902ff", {1, 3}),
    0x22: ("22f190", {1, 2, 3}),
    0x27: ("2701", {2}),
    0x28: ("280301", {3}),
    0x2E: ("2ef15a2611225445535445523031", {2, 3}),
    0x31: ("31010212", {2, 3}),
    0x34: ("3400440800000000000100", {2}),
    0x36: ("3601aa", {2}),
    0x37: ("37", {2}),
    0x3E: ("3e00", {1, 2, 3}),
    0x85: ("8501", {3}),
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def enter(bench, session):
    if session == PROGRAMMING:
        bench.one("1003")
    if session != DEFAULT:
        bench.one(f"10{session:02x}")


@pytest.mark.parametrize("session", [DEFAULT, PROGRAMMING, EXTENDED])
def test_every_service_is_there_in_its_sessions_only(tmp_path, session):
    bench = Bench(tmp_path, locked=True)
    for service in range(0x100):
        bench.one("1001")
        enter(bench, session)
        request, sessions = SERVICES.get(service, (f"{service:02x}0000", set()))
        answer = bench.one(request)
        refused = answer[4:] if answer.startswith("7f") else ""
        if service not in SERVICES:
            assert refused == f"{UNKNOWN:02x}", hex(service)
        elif session not in sessions:
            assert refused == f"{WRONG_SESSION:02x}", hex(service)
        else:
            assert refused not in {f"{UNKNOWN:02x}", f"{WRONG_SESSION:02x}"}, hex(service)
        bench.wait(1.0)


def test_without_a_key_there_is_no_security_access(bench):
    enter(bench, PROGRAMMING)
    assert bench.one("2701") == "7f2711"


def test_programming_is_entered_from_the_extended_session_only(bench):
    assert bench.one("1002") == "7f107e"
    enter(bench, EXTENDED)
    assert bench.one("1002") == "5002003201f4"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("10", "7f1013"),
        ("1004", "7f1012"),
        ("100100", "7f1013"),
        ("1102", "7f1112"),
        ("14ffff", "7f1413"),
        ("14000001", "7f1431"),
        ("1903ff", "7f1912"),
        ("1902", "7f1913"),
        ("22f1", "7f2213"),
        ("22f190f1", "7f2213"),
        ("22ffff", "7f2231"),
        ("22" + "f190" * 17, "7f2213"),
        ("3e", "7f3e13"),
        ("3e01", "7f3e12"),
        ("3e0000", "7f3e13"),
        ("2803", "7f2813"),
        ("280401", "7f2812"),
        ("280300", "7f2831"),
        ("8503", "7f8512"),
        ("850100", "7f8513"),
        ("2ef15a", "7f2e13"),
        ("31010203ff", "7f3113"),
        ("31020203", "7f3112"),
        ("31010299", "7f3131"),
        ("3101ff00", "7f3131"),
        ("310102020800", "7f3113"),
        ("310102020700000000000001", "7f3131"),
        ("310102020800000000000000", "7f3131"),
        ("310102020800000000010001", "7f3131"),
        ("31010210", "7f3122"),
        ("31010211", "7f3122"),
    ],
)
def test_a_wrong_request_gets_the_response_code_of_its_first_fault(bench, request_, answer):
    enter(bench, EXTENDED)
    assert bench.one(request_) == answer


@pytest.mark.requirement("B2")
@pytest.mark.parametrize("session", [PROGRAMMING, EXTENDED])
@pytest.mark.parametrize("did", ["f189", "f1ef", "f181", "f190", "f18c", "f191", "f1f0"])
def test_identification_cannot_be_written(bench, session, did):
    before = bench.one(f"22{did}")
    enter(bench, session)
    assert bench.one(f"2e{did}41424344") == "7f2e31"
    assert bench.one(f"22{did}") == before


@pytest.mark.requirement("B1")
def test_identification_is_read_alone_and_together(bench):
    assert [bench.did(did) for did in ("f190", "f18c", "f191")] == ["VIN", "SERIAL", "hw-1"]
    assert bench.did("f189") == "1.0.0"
    assert bench.did("f1ef") == "RX-OLD"
    assert bench.did("f181") == "adas-controller 1.0.0"
    together = bytes.fromhex(bench.one("22f190fffff18c"))
    assert together == b"\x62\xf1\x90VIN\xf1\x8cSERIAL"


def test_a_suppressed_positive_response_is_not_sent_and_a_negative_one_is(bench):
    assert bench.ask("3e80") == []
    assert bench.ask("1083") == []
    assert bench.one("22f186") == "62f18603"
    assert bench.ask("3e81") == ["7f3e12"]


@pytest.mark.parametrize("request_", ["ba", "3e01", "22ffff", "2701", "1002"])
def test_a_functional_request_is_not_refused_aloud(tmp_path, request_):
    bench = Bench(tmp_path, locked=True)
    assert len(bench.ask(request_)) == 1
    assert bench.ask(request_, functional=True) == []


def test_a_functional_request_is_answered_where_it_succeeds_or_is_malformed(bench):
    assert bench.ask("3e00", functional=True) == ["7e00"]
    assert bench.ask("22f1", functional=True) == ["7f2213"]


def test_the_session_ends_when_s3_passes_without_a_request(bench):
    enter(bench, EXTENDED)
    for _ in range(5):
        bench.wait(4.9)
        assert bench.ask("3e80", functional=True) == []
    bench.wait(5.0)
    assert bench.one("22f186") == "62f18601"


def test_silence_asked_for_by_28_ends_with_the_session(bench):
    assert bench.unit.status() is not None
    enter(bench, EXTENDED)
    assert bench.one("280302") == "6803"
    assert bench.unit.status() is not None
    assert bench.one("280301") == "6803"
    assert bench.unit.status() is None
    bench.one("1002")
    assert bench.unit.status() is None
    bench.wait(5.0)
    assert bench.unit.status() is not None


def test_28_allows_the_status_frame_again(bench):
    enter(bench, EXTENDED)
    bench.one("280101")
    assert bench.unit.status() is None
    bench.one("280001")
    assert bench.unit.status() is not None


def test_trouble_codes_are_read_and_cleared(bench):
    bench.fault(kind="dtc", dtc=0xC12345)
    assert bench.one("1902ff") == "59022fc123452f"
    assert bench.one("1901ff") == "59012f010001"
    assert bench.one("190200") == "59022f"
    assert bench.one("14ffffff") == "54"
    assert bench.one("1902ff") == "59022f"


def test_a_reset_answers_first_and_is_silent_until_it_is_over(bench):
    enter(bench, EXTENDED)
    assert bench.one("1101") == "5101"
    assert bench.ask("3e00") == []
    assert bench.unit.status() is None
    bench.wait(0.99)
    assert bench.ask("3e00") == []
    bench.wait(0.01)
    assert bench.one("22f186") == "62f18601"


def test_a_suppressed_reset_still_resets(bench):
    assert bench.ask("1181") == []
    assert bench.ask("3e00") == []
    bench.wait(1.0)
    assert bench.one("3e00") == "7e00"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    requests=st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=40),
                st.builds(
                    lambda sid, rest: bytes((sid,)) + rest,
                    st.sampled_from(sorted(SERVICES)),
                    st.binary(max_size=20),
                ),
                st.sampled_from([bytes.fromhex(request) for request, _ in SERVICES.values()]),
                st.sampled_from([b"\x10\x03", b"\x10\x02", b"\x31\x01\xff\x01"]),
            ),
            st.booleans(),
            st.floats(0, 6),
        ),
        max_size=12,
    )
)
def test_any_bytes_are_answered_or_left_unanswered_and_never_break_the_server(
    tmp_path_factory, requests
):
    bench = Bench(tmp_path_factory.mktemp("any"))
    for request, functional, pause in requests:
        for answer in bench.ask(request, functional=functional):
            data = bytes.fromhex(answer)
            positive = data[0] == (request[0] + 0x40) & 0xFF
            assert positive or (len(data) == 3 and data[:2] == bytes((0x7F, request[0])))
        bench.wait(pause)
    bench.memory.close()
