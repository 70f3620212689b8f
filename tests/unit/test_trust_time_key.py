"""The key of the time server is replaced in the field, by the Image root alone."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.attestation import TimeServer, time_key_statement
from tests.unit.time_world import NOON, TimeWorld
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.trusted_time import CONFIRM_S, Outcome

LATER = NOON + timedelta(days=10)


@pytest.fixture
def car(tmp_path):
    return TimeWorld(tmp_path)


def statement(car, version=1, *, key=None, signers=None, not_before=NOON):
    key = key or Ed25519PrivateKey.generate()
    signers = car.image.signers["root"] if signers is None else signers
    return json.dumps(time_key_statement(key.public_key(), version, not_before, signers)).encode()


def is_refused(car, message):
    with pytest.raises(Refused) as caught:
        car.clock.accept(message)
    assert caught.value.refusal.code is Code.TIME_ATTESTATION_INVALID


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("restarts", [False, True])
def test_car_with_a_floor_driven_ahead_by_a_thief_is_freed_by_another_key(car, restarts):
    car.attest()
    for seconds in (0, CONFIRM_S):
        car.loop_time += seconds
        try:
            car.attest(datetime(2099, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
        except Refused:
            assert seconds == 0
    car.server_time = LATER
    is_refused(car, car.answer())
    fresh = Ed25519PrivateKey.generate()
    assert car.clock.accept(statement(car, key=fresh)) is Outcome.NEW_KEY
    assert car.clock.now() is None
    if restarts:
        car.restart()
    is_refused(car, car.answer())
    car.server = TimeServer(fresh, lambda: car.server_time)
    assert car.attest(LATER) is Outcome.ATTESTED
    assert car.clock.now() == LATER


def test_time_before_the_new_key_is_refused(car):
    fresh = Ed25519PrivateKey.generate()
    car.clock.accept(statement(car, key=fresh, not_before=LATER))
    car.server = TimeServer(fresh, lambda: car.server_time)
    car.server_time = NOON
    is_refused(car, car.answer())


def test_the_same_statement_again_changes_nothing(car):
    message = statement(car)
    assert car.clock.accept(message) is Outcome.NEW_KEY
    assert car.clock.accept(message) is Outcome.FOREIGN


@pytest.mark.requirement("A3")
def test_older_or_equal_version_is_refused(car):
    car.clock.accept(statement(car, 2))
    for version in (1, 2):
        is_refused(car, statement(car, version))
    car.restart()
    is_refused(car, statement(car, 2))
    assert car.clock.accept(statement(car, 3)) is Outcome.NEW_KEY


@pytest.mark.requirement("A2")
def test_only_the_image_roots_threshold_names_a_key(car):
    is_refused(car, statement(car, signers=[]))
    is_refused(car, statement(car, signers=[CryptoSigner.generate_ed25519()]))
    is_refused(car, statement(car, signers=car.image.signers["targets"]))
    old = list(car.image.signers["root"])
    car.image.rotate("root", NOON)
    is_refused(car, statement(car, signers=old))
    assert car.clock.accept(statement(car)) is Outcome.NEW_KEY


@pytest.mark.parametrize("loss", ["missing", "older", "damaged"])
def test_lost_statement_never_brings_the_key_before_back(car, loss):
    fresh = Ed25519PrivateKey.generate()
    file = car.folder / "time-key.json"
    car.clock.accept(statement(car, 1))
    older = file.read_bytes()
    message = statement(car, 2, key=fresh)
    car.clock.accept(message)
    if loss == "missing":
        file.unlink()
    else:
        file.write_bytes(older if loss == "older" else b"{")
    car.restart()
    is_refused(car, car.answer())
    is_refused(car, statement(car, 1))
    assert car.clock.accept(message) is Outcome.NEW_KEY
    car.server = TimeServer(fresh, lambda: car.server_time)
    assert car.attest() is Outcome.ATTESTED


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 1 << 31},
        {"version": "1"},
        {"notBefore": "2026-03-01T12:00:00"},
        {"notBefore": 7},
        {"key": {}},
        {"key": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}},
        {"key": {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": ""}}},
        {"more": 1},
    ],
)
def test_statement_of_another_shape_is_refused_though_well_signed(car, change):
    from hil_rig.backend.repository import canonical

    signed = json.loads(statement(car))["signed"] | change
    signatures = [signer.sign(canonical(signed)) for signer in car.image.signers["root"]]
    sigs = [{"keyid": each.keyid, "sig": each.signature} for each in signatures]
    is_refused(car, json.dumps({"signed": signed, "signatures": sigs}).encode())
    assert car.attest() is Outcome.ATTESTED


@pytest.mark.parametrize("signatures", [None, 1, [1], [{}], [{"keyid": 1, "sig": 2}]])
def test_signatures_that_are_none_are_refused(car, signatures):
    document = json.loads(statement(car)) | {"signatures": signatures}
    is_refused(car, json.dumps(document).encode())
