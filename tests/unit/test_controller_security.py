"""SecurityAccess of the simulated controller: seeds, keys, attempts and the delay."""

import pytest

from hil_rig.controller.iso14229 import Negative, Nrc
from hil_rig.controller.security import Security, key_for
from tests.unit.controller_driver import KEY, Bench


def test_the_key_is_the_cmac_of_rfc_4493():
    secret = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    seed = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert key_for(secret, seed).hex() == "070a16b46b4d4144f79bdd9dd04a287c"


@pytest.fixture
def lock():
    seeds = iter(bytes((number,)) * 16 for number in range(1, 100))
    return Security(KEY, attempts=3, delay_s=10.0, random=lambda _size: next(seeds))


def refused(act, *arguments):
    with pytest.raises(Negative) as caught:
        act(*arguments)
    return caught.value.nrc


def test_the_right_key_opens_and_an_open_lock_gives_a_seed_of_zeros(lock):
    lock.send_key(0.0, key_for(KEY, lock.request_seed(0.0)))
    assert lock.unlocked
    assert lock.request_seed(0.0) == bytes(16)
    lock.relock()
    assert not lock.unlocked


def test_a_seed_serves_once(lock):
    seed = lock.request_seed(0.0)
    assert refused(lock.send_key, 0.0, bytes(16)) is Nrc.INVALID_KEY
    assert refused(lock.send_key, 0.0, key_for(KEY, seed)) is Nrc.REQUEST_SEQUENCE_ERROR
    assert lock.request_seed(0.0) != seed


def test_too_many_wrong_keys_shut_the_lock_for_the_delay(lock):
    for expected in (Nrc.INVALID_KEY, Nrc.INVALID_KEY, Nrc.EXCEEDED_NUMBER_OF_ATTEMPTS):
        lock.request_seed(0.0)
        assert refused(lock.send_key, 0.0, bytes(16)) is expected
    lock.relock()
    assert refused(lock.request_seed, 9.9) is Nrc.REQUIRED_TIME_DELAY_NOT_EXPIRED
    lock.send_key(10.0, key_for(KEY, lock.request_seed(10.0)))
    assert lock.unlocked


def test_the_delay_outlives_a_reset_of_the_controller(tmp_path):
    bench = Bench(tmp_path, locked=True)
    for _ in range(3):
        bench.one("1003")
        bench.one("1002")
        bench.one("2701")
        answer = bench.one(b"\x27\x02" + bytes(16))
    assert answer == "7f2736"
    bench.one("1101")
    bench.wait(1.0)
    bench.one("1003")
    bench.one("1002")
    assert bench.one("2701") == "7f2737"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("2703", "7f2712"),
        ("270100", "7f2713"),
        ("270200", "7f2713"),
        ("2702" + "00" * 16, "7f2724"),
    ],
)
def test_malformed_security_requests_are_refused(tmp_path, request_, answer):
    bench = Bench(tmp_path, locked=True)
    bench.one("1003")
    bench.one("1002")
    assert bench.one(request_) == answer
