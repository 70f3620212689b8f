"""Erase, download and checks of the simulated controller, and how it refuses."""

import hashlib

import pytest

from hil_rig.firmware import crc_version, make_image, memory_check_expected
from tests.unit.controller_driver import NEW, WINDOW, Bench

RANGE = WINDOW.to_bytes(4) + (256).to_bytes(4)
ERASE = b"\x31\x01\xff\x00\x44" + RANGE
DOWNLOAD = b"\x34\x00\x44" + RANGE


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.programming()
    return made


def test_the_image_is_in_the_other_bank_and_the_check_gives_its_digest(bench):
    bench.download()
    where = WINDOW.to_bytes(4) + len(NEW).to_bytes(4)
    assert bench.memory.read(1, 0, len(NEW)) == NEW
    assert bench.one(b"\x31\x01\x02\x02" + where) == "71010202" + memory_check_expected(NEW)
    assert bench.memory.erases == 1
    assert bench.memory.programs == 3


def test_outside_of_programming_the_memory_check_sees_the_running_bank(bench):
    bench.download()
    bench.one("1003")
    running = hashlib.sha256(bench.memory.read(0, 0, 256)).hexdigest()
    assert bench.one(b"\x31\x01\x02\x02" + RANGE) == "7101020200" + running


@pytest.mark.parametrize(
    ("length", "answer"), [(4095, "74200fff"), (255, "7410ff"), (0x12345, "7430012345")]
)
def test_the_block_length_is_told_in_as_many_bytes_as_it_takes(tmp_path, length, answer):
    bench = Bench(tmp_path, block_length=length)
    bench.programming()
    assert bench.one(DOWNLOAD) == answer


@pytest.mark.parametrize(
    ("request_", "nrc"),
    [
        ("3400", "13"),
        ("34004408000000", "13"),
        ("3411440800000000000100", "31"),
        ("3400000800000000000100", "31"),
        ("3400440700000000000100", "31"),
        ("3400440800000000000000", "31"),
        ("3400440800ff0000000101", "31"),
        ("3601aa", "24"),
        ("36", "13"),
        ("3601", "13"),
        ("37", "24"),
        ("3101ff00", "13"),
        ("3101ff004408000000", "13"),
        ("3101ff00440700000000000100", "31"),
        ("3101ff0100", "13"),
        ("31010203", "31"),
        ("2ef15a2611", "13"),
        ("2ef15a2613225445535445523031", "31"),
        ("2ef15a2a11225445535445523031", "31"),
    ],
)
def test_a_wrong_programming_request_changes_nothing(bench, request_, nrc):
    before = bench.memory.writes
    assert bench.one(request_) == f"7f{request_[:2]}{nrc}"
    assert bench.memory.writes == before


def test_an_erase_needs_the_fingerprint_of_this_session(bench):
    bench.one("1002")
    assert bench.one(ERASE) == "7f3122"
    bench.programming()
    assert bench.one(ERASE) == "7101ff0000"
    assert bench.one("22f15a") == "62f15a261122" + b"TESTER01".hex()


