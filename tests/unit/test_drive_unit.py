"""The drive unit inhibits only a car that stands in P, and lets go exactly when it should."""

from __future__ import annotations

from pathlib import Path

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.drive_unit import DriveUnit
from hil_rig.residual_bus import E2EProtection

REQUEST = cantools.database.load_file(
    Path(__file__).parents[2] / "dbc" / "adas.dbc"
).get_message_by_name("OTA_DriveInhibit")
PROTECTION = E2EProtection.of(REQUEST)
IN_P = {"gear": "P", "standstill": True}


def frame(counter: int, request: int = 1, reason: int = 1) -> bytes:
    data = bytearray(8)
    data[1:4] = bytes([counter, request, reason])
    return PROTECTION.protect(bytes(data))


def asked(*, hold_s: float = 10.0, **car) -> DriveUnit:
    """A drive unit that has heard two requests, at 0.00 and 0.05."""
    unit = DriveUnit(REQUEST, hold_s=hold_s)
    unit.receive(frame(0), 0.00, **(IN_P | car))
    unit.receive(frame(1), 0.05, **(IN_P | car))
    return unit


@pytest.mark.parametrize(
    ("gear", "standstill", "answer"),
    [
        (gear, standstill, "YES" if gear == "P" and standstill else "REFUSED")
        for gear in "PRND"
        for standstill in (True, False)
    ],
)
@pytest.mark.requirement("D3")
def test_only_a_car_that_stands_in_p_is_inhibited(gear, standstill, answer) -> None:
    unit = asked(gear=gear, standstill=standstill)
    assert unit.status(0.06, gear=gear).inhibited == answer
    assert unit.inhibits(0.06, gear=gear) is (answer == "YES")


def test_the_first_frame_only_sets_the_counter() -> None:
    unit = DriveUnit(REQUEST)
    unit.receive(frame(7), 0.0, **IN_P)
    assert unit.status(0.0, gear="P").inhibited == "NO"
    unit.receive(frame(8), 0.05, **IN_P)
    assert unit.status(0.05, gear="P").inhibited == "YES"


@pytest.mark.parametrize("step", range(15))
def test_only_one_to_three_steps_of_the_counter_are_new_data(step: int) -> None:
    unit = DriveUnit(REQUEST)
    unit.receive(frame(13), 0.0, **IN_P)
    unit.receive(frame((13 + step) % 15), 0.05, **IN_P)
    assert unit.inhibits(0.05, gear="P") is (1 <= step <= 3)


@pytest.mark.parametrize(
    "spoilt",
    [
        frame(1)[:1] + b"\x02" + frame(1)[2:],
        bytes([frame(1)[0] ^ 1]) + frame(1)[1:],
        frame(1)[:7],
        frame(1) + b"\x00",
        b"",
        frame(15),
        frame(1, request=2),
        frame(1, request=3),
        frame(1, reason=3),
        frame(1, reason=7),
    ],
    ids=["counter", "crc", "short", "long", "empty", "counter15", "req2", "req3", "why3", "why7"],
)
def test_a_request_that_is_not_valid_counts_for_nothing(spoilt: bytes) -> None:
    unit = DriveUnit(REQUEST)
    unit.receive(frame(0), 0.0, **IN_P)
    unit.receive(spoilt, 0.05, **IN_P)
    assert unit.status(0.05, gear="P").inhibited == "NO"
    assert unit.invalid_requests == 2


def test_counter_15_does_not_exist() -> None:
    unit = DriveUnit(REQUEST)
    unit.receive(frame(14), 0.0, **IN_P)
    unit.receive(frame(15), 0.05, **IN_P)
    assert not unit.inhibits(0.05, gear="P")


def test_after_silence_one_frame_is_not_enough() -> None:
    unit = DriveUnit(REQUEST)
    unit.receive(frame(0), 0.0, **IN_P)
    unit.receive(frame(1), 0.26, **IN_P)
    assert not unit.inhibits(0.26, gear="P")
    unit.receive(frame(2), 0.31, **IN_P)
    assert unit.inhibits(0.31, gear="P")


