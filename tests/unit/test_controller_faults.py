"""Faults put into the simulated controller: they strike where told, and go when cleared."""

import msgspec
import pytest

from hil_rig.controller.faults import Fault
from tests.unit.controller_driver import NEW, WINDOW, Bench

RANGE = WINDOW.to_bytes(4) + len(NEW).to_bytes(4)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("nrc", [0x10, 0x21, 0x22, 0x33, 0x37, 0x70, 0x72, 0x78, 0x92, 0x93])
def test_any_response_code_can_be_provoked_instead_of_the_service(bench, nrc):
    bench.fault(kind="nrc", service=0x10, nrc=nrc)
    assert bench.one("1003") == f"7f10{nrc:02x}"
    assert bench.one("22f186") == "62f18601"
    assert bench.one("1003").startswith("50")


def test_a_fault_waits_for_its_request_and_holds_for_its_count(bench):
    bench.fault(kind="nrc", match="22 F190", nrc=0x22, nth=2, count=2)
    answers = [bench.one("22f190")[:2] for _ in range(5)]
    assert answers == ["62", "7f", "7f", "62", "62"]
    assert bench.one("22f18c").startswith("62")


def test_a_lost_response_is_of_a_request_that_was_carried_out(bench):
    bench.programming()
    bench.one(b"\x31\x01\xff\x00\x44" + RANGE)
    bench.one(b"\x34\x00\x44" + RANGE)
    bench.fault(kind="drop_response", service=0x36)
    assert bench.ask("3601aabb") == []
    assert bench.memory.programs == 1
    assert bench.one("3601aabb") == "7601"
    assert bench.memory.programs == 1


def test_silence_begins_at_its_request_and_ends_when_cleared(bench):
    bench.fault(kind="silent", service=0x22, nth=2)
    assert bench.one("22f190").startswith("62")
    assert bench.ask("22f190") == []
    assert bench.ask("3e00") == []
    bench.unit.clear_faults()
    assert bench.one("3e00") == "7e00"


def test_silence_without_a_request_is_at_once(bench):
    bench.fault(kind="silent")
    assert bench.ask("3e00") == []


def test_a_delay_is_announced_by_response_pending(bench):
    bench.fault(kind="delay", service=0x22, seconds=3.0)
    assert bench.ask("22f186") == []
    assert [answer.hex() for answer in bench.wait(3.0)] == ["7f2278", "7f2278", "62f18601"]


def test_preconditions_can_be_unmet(bench):
    bench.one("1003")
    assert bench.one("31010203") == "7101020300"
    bench.fault(kind="preconditions", codes=[2, 5])
    assert bench.one("31010203") == "710102030205"
    bench.unit.clear_faults()
    assert bench.one("31010203") == "7101020300"


def test_without_power_there_is_neither_answer_nor_status(bench):
    bench.one("1003")
    bench.unit.power_off()
    assert bench.ask("3e00") == []
    assert bench.unit.status() is None
    assert bench.unit.deadline is None
    bench.unit.power_on(bench.now)
    bench.unit.power_on(bench.now)
    bench.wait(1.0)
    assert bench.one("22f186") == "62f18601"


def test_power_lost_in_mid_erase_leaves_the_rest_unerased(tmp_path):
    bench = Bench(tmp_path, erase_s=1.0)
    bench.programming()
    assert bench.ask(b"\x31\x01\xff\x00\x44" + RANGE) == []
    bench.unit.power_off()
    assert bench.wait(5.0) == []
    assert bench.memory.erases == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "unheard"},
        {"kind": "nrc", "nrc": 256},
        {"kind": "nrc", "nth": 0},
        {"kind": "nrc", "servce": 1},
        {},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fields):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, Fault)


def test_a_match_that_is_not_hex_is_refused(bench):
    with pytest.raises(ValueError, match="hex"):
        bench.fault(kind="nrc", match="xyz")
