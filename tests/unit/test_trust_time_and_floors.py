"""Trusted time, floors that never go down, and files that hold after a power cut."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.backend.attestation import TimeServer
from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.trusted_time import FLOOR, TrustedClock

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Car:
    """A clock over a loop time that the test moves, and the time server that it asks."""

    def __init__(self, path):
        self.path = path
        self.loop_time = 1000.0
        self.server_time = NOON
        self.nonces = 0
        self.server = TimeServer(KEY, lambda: self.server_time)
        self.restart()

    def restart(self):
        self.floors = FileMonotonicStore(self.path)
        self.clock = TrustedClock(
            KEY.public_key(),
            self.floors,
            loop_time=lambda: self.loop_time,
            nonce_bytes=self._nonce,
            max_age_s=3600.0,
        )

    def _nonce(self, size):
        self.nonces += 1
        return self.nonces.to_bytes(size)

    def attest(self):
        return json.dumps(self.server.attest(self.clock.ask())).encode()


@pytest.fixture
def car(tmp_path):
    return Car(tmp_path / "floors.json")


def is_refused(car, message):
    with pytest.raises(Refused) as caught:
        car.clock.accept(message)
    assert caught.value.refusal.code is Code.TIME_ATTESTATION_INVALID


def test_no_time_before_the_first_attestation(car):
    assert car.clock.now() is None
    with pytest.raises(Refused) as caught:
        car.clock.require_now()
    assert caught.value.refusal.code is Code.NO_TRUSTED_TIME


def test_time_goes_on_from_when_it_was_asked_for_until_it_is_too_old(car):
    message = car.attest()
    car.loop_time += 5
    assert car.clock.accept(message) == NOON
    assert car.clock.now() == NOON + timedelta(seconds=5)
    car.loop_time += 3595
    assert car.clock.require_now() == NOON + timedelta(hours=1)
    car.loop_time += 1
    assert car.clock.now() is None


def test_attestation_may_come_in_an_envelope(car):
    message = json.loads(car.attest())
    car.clock.accept(json.dumps({"activityId": "", "timestamp": 0, "payload": message}).encode())
    assert car.clock.now() == NOON


@pytest.mark.requirement("A3")
def test_attestation_counts_once_and_for_our_last_nonce_only(car):
    first = car.attest()
    second = car.attest()
    is_refused(car, first)
    car.clock.accept(second)
    is_refused(car, second)


def test_attestation_by_another_key_is_refused(car):
    car.server = TimeServer(Ed25519PrivateKey.generate(), lambda: NOON)
    is_refused(car, car.attest())
    assert car.clock.now() is None


@pytest.mark.parametrize(
    "time",
    [
        NOON - timedelta(seconds=1),
        NOON - timedelta(weeks=1024),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
def test_time_before_the_floor_or_beyond_reason_is_refused_and_bricks_nothing(car, time):
    car.clock.accept(car.attest())
    car.restart()
    car.server_time = time
    is_refused(car, car.attest())
    car.server_time = NOON
    car.clock.accept(car.attest())
    assert car.clock.now() == NOON


@given(st.data())
def test_changed_attestation_is_refused(tmp_path_factory, data):
    car = Car(tmp_path_factory.mktemp("car") / "floors.json")
    message = car.attest()
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


def test_floors_only_rise_and_hold_over_a_restart(tmp_path):
    path = tmp_path / "floors.json"
    floors = FileMonotonicStore(path)
    assert floors.get("a") == 0
    assert floors.raise_to("a", 5) == 5
    assert floors.raise_to("a", 3) == 5
    floors.raise_to("b", 1)
    again = FileMonotonicStore(path)
    assert (again.get("a"), again.get("b")) == (5, 1)


def test_floor_that_another_process_has_raised_stays_raised(tmp_path):
    ours, theirs = (FileMonotonicStore(tmp_path / "floors.json") for _ in range(2))
    theirs.raise_to("time_s", 9)
    assert ours.raise_to("time_s", 7) == 9
    ours.raise_to("report_counter", 1)
    again = FileMonotonicStore(tmp_path / "floors.json")
    assert (again.get("time_s"), again.get("report_counter")) == (9, 1)


@pytest.mark.parametrize("damage", ["", "{}", '{"floors": {"a": 1}, "sha256": "00"}', None])
@pytest.mark.parametrize("copy", ["floors.json", "floors.json.copy"])
def test_damaged_copy_of_the_floors_lowers_nothing(tmp_path, copy, damage):
    FileMonotonicStore(tmp_path / "floors.json").raise_to("a", 5)
    if damage is None:
        (tmp_path / copy).unlink()
    else:
        (tmp_path / copy).write_text(damage)
    floors = FileMonotonicStore(tmp_path / "floors.json")
    assert floors.get("a") == 5
    floors.raise_to("a", 6)
    assert (tmp_path / "floors.json").read_bytes() == (tmp_path / "floors.json.copy").read_bytes()


def test_floors_that_are_lost_in_both_copies_are_not_taken_for_zero(tmp_path):
    path = tmp_path / "floors.json"
    FileMonotonicStore(path).raise_to(FLOOR, 5)
    for copy in (path, tmp_path / "floors.json.copy"):
        copy.write_bytes(b"\0" * 10)
    with pytest.raises(Refused) as caught:
        FileMonotonicStore(path)
    assert caught.value.refusal.code is Code.JOURNAL_DAMAGED


def test_writing_syncs_the_file_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    real = os.fsync

    def fsync(descriptor):
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.read_bytes()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_durably(path, b"new")
    assert seen == [(tmp_path / "file.new", b"old"), (tmp_path, b"new")]
    assert path.stat().st_mode & 0o777 == 0o600


def test_provisioned_root_counts_until_one_is_stored(tmp_path):
    (tmp_path / "root.json").write_bytes(b"provisioned")
    store = TrustStore(tmp_path / "trust", {"image": tmp_path / "root.json"})
    assert store.load("image") == {"root": b"provisioned"}
    store.save("image", {"root": b"rotated", "timestamp": b"t"})
    assert store.load("image") == {"root": b"rotated", "timestamp": b"t"}


def test_missing_provisioned_root_names_the_key_of_the_configuration(tmp_path):
    store = TrustStore(tmp_path, {"image": tmp_path / "nowhere.json"})
    with pytest.raises(Refused, match=r"trust\.image_root"):
        store.load("image")
