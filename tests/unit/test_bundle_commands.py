"""`hil-rig bundle` from the backend's own folder, and what it tells when it cannot."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.maker import Maker, provision_car
from hil_rig.backend.release import add_image, assign
from hil_rig.bundle import BundleError, describe
from hil_rig.bundle_command import attest, main, make_bundle
from hil_rig.bundle_director import ROOT_FILE, open_director
from tests.unit.bundle_world import archive, members
from tests.unit.trust_world import HARDWARE, IDENTITY, NOW, PATH, SERIAL, VIN, release
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.bundle import BundleVerifier
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.keys import load_public_key
from vehicle_agent.trust.relayed_time import accept_time, time_request
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.time_key import TimeKeys
from vehicle_agent.trust.trusted_time import Outcome, TrustedClock

DAYS = timedelta(days=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a backend that has published one release for one car."""
    folder = tmp_path_factory.mktemp("backend")
    maker = Maker(folder, NOW)
    add_image(maker.image, release())
    options = {"vin": VIN, "ecus": {SERIAL: HARDWARE}, "correlation_id": "campaign-1"}
    assign(maker.director(VIN), release(), S2025M0149I, **options)
    provision_car(maker.car_folder(VIN), VIN, maker)
    maker.publish(NOW)
    return folder


def told(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hil-rig bundle: ")
    assert said.count("\n") == 1
    return said


def car_of(folder, tmp_path, now=NOW):
    car = folder / "cars" / VIN
    roots = {name: car / f"{name}-root.json" for name in ("director", "image", "director-offline")}
    store = TrustStore(tmp_path / "metadata", roots)
    floors = FileMonotonicStore(tmp_path / "floors.json")
    return BundleVerifier(store, IDENTITY, floors=floors, now=lambda: now)


def test_the_car_that_the_backend_provisioned_opens_its_bundle(folder, tmp_path):
    make_bundle(tmp_path / "update.tar", folder, VIN, NOW, DAYS)
    opened = car_of(folder, tmp_path).open(
        tmp_path / "update.tar", "adas-controller", lambda found: tmp_path / found.sha256
    )
    assert (tmp_path / opened.sha256).read_bytes() == release().image


def test_each_bundle_has_a_later_version_and_the_root_stays(folder, tmp_path):
    versions = []
    for _ in range(2):
        make_bundle(tmp_path / "update.tar", folder, VIN, NOW, DAYS)
        roles = describe(tmp_path / "update.tar", NOW)["roles"]
        versions.append(roles["director/targets"]["version"])
        assert [name for name in roles if name.endswith("root")] == [
            "director/1.root",
            "image/1.root",
        ]
    assert versions[1] == versions[0] + 1


def test_what_it_holds_and_until_when_it_is_good_is_shown(folder, tmp_path, capsys):
    path = tmp_path / "update.tar"
    make_bundle(path, folder, VIN, NOW, DAYS)
    assert main(["show", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["vin"] == VIN
    assert facts["images"][PATH]["asSigned"] is True
    assert facts["goodUntil"] == "2026-03-08T12:00:00Z"  # the Image repository's timestamp
    assert describe(path, NOW)["expired"] is False
    assert describe(path, NOW + timedelta(days=7))["expired"] is True
    assert main(["show", str(path)]) == 0
    assert "director/timestamp" in capsys.readouterr().out
    changed = [
        (name, content.replace(b"new", b"old")) for name, content in members(path.read_bytes())
    ]
    path.write_bytes(archive(changed[-1:]))
    assert "not a bundle" in told(capsys, "show", path)
    path.write_bytes(archive([*members_of(folder, tmp_path)[:-1], changed[-1]]))
    assert describe(path, NOW)["images"][PATH]["asSigned"] is False


def members_of(folder, tmp_path):
    make_bundle(tmp_path / "again.tar", folder, VIN, NOW, DAYS)
    return members((tmp_path / "again.tar").read_bytes())


def test_a_car_is_provisioned_before_its_first_bundle(folder, tmp_path, capsys):
    root = folder / "cars" / VIN / ROOT_FILE
    root.unlink(missing_ok=True)
    assert main(["provision", "--folder", str(folder), "--vin", VIN]) == 0
    assert root.read_bytes() == open_director(folder, VIN, NOW).files["1.root.json"]
    for key in (folder / "keys" / "director-offline").iterdir():
        assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--vin", "LXMA7AEB1R0000099"), "directs nothing to VIN"),
        (("--vin", f"../director/{VIN}"), "directs nothing to VIN"),
        (("--vin", VIN, "--days", "0"), "allowed: 1 to 3650"),
        (("--vin", VIN), "timestamp expired"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(folder, tmp_path, capsys, arguments, words):
    output = tmp_path / "update.tar"
    assert words in told(capsys, "make", output, "--folder", folder, *arguments)
    assert not output.exists()


def test_an_image_that_was_changed_behind_the_metadata_is_not_bundled(folder, tmp_path):
    place = folder / "image" / "targets" / PATH
    whole = place.read_bytes()
    place.write_bytes(whole + b"x")
    try:
        with pytest.raises(BundleError, match="not the image"):
            make_bundle(tmp_path / "update.tar", folder, VIN, NOW, DAYS)
    finally:
        place.write_bytes(whole)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_no_backend(tmp_path, capsys):
    (tmp_path / "director" / VIN).mkdir(parents=True)
    (tmp_path / "director" / VIN / "targets.json").write_text("{}")
    options = ("--folder", tmp_path, "--vin", VIN)
    assert "holds no Image repository" in told(capsys, "make", tmp_path / "out", *options)
    assert "No such file" in told(capsys, "show", tmp_path / "none")


class Clock:
    """A car's trusted clock with the backend's key, and the loop's time to move."""

    def __init__(self, folder, tmp_path):
        self.time = 100.0
        floors = FileMonotonicStore(tmp_path / "floors.json")
        key = load_public_key(folder / "cars" / VIN / "time.pub")
        image_root = (folder / "cars" / VIN / "image-root.json").read_bytes
        self.trusted = TrustedClock(
            TimeKeys(key, tmp_path / "time-key.json", floors, image_root),
            floors,
            loop_time=lambda: self.time,
            nonce_bytes=lambda size: bytes(range(size)),
            max_age_s=3600.0,
        )


def test_a_laptop_carries_the_time_to_a_car_without_a_network(folder, tmp_path):
    clock = Clock(folder, tmp_path)
    answer = attest(folder, time_request(clock.trusted), NOW)
    clock.time += 60
    assert accept_time(clock.trusted, f"  {answer}\r\n") is Outcome.ATTESTED
    assert clock.trusted.now() == NOW + timedelta(seconds=60)


@pytest.mark.requirement("A1")
def test_a_relayed_answer_counts_once_for_its_own_question_and_only_as_signed(folder, tmp_path):
    clock = Clock(folder, tmp_path)
    answer = attest(folder, time_request(clock.trusted), NOW)
    for forged in (answer.replace("2026", "2027"), "", "{}", "é" * 10, answer + " " * 20_000):
        with pytest.raises(Refused) as refused:
            accept_time(clock.trusted, forged)
        assert refused.value.refusal.code is Code.TIME_ATTESTATION_INVALID
    assert accept_time(clock.trusted, answer) is Outcome.ATTESTED
    assert accept_time(clock.trusted, answer) is Outcome.FOREIGN


@pytest.mark.parametrize("line", ["", "nonce", "[]", "{}", '{"nonce": 5}'])
def test_the_time_server_answers_only_the_line_of_a_car(folder, capsys, line):
    assert "the line of the car is needed" in told(capsys, "time", line, "--folder", folder)
