"""Frame protection of the agent, against published values and an independent library."""

from __future__ import annotations

import e2e
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle_agent.parking.e2e import (
    CounterCheck,
    ProtectionConfig,
    Status,
    protection_of,
    scheme_of,
)
from vehicle_agent.refusals import Code, Refused

P01 = ProtectionConfig(protection="e2e-p01", data_id=0x123)
P02 = ProtectionConfig(protection="e2e-p02", data_id_list=bytes(range(1, 17)).hex())
SUM = ProtectionConfig(protection="sum", crc_offset=56, counter_offset=52)
COUNTER = ProtectionConfig(protection="counter")
KINDS = {"p01": P01, "p02": P02, "sum": SUM, "counter": COUNTER}


def scheme(config, arbitration_id=0x118):
    return scheme_of(config, arbitration_id, 8, "frame")


def check(config=P01):
    return protection_of(config, 0x118, 8, resync_s=1.0, where="frame")


@pytest.mark.parametrize(
    ("config", "counter", "expected"),
    [(P01, 0, "cc00"), (P01, 1, "9101"), (P02, 1, "1b01")],
)
def test_eight_zero_bytes_get_the_published_header(config, counter, expected):
    assert scheme(config).protect(bytes(8), counter) == bytes.fromhex(expected) + bytes(6)


def test_the_byte_sum_covers_id_and_frame():
    protected = scheme(SUM).protect(bytes([1, 2, 3, 4, 5, 6, 7, 0]), 0)
    assert protected == bytes([1, 2, 3, 4, 5, 6, 7, 0x35])


@given(st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFF), st.integers(0, 14))
def test_profile_1_agrees_with_the_library(payload, data_id, counter):
    config = ProtectionConfig(protection="e2e-p01", data_id=data_id)
    own = scheme(config).protect(payload, counter)
    other = bytearray(payload)
    other[1] = other[1] & 0xF0 | counter
    e2e.p01.e2e_p01_protect(other, data_id, increment_counter=False)
    assert own == bytes(other)
    assert scheme(config).intact(own)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16), st.integers(0, 15))
def test_profile_2_agrees_with_the_library(payload, ids, counter):
    config = ProtectionConfig(protection="e2e-p02", data_id_list=ids.hex())
    own = scheme(config).protect(payload, counter)
    other = bytearray(payload)
    other[1] = other[1] & 0xF0 | counter
    e2e.p02.e2e_p02_protect(other, ids, increment_counter=False)
    assert own == bytes(other)


@pytest.mark.parametrize("name", ["p01", "p02", "sum"])
def test_every_single_bit_flip_is_an_error_or_out_of_sequence(name):
    protection = check(KINDS[name])
    sender = scheme(KINDS[name])
    protection.check(sender.protect(bytes(8), 0), 0.0)
    good = sender.protect(bytes(range(8)), 1)
    for bit in range(64):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert protection.check(bytes(bad), 0.1) is Status.ERROR
    assert protection.check(good, 0.1) is Status.VALID


@pytest.mark.parametrize("name", list(KINDS))
def test_each_step_of_the_counter_has_its_status(name):
    config = KINDS[name]
    sender = scheme(config)
    modulus = sender.counter_modulus
    for last in range(modulus):
        for step in range(modulus):
            protection = check(config)
            assert protection.check(sender.protect(bytes(8), last), 0.0) is Status.INVALID
            frame = sender.protect(bytes(8), (last + step) % modulus)
            expected = (
                Status.REPEATED
                if step == 0
                else Status.VALID
                if step <= config.max_delta
                else Status.WRONG_SEQUENCE
            )
            assert protection.check(frame, 0.1) is expected


def test_a_wrong_sequence_starts_the_count_anew():
    protection, sender = check(), scheme(P01)
    protection.check(sender.protect(bytes(8), 0), 0.0)
    assert protection.check(sender.protect(bytes(8), 9), 0.1) is Status.WRONG_SEQUENCE
    assert protection.check(sender.protect(bytes(8), 10), 0.2) is Status.VALID


def test_a_corrupted_frame_does_not_move_the_count():
    protection, sender = check(), scheme(P01)
    protection.check(sender.protect(bytes(8), 0), 0.0)
    assert protection.check(sender.protect(bytes(8), 1)[:7] + b"\x01", 0.1) is Status.ERROR
    assert protection.check(sender.protect(bytes(8), 2), 0.2) is Status.VALID


def test_a_frozen_sender_is_never_valid_again():
    protection, sender = check(), scheme(P01)
    protection.check(sender.protect(bytes(8), 0), 0.0)
    frozen = sender.protect(bytes(8), 1)
    assert protection.check(frozen, 0.1) is Status.VALID
    statuses = {protection.check(frozen, 0.2 + 0.1 * i) for i in range(50)}
    assert statuses == {Status.REPEATED, Status.INVALID}


def test_after_a_silence_the_first_frame_only_starts_the_sequence():
    protection, sender = check(), scheme(P01)
    protection.check(sender.protect(bytes(8), 0), 0.0)
    assert protection.check(sender.protect(bytes(8), 1), 1.0) is Status.INVALID
    assert protection.check(sender.protect(bytes(8), 2), 1.1) is Status.VALID


def test_profile_1_has_no_counter_15():
    frame = bytearray(scheme(P01).protect(bytes(8), 0))
    frame[1] |= 0xF
    e2e.p01.e2e_p01_protect(frame, 0x123, increment_counter=False)
    assert check().check(bytes(frame), 0.0) is Status.ERROR


@pytest.mark.parametrize("name", list(KINDS))
def test_a_cycle_without_a_frame_is_no_new_data(name):
    assert check(KINDS[name]).check(None, 0.0) is Status.NO_NEW_DATA


def test_an_unprotected_frame_always_passes():
    protection = check(ProtectionConfig(protection="none"))
    assert protection.check(bytes(8), 0.0) is Status.VALID
    assert protection.check(None, 0.0) is Status.NO_NEW_DATA


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ProtectionConfig(protection="e2e-p01"), "data_id"),
        (ProtectionConfig(protection="e2e-p01", data_id=0x10000), "0 to 65535"),
        (ProtectionConfig(protection="e2e-p02", data_id_list="010203"), "16 bytes"),
        (ProtectionConfig(protection="e2e-p02", data_id_list="xy"), "hex"),
        (ProtectionConfig(protection="sum", crc_offset=64), "crc_offset 64"),
        (ProtectionConfig(protection="sum", crc_offset=4), "crc_offset 4"),
        (ProtectionConfig(protection="sum", counter_offset=66), "counter_offset 66"),
        (ProtectionConfig(protection="sum", counter_offset=4), "share a byte"),
        (ProtectionConfig(protection="counter", max_delta=16), "max_delta 16"),
        (ProtectionConfig(protection="counter", max_delta=0), "max_delta 0"),
    ],
)
def test_an_impossible_protection_is_refused_with_its_place(config, words):
    with pytest.raises(Refused, match=words) as caught:
        check(config)
    assert caught.value.refusal.code is Code.CONFIG_INVALID
    assert "frame" in caught.value.refusal.detail


def test_none_cannot_protect_what_is_sent():
    with pytest.raises(Refused, match="neither counter nor checksum"):
        scheme(ProtectionConfig(protection="none"))


def test_the_state_machine_is_one_for_all_schemes():
    assert {type(check(config)) for config in KINDS.values()} == {CounterCheck}