def test_a_request_made_while_stopped_in_d_does_not_bind_the_car_later_in_p() -> None:
    unit = asked(gear="D", standstill=True)
    assert not unit.inhibits(0.06, gear="P")


def test_the_inhibit_outlives_its_requests_by_the_hold_time_and_no_longer() -> None:
    unit = asked(hold_s=10.0)
    assert unit.status(0.05, gear="P").hold_s == pytest.approx(10.0)
    assert unit.status(5.05, gear="P").hold_s == pytest.approx(5.0)
    assert unit.inhibits(10.04, gear="P")
    assert not unit.inhibits(10.06, gear="P")
    assert unit.status(10.06, gear="P") == ("NO", 0.0)


def test_a_restarted_head_unit_keeps_the_inhibit_by_asking_again() -> None:
    unit = asked(hold_s=10.0)
    unit.receive(frame(0), 9.00, **IN_P)
    unit.receive(frame(1), 9.05, **IN_P)
    assert unit.status(12.0, gear="P").hold_s == pytest.approx(7.05)


def test_an_inhibit_is_kept_up_though_the_car_is_pushed() -> None:
    unit = asked()
    unit.receive(frame(2), 0.10, gear="P", standstill=False)
    assert unit.inhibits(0.10, gear="P")


def test_a_frozen_request_does_not_prolong_the_inhibit() -> None:
    unit = asked(hold_s=1.0)
    for k in range(2, 40):
        unit.receive(frame(1), 0.05 * k, **IN_P)
    assert unit.status(1.06, gear="P").inhibited == "NO"


def test_a_valid_release_ends_it_at_once() -> None:
    unit = asked()
    unit.receive(frame(2, request=0, reason=0), 0.10, **IN_P)
    assert unit.status(0.10, gear="P") == ("NO", 0.0)


def test_a_release_that_is_not_valid_leaves_it() -> None:
    unit = asked()
    unit.receive(frame(9, request=0, reason=0), 0.10, **IN_P)
    assert unit.inhibits(0.10, gear="P")


def test_a_refusal_turns_into_an_inhibit_when_the_car_comes_to_stand() -> None:
    unit = asked(gear="D", standstill=False)
    unit.receive(frame(2), 0.10, **IN_P)
    assert unit.status(0.10, gear="P").inhibited == "YES"


def test_a_refusal_is_told_only_while_there_are_requests() -> None:
    unit = asked(gear="D", standstill=False)
    assert unit.status(0.30, gear="D").inhibited == "REFUSED"
    assert unit.status(0.31, gear="D").inhibited == "NO"


def test_a_car_that_left_p_is_never_called_inhibited_again_without_a_new_grant() -> None:
    unit = asked()
    assert unit.status(0.06, gear="D").inhibited == "REFUSED"
    assert unit.status(0.07, gear="P").inhibited == "REFUSED"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15),
            st.integers(0, 3),
            st.booleans(),
            st.sampled_from("PD"),
            st.booleans(),
            st.floats(0, 3),
        ),
        max_size=80,
    )
)
def test_yes_is_never_said_of_a_car_out_of_p_or_after_the_hold_time(frames) -> None:
    unit = DriveUnit(REQUEST, hold_s=2.0)
    now, last_good = 0.0, float("-inf")
    for counter, request, good, gear, standstill, wait in frames:
        now += wait
        data = frame(counter, request)
        unit.receive(
            data if good else bytes([data[0] ^ 0x55]) + data[1:],
            now,
            gear=gear,
            standstill=standstill,
        )
        if good and request == 1:
            last_good = now
        status = unit.status(now, gear=gear)
        if status.inhibited == "YES":
            assert gear == "P"
            assert now - last_good < 2.0
            assert 0 < status.hold_s <= 2.0
        else:
            assert status.hold_s == 0.0
