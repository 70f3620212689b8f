"""Trusted time: every odd, old, early, late and forged time has its outcome."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.backend.attestation import TimeServer
from tests.unit.time_world import NOON, TimeWorld
from vehicle_agent.refusals import RULES, Code, Refused
from vehicle_agent.trust.trusted_time import CONFIRM_S, PLAUSIBLE, Outcome

ABSURD = datetime(2099, 1, 1, tzinfo=UTC)
GPS_WRAP = timedelta(weeks=1024)


@pytest.fixture
def car(tmp_path):
    return TimeWorld(tmp_path)


def is_refused(car, message, why=None):
    before = car.clock.now(), car.clock.floor
    with pytest.raises(Refused, match=why) as caught:
        car.clock.accept(message)
    assert caught.value.refusal.code is Code.TIME_ATTESTATION_INVALID
    assert (car.clock.now(), car.clock.floor) == before


def test_no_time_before_the_first_attestation(car):
    assert car.clock.now() is None
    with pytest.raises(Refused) as caught:
        car.clock.require_now()
    assert caught.value.refusal.code is Code.NO_TRUSTED_TIME


def test_time_goes_on_from_when_it_was_asked_for_until_it_is_too_old(car):
    message = car.answer()
    car.loop_time += 5
    assert car.clock.accept(message) is Outcome.ATTESTED
    assert car.clock.now() == NOON + timedelta(seconds=5)
    car.loop_time += 3595
    assert car.clock.require_now() == NOON + timedelta(hours=1)
    car.loop_time += 1
    assert car.clock.now() is None
    assert car.attest(NOON + timedelta(hours=2)) is Outcome.ATTESTED


def test_attestation_may_come_in_an_envelope(car):
    message = json.loads(car.answer())
    car.clock.accept(json.dumps({"activityId": "", "timestamp": 0, "payload": message}).encode())
    assert car.clock.now() == NOON


@pytest.mark.requirement("A3")
def test_answers_to_nonces_that_are_not_open_are_noise_and_count_for_nothing(car):
    late = car.answer()
    for_us = car.answer()
    somebody_elses = car.answer(nonce="ab" * 16)
    for noise in (late, somebody_elses):
        assert car.clock.accept(noise) is Outcome.FOREIGN
    assert car.clock.now() is None
    assert car.clock.accept(for_us) is Outcome.ATTESTED
    car.loop_time += 10
    now = car.clock.now()
    assert car.clock.accept(for_us) is Outcome.FOREIGN
    assert car.clock.now() == now


def test_answer_that_was_held_back_too_long_is_noise(car):
    message = car.answer()
    car.loop_time += 601
    assert car.clock.accept(message) is Outcome.FOREIGN


def test_laptop_relays_an_attestation_while_the_broker_is_asked_too(car):
    relayed = car.answer(nonce=car.clock.ask("relay"))
    by_broker = car.answer()
    assert car.clock.accept(relayed) is Outcome.ATTESTED
    assert car.clock.now() == NOON
    assert car.clock.accept(by_broker) is Outcome.ATTESTED


@pytest.mark.requirement("A5")
def test_attestation_by_another_key_is_an_attack_also_for_nonces_not_ours(car):
    car.server = TimeServer(Ed25519PrivateKey.generate(), lambda: NOON)
    is_refused(car, car.answer())
    is_refused(car, car.answer(nonce="ab" * 16))
    assert RULES[Code.TIME_ATTESTATION_INVALID].attack


@given(st.data())
def test_changed_attestation_is_refused(tmp_path_factory, data):
    car = TimeWorld(tmp_path_factory.mktemp("car"))
    message = car.answer()
    at = data.draw(st.integers(0, len(message) - 1))
    cut = data.draw(st.sampled_from([message[:at], message[:at] + b"\0" + message[at + 1 :]]))
    is_refused(car, cut)


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b'{"signed": 1, "signatures": []}', b'{"signed": {"nonce": 1}, "signatures": 1}'],
)
def test_nonsense_is_refused(car, message):
    car.clock.ask()
    is_refused(car, message)


@pytest.mark.requirement("A3")
@pytest.mark.parametrize(
    "time",
    [
        NOON - timedelta(seconds=1),
        NOON - GPS_WRAP,
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
def test_time_before_the_floor_or_beyond_all_reason_is_refused_and_bricks_nothing(car, time):
    car.attest()
    car.restart()
    car.server_time = time
    is_refused(car, car.answer())
    assert car.attest(NOON) is Outcome.ATTESTED


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("known", [False, True], ids=["new car", "car that knew the time"])
@pytest.mark.parametrize("absurd", [ABSURD, NOON + GPS_WRAP, NOON + PLAUSIBLE * 200])
def test_absurd_future_signed_once_is_held_back_and_the_true_time_counts_next(
    car, absurd, known, restarts
):
    if known:
        car.attest()
    car.server_time = absurd
    is_refused(car, car.answer(), "held back")
    if restarts:
        car.restart()
    assert car.attest(NOON) is Outcome.ATTESTED
    assert car.clock.now() == NOON


def test_implausible_time_counts_when_one_asked_long_enough_later_agrees(car):
    car.attest()
    car.restart()
    back = NOON + timedelta(days=3 * 365)
    car.server_time = back
    is_refused(car, car.answer(), "held back")
    car.loop_time += CONFIRM_S - 1
    assert car.attest(back + timedelta(seconds=CONFIRM_S - 1)) is Outcome.UNCONFIRMED
    car.loop_time += 1
    assert car.attest(back + timedelta(seconds=CONFIRM_S)) is Outcome.ATTESTED
    assert car.clock.now() == back + timedelta(seconds=CONFIRM_S)
    car.loop_time += 3600
    assert car.attest(back + timedelta(seconds=CONFIRM_S + 3600)) is Outcome.ATTESTED


def test_second_implausible_time_that_disagrees_confirms_nothing(car):
    car.attest()
    for days in (100, 200, 300):
        car.loop_time += CONFIRM_S
        car.server_time = NOON + timedelta(days=days)
        is_refused(car, car.answer(), "held back")


@pytest.mark.requirement("A2")
def test_thief_of_the_key_raises_the_floor_by_one_rest_however_often_he_signs(car):
    car.attest()
    ceiling = NOON + PLAUSIBLE
    for attempt in range(20):
        car.loop_time += CONFIRM_S
        try:
            car.attest(ABSURD + timedelta(seconds=CONFIRM_S * attempt))
        except Refused:
            assert attempt == 0
    elapsed = timedelta(seconds=CONFIRM_S * 20)
    assert car.clock.now() > ABSURD
    assert car.clock.floor <= ceiling + elapsed
    assert car.attest(ceiling + elapsed) is Outcome.ATTESTED


def test_thief_cannot_walk_the_floor_forward_in_plausible_steps_of_one_run(car):
    car.attest()
    for step in range(1, 30):
        try:
            car.attest(NOON + PLAUSIBLE * step)
        except Refused:
            continue
    assert car.clock.floor == NOON + PLAUSIBLE


@pytest.mark.parametrize("jump", [timedelta(days=-9000), timedelta(days=9000)])
def test_jumping_system_clock_has_no_say_and_is_seen(car, jump):
    car.attest()
    assert car.clock.system_clock_off == timedelta()
    car.system_time = NOON + jump
    assert car.clock.now() == NOON
    assert car.clock.system_clock_off == jump
    car.restart()
    assert car.clock.now() is None
    assert car.clock.system_clock_off is None
    assert car.attest(NOON) is Outcome.ATTESTED
