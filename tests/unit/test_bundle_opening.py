"""A bundle made by the rig is what the car's own verification accepts; every other is refused."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.encryption import encrypt_image
from hil_rig.backend.release import add_image, assign, publish_both
from hil_rig.backend.tamper import TAMPERS
from hil_rig.bundle import write_bundle
from hil_rig.bundle_director import bind, direct_as_online, open_director
from tests.unit.bundle_world import IMAGE_MEMBER, LIFETIME, BundleWorld, archive, members
from tests.unit.trust_world import IDENTITY, NOW, PATH, VIN, release
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust import bundle as agents_side
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.verifier import release_counter

OTHER = "LXMA7AEB1R0000043"


@pytest.fixture
def bench(tmp_path):
    made = BundleWorld(tmp_path)
    made.world.image.publish(NOW)
    made.write()
    made.make()
    return made


def refusal(bench, content=None, component="adas-controller"):
    """The refusal of the bundle, or of `content` in its place; nothing of it has been kept."""
    before = bench.kept
    if content is not None:
        bench.path.write_bytes(content)
    with pytest.raises(Refused) as refused:
        bench.open(component)
    assert "\n" not in str(refused.value)
    assert bench.kept == before
    return refused.value.refusal.code


def with_files(bench, **changes):
    """The bundle with other contents under some names; None leaves a file out."""
    files = [(name, changes.get(name, old)) for name, old in members(bench.path.read_bytes())]
    return archive([(name, content) for name, content in files if content is not None])


def test_what_the_rig_makes_is_verified_and_its_image_kept(bench):
    opened = bench.open()
    assert (opened.filepath, opened.facts.version) == (PATH, "2.4.0")
    assert opened.campaign.vin == VIN
    assert opened.image_url == f"bundle:/targets/{PATH}"
    assert bench.destination.read_bytes() == bench.world.release.image
    assert bench.destination.stat().st_mode & 0o077 == 0
    assert sorted(bench.store.load("director-offline")) == sorted(bench.store.load("image"))


def test_the_release_is_the_one_that_comes_over_the_air(bench):
    online, offline = bench.world.verify(), bench.open()
    assert online.facts == offline.facts
    assert online.campaign == offline.campaign
    assert online.sha256 == offline.sha256


def test_a_bundle_may_be_opened_again(bench):
    assert bench.open() == bench.open()


@pytest.mark.requirement("A3")
def test_an_older_bundle_is_refused_once_a_newer_one_was_opened(bench):
    older = bench.path.read_bytes()
    bench.make()
    bench.open()
    assert refusal(bench, older) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
def test_image_metadata_older_than_what_came_over_the_air_is_refused(bench):
    bench.world.image.publish(NOW)
    bench.world.verify()
    assert refusal(bench) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
def test_a_release_below_the_floor_is_refused(bench):
    bench.world.floors.raise_to(release_counter("ADAS-0042"), 8)
    assert refusal(bench) is Code.RELEASE_COUNTER_TOO_LOW


def test_a_bundle_is_good_as_long_as_its_own_roles_and_the_image_timestamp(bench):
    bench.now = NOW + timedelta(days=8)
    assert refusal(bench) is Code.EXPIRED_METADATA
    bench.world.image.publish(NOW + LIFETIME - timedelta(days=1))
    bench.write()
    image = dict(bench.world.image.files)
    offline = open_director(bench.folder, VIN, NOW)
    with bench.path.open("wb") as out:
        write_bundle(out, VIN, offline, image, bench.folder)
    bench.now = NOW + LIFETIME - timedelta(hours=1)
    assert bench.open().facts.version == "2.4.0"
    bench.now = NOW + LIFETIME + timedelta(seconds=1)
    assert refusal(bench) is Code.EXPIRED_METADATA


def test_without_trusted_time_no_bundle_is_opened(bench):
    bench.now = None
    assert refusal(bench) is Code.NO_TRUSTED_TIME


def test_a_car_without_the_offline_root_opens_none(bench, tmp_path):
    roots = {"director": tmp_path / "director.root.json", "image": tmp_path / "image.root.json"}
    bench.verifier._store = TrustStore(tmp_path / "trust" / "metadata", roots)
    assert refusal(bench) is Code.CONFIG_INVALID


@pytest.mark.requirement("B4")
def test_another_cars_bundle_is_refused(bench, tmp_path):
    (tmp_path / "other").mkdir()
    other = BundleWorld(tmp_path / "other", vin=OTHER).make()
    assert refusal(bench, other) is Code.VIN_MISMATCH


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("roles", [("timestamp", "snapshot"), ("timestamp",), ("snapshot",)])
def test_no_role_of_another_cars_director_counts_though_the_keys_are_the_same(bench, roles):
    offline = open_director(bench.folder, VIN, NOW)
    for role in roles:
        offline.forge(role, lambda signed: signed["custom"].update(vin=OTHER))
    changed = {f"director/{role}.json": offline.bytes_of(role) for role in roles}
    assert refusal(bench, with_files(bench, **changed)) is Code.VIN_MISMATCH


@pytest.mark.requirement("B4")
def test_a_campaign_for_another_car_is_refused(tmp_path):
    bench = BundleWorld(tmp_path, campaign={"vin": OTHER})
    bench.make()
    assert refusal(bench) is Code.VIN_MISMATCH


@pytest.mark.requirement("A1")
def test_the_online_directors_keys_sign_no_bundle(bench):
    files = bench.world.director.files
    for name in ("timestamp.json", "snapshot.json", "targets.json"):
        bench.world.director.forge(name.split(".")[0], lambda s: s.update(custom={"vin": VIN}))
    changed = {f"director/{name}": content for name, content in files.items()}
    assert refusal(bench, with_files(bench, **changed)) is Code.UNMET_THRESHOLD


TRUST_CODES = {
    "unsigned": {Code.UNMET_THRESHOLD, Code.ROOT_ROTATION_ERROR},
    "unknown_key": {Code.UNMET_THRESHOLD, Code.ROOT_ROTATION_ERROR},
    "repeated_signature": {Code.NON_UNIQUE_SIGNATURES},
    "bad_key_id": {Code.UNMET_THRESHOLD},
    "expired": {Code.EXPIRED_METADATA},
    "newer": {Code.VERSION_MISMATCH},
    "older": {Code.VERSION_MISMATCH},
    "truncated": {Code.METADATA_MALFORMED},
    "not_json": {Code.METADATA_MALFORMED},
    "huge": {Code.METADATA_MALFORMED},
    "missing": {Code.METADATA_UNAVAILABLE},
    "flipped_bit": set(Code),
}


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    ("role", "how"),
    [
        (role, how)
        for role in ("timestamp", "snapshot", "targets")
        for how in TRUST_CODES
        if role != "timestamp" or how not in ("newer", "older")  # it has no parent
    ],
)
@pytest.mark.parametrize("repository", ["director", "image"])
def test_every_way_to_spoil_a_role_is_refused_by_the_same_names(bench, repository, role, how):
    spoilt = bench.world.image if repository == "image" else open_director(bench.folder, VIN, NOW)
    TAMPERS[how](spoilt, role)
    content = with_files(bench, **{f"{repository}/{role}.json": spoilt.files.get(f"{role}.json")})
    assert refusal(bench, content) in TRUST_CODES[how]


@pytest.mark.requirement("A2")
def test_the_offline_directors_keys_are_rotated_by_a_bundle(bench):
    bench.open()
    offline = open_director(bench.folder, VIN, NOW, LIFETIME)
    stolen = list(offline.signers["targets"])
    for role in ("targets", "timestamp", "root"):
        offline.rotate(role, NOW)
    bind(offline, VIN)
    offline.publish(NOW)
    image = dict(bench.world.image.files)
    with bench.path.open("wb") as out:
        write_bundle(out, VIN, offline, image, bench.folder)
    assert bench.open().facts.version == "2.4.0"
    offline.publish(NOW)
    offline.forge("targets", lambda signed: None, signers=stolen)
    changed = {
        f"director/{role}.json": offline.bytes_of(role)
        for role in ("timestamp", "snapshot", "targets")
    }
    assert refusal(bench, with_files(bench, **changed)) is Code.UNMET_THRESHOLD


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"new software" * 99 + b"New software", Code.TARGET_HASH_MISMATCH),
        (b"new software" * 100 + b"x", Code.OVERSIZED_TARGET),
        (b"new software" * 99, Code.IMAGE_TRUNCATED),
        (None, Code.METADATA_MALFORMED),
    ],
)
def test_an_image_that_is_not_the_signed_one_is_not_kept(bench, image, code):
    assert refusal(bench, with_files(bench, **{IMAGE_MEMBER: image})) is code


@pytest.mark.requirement("A4")
def test_a_bundle_cut_off_anywhere_is_refused(bench):
    content = bench.path.read_bytes()
    bare = len(content.rstrip(b"\0"))
    for length in {0, 1, 511, 512, 600, *range(1000, bare, 977), bare}:
        assert refusal(bench, content[:length]) is Code.IMAGE_TRUNCATED


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(
    "change",
    [
        lambda files: files[1:],
        lambda files: [files[1], files[0], *files[2:]],
        lambda files: [*files, ("targets/other", b"x")],
        lambda files: [*files, ("director/late.json", b"{}")],
        lambda files: [*files, files[-1]],
        lambda files: [files[0], ("director/a/b.json", b"{}"), *files[1:]],
        lambda files: [files[0], ("secrets/a.json", b"{}"), *files[1:]],
        lambda files: [files[0], ("director/a.txt", b"{}"), *files[1:]],
        lambda files: [files[0], *((f"image/{i}.json", b"") for i in range(1100)), *files[1:]],
        lambda files: [files[0], ("image/big.json", bytes((1 << 20) + 1)), *files[1:]],
        lambda files: [("bundle.json", bytes(5000)), *files[1:]],
        lambda files: [("bundle.json", b"{}"), *files[1:]],
        lambda files: [("bundle.json", b"[]"), *files[1:]],
        lambda files: [("bundle.json", files[0][1].replace(b": 1", b": 2")), *files[1:]],
        lambda files: [("bundle.json", files[0][1].replace(b"}", b', "more": 1}')), *files[1:]],
        lambda files: [("../bundle.json", files[0][1]), *files[1:]],
    ],
)
def test_a_bundle_in_another_form_is_refused(bench, change):
    files = members(bench.path.read_bytes())
    assert refusal(bench, archive(change(files))) is Code.METADATA_MALFORMED


@pytest.mark.requirement("A4")
def test_metadata_is_bounded_as_a_whole(bench, monkeypatch):
    monkeypatch.setattr(agents_side, "MAX_METADATA", 5000)
    assert refusal(bench) is Code.METADATA_MALFORMED


def test_a_medium_that_cannot_be_read_says_so(bench, tmp_path):
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        if path.name == "pipe":
            os.mkfifo(path)
        bench.path = path
        assert refusal(bench) is Code.METADATA_UNAVAILABLE


def test_a_full_disk_keeps_nothing(bench, monkeypatch):
    usage = shutil.disk_usage(bench.folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert refusal(bench) is Code.DISK_FULL


def test_a_component_that_is_not_configured_is_refused(bench):
    assert refusal(bench, component="brakes") is Code.UNKNOWN_COMPONENT


@pytest.mark.requirement("E5")
@pytest.mark.parametrize(("heard", "halted"), [(True, True), (False, False)])
def test_a_bundle_does_not_undo_a_halt_that_the_car_has_heard_of(tmp_path, heard, halted):
    bench = BundleWorld(tmp_path)
    bench.make()
    for described in bench.world.director.targets.targets.values():
        described.unrecognized_fields["custom"]["campaign"]["halted"] = True
    bench.world.director.publish(NOW)
    if heard:
        bench.world.verify()
    assert bench.open().campaign.halted is halted


def test_a_halt_of_another_campaign_is_no_halt_of_this_one(tmp_path):
    bench = BundleWorld(tmp_path, halted=True)
    bench.world.verify()
    bench.world.director.targets.unrecognized_fields["custom"]["correlationId"] = "campaign-2"
    for described in bench.world.director.targets.targets.values():
        described.unrecognized_fields["custom"]["campaign"]["halted"] = False
    bench.world.director.publish(NOW)
    bench.write()
    bench.make()
    assert bench.open().campaign.halted is False


def test_only_root_may_leave_out_the_vin(bench):
    offline = open_director(bench.folder, VIN, NOW)
    direct_as_online(bench.folder, VIN, offline, NOW)
    assert [
        json.loads(offline.bytes_of(role))["signed"].get("custom", {}).get("vin")
        for role in ("timestamp", "snapshot", "targets", "root")
    ] == [VIN, VIN, VIN, None]


@pytest.mark.parametrize("spoilt", [False, True])
def test_an_encrypted_image_is_kept_as_it_came(bench, spoilt):
    sealed = encrypt_image(bench.world.release.image, X25519PrivateKey.generate().public_key())
    (described,) = bench.world.director.targets.targets.values()
    described.unrecognized_fields["custom"]["encryption"] = sealed.custom
    bench.world.director.images[PATH] = sealed.content
    bench.world.director.publish(NOW)
    bench.write()
    bench.make()
    if spoilt:
        content = sealed.content[:-1] + bytes([sealed.content[-1] ^ 1])
        changed = with_files(bench, **{IMAGE_MEMBER: content})
        assert refusal(bench, changed) is Code.TARGET_HASH_MISMATCH
    else:
        assert bench.open().encryption is not None
        assert bench.destination.read_bytes() == sealed.content


def test_of_several_controllers_images_only_the_asked_one_is_kept(bench):
    camera = release(path="camera.bin", image=b"camera" * 50, hardware_ids=("CAM-1",))
    add_image(bench.world.image, camera)
    ecus = {"CAMERA-7": "CAM-1"}
    options = {"vin": VIN, "ecus": ecus, "correlation_id": "campaign-1"}
    assign(bench.world.director, camera, S2025M0149I, **options)
    publish_both(bench.world.image, bench.world.director, NOW)
    bench.write()
    bench.make()
    fields = {"component": "camera", "serial": "CAMERA-7", "hardware_id": "CAM-1"}
    second = msgspec.structs.replace(IDENTITY.ecus[0], **fields)
    bench.verifier._identity = msgspec.structs.replace(IDENTITY, ecus=(*IDENTITY.ecus, second))
    for component, image in (("camera", camera.image), (None, bench.world.release.image)):
        bench.open(component or "adas-controller")
        assert bench.destination.read_bytes() == image
        assert [path.name for path in bench.destination.parent.iterdir()] == ["image"]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_damaged_bundle_is_refused_or_says_the_same(bench, data):
    whole = bench.whole = getattr(bench, "whole", None) or bench.path.read_bytes()
    content = bytearray(whole)
    how = data.draw(st.sampled_from(["change", "remove", "repeat"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if how == "change":
        content[at] = data.draw(st.integers(0, 255))
    elif how == "remove":
        del content[at]
    else:
        content.insert(at, content[at])
    bench.path.write_bytes(content)
    try:
        opened = bench.open()
    except Refused:
        return
    assert (opened.filepath, opened.facts.version) == (PATH, "2.4.0")
    assert bench.destination.read_bytes() == bench.world.release.image