def test_a_repeated_block_is_acknowledged_and_not_written_again(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    assert bench.one(b"\x36\x01" + b"a" * 128) == "7601"
    assert bench.one(b"\x36\x01" + b"a" * 128) == "7601"
    assert bench.memory.programs == 1
    assert bench.one(b"\x36\x02" + b"b" * 128) == "7602"
    assert bench.one(b"\x36\x02" + b"b" * 128) == "7602"
    assert bench.one("37") == "77"
    assert bench.memory.read(1, 0, 256) == b"a" * 128 + b"b" * 128


def test_the_block_counter_starts_at_one_and_goes_from_ff_to_00(bench):
    where = WINDOW.to_bytes(4) + (300).to_bytes(4)
    bench.one(b"\x31\x01\xff\x00\x44" + where)
    bench.one(b"\x34\x00\x44" + where)
    assert bench.one("3600aa") == "7f3673"
    for index in range(1, 301):
        assert bench.one(bytes((0x36, index & 0xFF, 0x55))) == f"76{index & 0xFF:02x}"
    assert bench.one("37") == "77"


@pytest.mark.parametrize("wrong", [0x00, 0x03, 0xFF])
def test_a_wrong_block_counter_is_refused_and_the_transfer_goes_on(bench, wrong):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    bench.one("3601aa")
    assert bench.one(bytes((0x36, wrong, 0xBB))) == "7f3673"
    assert bench.one("3602bb") == "7602"
    assert bench.memory.programs == 2


def test_more_data_than_announced_ends_the_transfer(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    assert bench.one(b"\x36\x01" + bytes(257)) == "7f3671"
    assert bench.one("3601aa") == "7f3624"
    assert bench.memory.programs == 0


def test_data_after_the_last_byte_is_out_of_sequence(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    bench.one(b"\x36\x01" + bytes(256))
    assert bench.one("3602aa") == "7f3624"
    assert bench.one("37") == "77"


def test_a_block_longer_than_allowed_is_refused(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    assert bench.one(b"\x36\x01" + bytes(1025)) == "7f3613"


def test_an_unfinished_transfer_cannot_be_left_or_begun_anew_without_an_erase(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    bench.one("3601aa")
    assert bench.one("37") == "7f3724"
    assert bench.one(DOWNLOAD) == "7f3422"
    assert bench.one("3101ff01") == "7f3124"
    assert bench.one(ERASE) == "7101ff0000"
    assert bench.one(DOWNLOAD).startswith("74")


def test_only_erased_bytes_can_be_programmed(bench):
    bench.download()
    assert bench.one(DOWNLOAD).startswith("74")
    assert bench.one(b"\x36\x01" + bytes(16)) == "7f3672"
    assert bench.memory.read(1, 0, len(NEW)) == NEW
    assert bench.one("3601aa") == "7f3624"


def test_a_change_of_session_drops_the_transfer(bench):
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    bench.one("1002")
    assert bench.one("3601aa") == "7f3624"


def test_a_locked_controller_programs_nothing(tmp_path):
    bench = Bench(tmp_path, locked=True)
    bench.one("1003")
    bench.one("1002")
    for request in (ERASE, DOWNLOAD, b"\x36\x01\xaa", b"\x37", b"\x31\x01\xff\x01"):
        assert bench.one(request) == f"7f{request[0]:02x}33"
    assert bench.one("2ef15a2611225445535445523031") == "7f2e33"
    assert bench.memory.writes == 0


def test_an_unlocked_controller_locks_again_with_the_session(tmp_path):
    bench = Bench(tmp_path, locked=True)
    bench.programming()
    assert bench.one(ERASE) == "7101ff0000"
    bench.wait(5.0)
    bench.one("1003")
    bench.one("1002")
    assert bench.one(ERASE) == "7f3133"


def test_dependencies_want_something_programmed_for_this_hardware(bench):
    assert bench.one("3101ff01") == "7101ff0101"
    bench.download(make_image("2.0.0", "RX", "other-hw", 600, 3))
    assert bench.one("3101ff01") == "7101ff0102"
    bench.reset()
    assert bench.did("f189") == "1.0.0"


@pytest.mark.requirement("B3")
def test_software_without_a_descriptor_is_known_by_its_crc_and_keeps_the_rxswin(bench):
    plain = bytes(range(256)) * 5
    bench.download(plain)
    assert bench.one("3101ff01") == "7101ff0100"
    bench.reset()
    assert bench.did("f189") == crc_version(plain)
    assert bench.did("f1ef") == "RX-OLD"


def test_several_segments_make_one_software(bench):
    first, second = NEW[:1000], NEW[2048:]
    bench.download(first)
    bench.download(second, WINDOW + 2048)
    assert bench.one("3101ff01") == "7101ff0100"
    assert bench.memory.read(1, 1000, 1048) == b"\xff" * 1048
    bench.reset()
    assert bench.did("f189") == "2.0.0"


def test_an_erase_that_takes_long_says_so_and_is_carried_out_step_by_step(tmp_path):
    bench = Bench(tmp_path, erase_s=5.0)
    bench.programming()
    where = WINDOW.to_bytes(4) + (64 << 10).to_bytes(4)
    assert bench.ask(b"\x31\x01\xff\x00\x44" + where) == []
    assert bench.ask("22f190") == ["7f2221"]
    assert bench.ask("3e80", functional=True) == []
    assert bench.memory.erases == 0
    answers = [answer.hex() for answer in bench.wait(5.0)]
    assert answers == ["7f3178"] * 3 + ["7101ff0000"]
    assert bench.memory.erases == 1
    bench.wait(4.9)
    assert bench.one("22f186") == "62f18602"


def test_a_program_time_shorter_than_p2_is_not_announced(tmp_path):
    bench = Bench(tmp_path, program_s=0.03)
    bench.programming()
    bench.one(ERASE)
    bench.one(DOWNLOAD)
    assert bench.ask("3601aa") == []
    assert bench.memory.programs == 0
    assert [answer.hex() for answer in bench.wait(0.03)] == ["7601"]
