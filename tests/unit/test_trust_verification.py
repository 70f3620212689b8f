"""Uptane's full verification on real metadata: what is accepted, and each refusal by its name."""

import hashlib
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.repository import Repository, signed_file
from hil_rig.backend.tamper import TAMPERS
from tests.unit.trust_world import (
    DIRECTOR_URL,
    HARDWARE,
    IMAGE_URL,
    NOW,
    PATH,
    SERIAL,
    VIN,
    World,
    release,
)
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical
from vehicle_agent.trust.verifier import release_counter

REPOSITORIES = ["director", "image"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refusal_of(world, **arguments):
    with pytest.raises(Refused) as caught:
        world.verify(**arguments)
    assert "\n" not in caught.value.refusal.detail
    return caught.value.refusal.code


@pytest.mark.requirement("A1")
def test_valid_metadata_gives_the_release_that_both_repositories_sign(world):
    got = world.verify()
    assert (got.component, got.ecu_serial, got.hardware_id) == ("adas-controller", SERIAL, HARDWARE)
    assert got.length == len(world.release.image)
    assert got.sha256 == hashlib.sha256(world.release.image).hexdigest()
    assert got.image_url == f"{IMAGE_URL}/targets/{PATH}"
    assert (got.facts.version, got.facts.release_counter, got.facts.energy.install_wh) == (
        "2.4.0",
        7,
        120,
    )
    assert (got.campaign.vin, got.campaign.recall) == (VIN, "S2025M0149I")
    assert got.correlation_id == "campaign-1"
    entries = {
        name: {"length": t.length, "hashes": t.hashes, "custom": t.custom}
        for name, t in (
            ("director", world.director.targets.targets[PATH]),
            ("image", world.image.targets.targets[PATH]),
        )
    }
    assert got.manifest_sha256 == hashlib.sha256(canonical(entries)).hexdigest()
    texts = entries["director"]["custom"]["campaign"]["texts"]
    assert got.texts_sha256 == hashlib.sha256(canonical(texts)).hexdigest()
    signers = {r.signers["targets"][0].public_key.keyid for r in world.by_name.values()}
    assert set(got.signed_by) == signers


def test_manifest_digest_stays_when_roles_are_only_signed_anew(world):
    before = world.verify()
    for repository in world.by_name.values():
        repository.publish(NOW + timedelta(days=1))
    assert world.verify() == before


def test_repository_with_consistent_snapshots_is_read_by_its_names(world):
    image = Repository(NOW, consistent_snapshot=True)
    image.add_target(PATH, world.release.image, world.release.custom())
    image.publish(NOW)
    world.image = image
    (world.folder / "image.root.json").write_bytes(image.files["1.root.json"])
    got = world.verify()
    folder, _, name = PATH.rpartition("/")
    assert got.image_url == f"{IMAGE_URL}/targets/{folder}/{got.sha256}.{name}"
    assert f"{IMAGE_URL}/1.targets.json" in world.fetched


EXPECTED = {
    "unsigned": Code.UNMET_THRESHOLD,
    "unknown_key": Code.UNMET_THRESHOLD,
    "repeated_signature": Code.NON_UNIQUE_SIGNATURES,
    "bad_key_id": Code.UNMET_THRESHOLD,
    "expired": Code.EXPIRED_METADATA,
    "truncated": Code.METADATA_MALFORMED,
    "not_json": Code.METADATA_MALFORMED,
    "huge": Code.METADATA_MALFORMED,
    "missing": Code.METADATA_UNAVAILABLE,
}


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("repository", REPOSITORIES)
@pytest.mark.parametrize("how", sorted(EXPECTED))
def test_spoilt_file_is_refused_by_its_name(world, how, repository, role):
    TAMPERS[how](world.by_name[repository], role)
    assert refusal_of(world) is EXPECTED[how]


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("role", ["snapshot", "targets"])
@pytest.mark.parametrize("how", ["older", "newer"])
def test_version_other_than_the_parent_names_is_refused(world, how, role):
    world.image.publish(NOW)
    TAMPERS[how](world.image, role)
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_replayed_old_metadata_is_refused_also_after_a_restart(world, repository):
    old = dict(world.by_name[repository].files)
    world.by_name[repository].publish(NOW)
    world.verify()
    world.by_name[repository].files = old
    world.restart()
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
def test_snapshot_that_takes_targets_back_is_refused(world):
    world.image.publish(NOW)
    world.verify()
    world.image.targets.version = 1
    world.image.refresh(NOW)
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
def test_snapshot_that_drops_a_file_is_refused(world):
    world.verify()
    world.image.refresh(NOW)
    world.image.forge("snapshot", lambda signed: signed.update(meta={}))
    assert refusal_of(world) is Code.VERSION_MISMATCH


def test_second_timestamp_of_one_version_is_no_news(world):
    world.verify()
    stored = world.store.load("image")["timestamp"]
    world.image.forge("timestamp", lambda signed: signed.update(expires="2099-01-01T00:00:00Z"))
    world.verify()
    assert world.store.load("image")["timestamp"] == stored


@pytest.mark.requirement("A1")
def test_hash_and_length_that_a_parent_names_are_kept_to(world):
    data = world.image.files["snapshot.json"]
    wrong = {"length": len(data), "hashes": {"sha256": "00" * 32}}
    world.image.forge("timestamp", lambda s: s["meta"]["snapshot.json"].update(wrong))
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_metadata_that_is_not_refreshed_expires_by_trusted_time(world, repository):
    world.verify()
    other = {"director": "image", "image": "director"}[repository]
    world.now = NOW + timedelta(days=8)
    world.by_name[other].publish(world.now)
    assert refusal_of(world) is Code.EXPIRED_METADATA


def test_expired_root_matters_at_the_end_of_the_rotation_only(tmp_path):
    world = World(tmp_path)
    world.now = NOW + timedelta(days=3651)
    for repository in world.by_name.values():
        repository.publish(world.now)
    assert refusal_of(world) is Code.EXPIRED_METADATA
    for repository in world.by_name.values():
        repository.rotate("root", world.now)
    assert world.verify().facts.version == "2.4.0"


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_rotated_out_key_is_refused_and_the_new_one_taken(world, role):
    world.verify()
    old = list(world.image.signers[role])
    world.image.rotate(role, NOW)
    if role == "root":
        intruder = dict(world.image.signers, root=old)
        third = json.loads(world.image.files["2.root.json"])["signed"] | {"version": 3}
        world.image.files["3.root.json"] = signed_file(third, intruder["root"])
        assert refusal_of(world) is Code.ROOT_ROTATION_ERROR
        del world.image.files["3.root.json"]
    else:
        assert refusal_of(world) is Code.UNMET_THRESHOLD
        world.image.publish(NOW)
    world.verify()
    assert json.loads(world.store.load("image")["root"])["signed"]["version"] == 2


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("signed_by", ["old", "new"])
def test_root_needs_the_thresholds_of_old_and_new(world, signed_by):
    old = list(world.director.signers["root"])
    world.director.rotate("root", NOW)
    signers = {"old": old, "new": world.director.signers["root"]}[signed_by]
    world.director.forge("root", lambda signed: None, signers=signers)
    assert refusal_of(world) is Code.ROOT_ROTATION_ERROR


def test_root_that_leaves_out_a_version_is_refused(world):
    world.director.rotate("timestamp", NOW)
    world.director.forge("root", lambda signed: signed.update(version=5))
    assert refusal_of(world) is Code.ROOT_ROTATION_ERROR


@pytest.mark.requirement("A2")
def test_versions_that_a_thief_drove_up_are_forgotten_with_the_key(world):
    for role in ("timestamp", "snapshot"):
        getattr(world.director, role).version = 1_000_000
    world.director.refresh(NOW)
    world.verify()
    for role in ("timestamp", "snapshot"):
        getattr(world.director, role).version = 2
        world.director.rotate(role, NOW)
    world.director.refresh(NOW)
    assert world.verify().facts.version == "2.4.0"


def test_threshold_of_two_needs_two_keys(tmp_path):
    world = World(tmp_path)
    world.image = Repository(
        NOW,
        signers=dict(world.image.signers, targets=[CryptoSigner.generate_ed25519()] * 1),
        thresholds={"targets": 2},
    )
    (tmp_path / "image.root.json").write_bytes(world.image.files["1.root.json"])
    world.image.publish(NOW)
    assert refusal_of(world) is Code.UNMET_THRESHOLD


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s["roles"]["targets"].update(threshold=0), Code.ILLEGAL_THRESHOLD),
        (lambda s: s["roles"]["targets"].update(threshold=-1), Code.ILLEGAL_THRESHOLD),
        (lambda s: s["roles"]["targets"].update(threshold=True), Code.METADATA_MALFORMED),
        (lambda s: s["roles"]["targets"].update(threshold="1"), Code.METADATA_MALFORMED),
        (lambda s: s["roles"].pop("targets"), Code.METADATA_MALFORMED),
        (
            lambda s: s.update(keys={"00" * 32: next(iter(s["keys"].values()))}),
            Code.BAD_KEY_ID,
        ),
        (lambda s: s.update(version=True), Code.METADATA_MALFORMED),
        (lambda s: s.update(version="2"), Code.METADATA_MALFORMED),
        (lambda s: s.update(spec_version="2.0.0"), Code.METADATA_MALFORMED),
        (lambda s: s.update(expires="soon"), Code.METADATA_MALFORMED),
        (lambda s: s.update(_type="targets"), Code.METADATA_MALFORMED),
        (lambda s: s.update(keys=[]), Code.METADATA_MALFORMED),
    ],
)
def test_root_of_hostile_shape_is_refused_although_signed(world, change, code):
    world.director.rotate("timestamp", NOW)
    world.director.forge("root", change)
    assert refusal_of(world) is code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"signed": null, "signatures": []}',
        b'{"signed": {}, "signatures": {}}',
        b'{"signed": {"_type": "timestamp"}, "signatures": [7]}',
        b'{"signed": {"version": NaN}, "signatures": []}',
        b'{"signed": {"version": 1.5}, "signatures": []}',
        b"[" * 100_000,
        b'{"signed":' * 2_000 + b"1" + b"}" * 2_000,
        b'{"signed": {"a": "\\ud800"}, "signatures": []}',
        b'{"signed": {"version": ' + b"9" * 5_000 + b'}, "signatures": []}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "snapshot.json", "targets.json"])
def test_hostile_bytes_are_malformed(world, name, data):
    world.director.files[name] = data
    assert refusal_of(world) is Code.METADATA_MALFORMED


@pytest.mark.requirement("A1")
def test_name_that_stands_twice_is_refused_though_its_last_value_is_signed(world):
    data = world.director.files["targets.json"]
    assert data.count(b'"version":1') == 1
    world.director.files["targets.json"] = data.replace(b'"version":1', b'"version":9,"version":1')
    assert refusal_of(world) is Code.METADATA_MALFORMED


def test_nothing_is_verified_without_trusted_time(world):
    world.now = None
    assert refusal_of(world) is Code.NO_TRUSTED_TIME
    assert world.fetched == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/image",
        "http://localhost:8443/image",
        "https://localhost:8443@evil.example/image",
        "https://localhost:9/image",
        "https://localhost:8443.evil.example/",
        "https://localhost:8443/image?x=1",
        "https://localhost:8443/image\n",
        "https://[::1/image",
        "",
    ],
)
def test_only_listed_hosts_are_asked(world, url):
    assert refusal_of(world, urls=(url, IMAGE_URL)) is Code.URL_NOT_ALLOWED
    assert refusal_of(world, urls=(DIRECTOR_URL, url)) is Code.URL_NOT_ALLOWED
    assert world.fetched == []


def test_notice_for_another_version_or_component_is_refused(world):
    assert refusal_of(world, version="2.5.0") is Code.TARGET_MISMATCH
    assert refusal_of(world, component="radio") is Code.UNKNOWN_COMPONENT


@pytest.mark.requirement("A3")
def test_release_counter_below_the_floor_is_refused_equal_is_not(world):
    world.floors.raise_to(release_counter(SERIAL), 7)
    world.verify()
    world.floors.raise_to(release_counter(SERIAL), 8)
    world.restart()
    assert refusal_of(world) is Code.RELEASE_COUNTER_TOO_LOW


def set_in(target, **values):
    return lambda signed: signed["targets"][PATH][target].update(values)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    ("repository", "change", "code"),
    [
        ("director", lambda s: s["targets"][PATH].update(length=1), Code.TARGET_MISMATCH),
        (
            "director",
            lambda s: s["targets"][PATH]["hashes"].update(sha256="00" * 32),
            Code.TARGET_MISMATCH,
        ),
        (
            "image",
            lambda s: s["targets"][PATH]["hashes"].update(sha512="00" * 64),
            Code.TARGET_MISMATCH,
        ),
        ("director", set_in("custom", releaseCounter=8), Code.TARGET_MISMATCH),
        (
            "director",
            lambda s: s["targets"][PATH]["custom"].pop("releaseCounter"),
            Code.TARGET_MISMATCH,
        ),
        (
            "image",
            lambda s: s["targets"].update({"x": s["targets"].pop(PATH)}),
            Code.TARGET_MISMATCH,
        ),
        ("image", set_in("custom", hardwareIds=["other"]), Code.BAD_HARDWARE_ID),
        (
            "director",
            set_in("custom", ecuIdentifiers={SERIAL: {"hardwareId": "other"}}),
            Code.BAD_HARDWARE_ID,
        ),
        (
            "director",
            set_in("custom", ecuIdentifiers={"other": {"hardwareId": HARDWARE}}),
            Code.BAD_ECU_ID,
        ),
        (
            "director",
            lambda s: s["targets"][PATH]["custom"]["ecuIdentifiers"].update(
                other={"hardwareId": HARDWARE}
            ),
            Code.BAD_ECU_ID,
        ),
        ("director", lambda s: s.update(targets={}), Code.NO_UPDATE),
        (
            "director",
            lambda s: s["targets"].update(second=s["targets"][PATH]),
            Code.DIRECTOR_REPEATED_ECU_ID,
        ),
        (
            "director",
            lambda s: s.update(delegations={"keys": {}, "roles": []}),
            Code.DIRECTOR_DELEGATION,
        ),
        ("director", set_in("custom", version="2.4.1"), Code.DIRECTOR_LOOSENS),
        (
            "director",
            set_in("custom", energy={"install_wh": 1, "recovery_wh": 1}),
            Code.DIRECTOR_LOOSENS,
        ),
        ("director", lambda s: s["targets"][PATH].pop("custom"), Code.METADATA_MALFORMED),
        ("director", set_in("custom", ecuIdentifiers={}), Code.METADATA_MALFORMED),
        ("director", set_in("custom", ecuIdentifiers={SERIAL: {}}), Code.METADATA_MALFORMED),
        ("director", set_in("custom", campaign=None), Code.METADATA_MALFORMED),
        (
            "director",
            lambda s: s.update(targets={"../../etc/passwd": s["targets"][PATH]}),
            Code.METADATA_MALFORMED,
        ),
        ("image", lambda s: s["targets"][PATH].pop("custom"), Code.METADATA_MALFORMED),
        ("image", set_in("custom", readback=[{"did": "F189"}]), Code.METADATA_MALFORMED),
        ("image", set_in("custom", releaseCounter=True), Code.METADATA_MALFORMED),
    ],
)
def test_targets_that_do_not_agree_are_refused_although_signed(world, repository, change, code):
    world.by_name[repository].forge("targets", change)
    assert refusal_of(world) is code


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("field", sorted(release().custom()))
def test_every_fact_that_safety_rests_on_must_be_there(world, field):
    world.image.forge("targets", lambda s: s["targets"][PATH]["custom"].pop(field))
    assert refusal_of(world) is Code.METADATA_MALFORMED


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("text", ["purpose", "changes", "minutes", "unavailable", "instructions"])
@pytest.mark.parametrize("value", [None, "", "  ", 7])
def test_release_without_one_of_the_drivers_texts_is_refused(world, text, value):
    def change(signed):
        texts = signed["targets"][PATH]["custom"]["campaign"]["texts"]["zh-CN"]
        texts[text] = value
        if value is None:
            del texts[text]

    world.director.forge("targets", change)
    assert refusal_of(world) is Code.TEXTS_MISSING


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("filing", Code.FILING_MISSING),
        ("texts", Code.TEXTS_MISSING),
        ("vin", Code.METADATA_MALFORMED),
        ("models", Code.METADATA_MALFORMED),
        ("productionWindow", Code.METADATA_MALFORMED),
        ("recall", Code.METADATA_MALFORMED),
    ],
)
def test_campaign_must_be_complete(world, field, code):
    world.director.forge("targets", lambda s: s["targets"][PATH]["custom"]["campaign"].pop(field))
    assert refusal_of(world) is code


FILES = ["1.root.json", "timestamp.json", "snapshot.json", "targets.json"]


def same_or_refused(world, wanted):
    """Verify; whatever is accepted has to mean what was signed."""
    try:
        got = world.verify()
    except Refused:
        return
    assert got == wanted


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("shared"))
    world.director.rotate("timestamp", NOW)
    world.director.publish(NOW)
    return world, world.verify()


@pytest.mark.requirement("A1")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_removed_or_doubled_byte_is_refused_or_harmless(shared, tmp_path_factory, data):
    world, wanted = shared
    repository = world.by_name[data.draw(st.sampled_from(REPOSITORIES))]
    name = data.draw(st.sampled_from(["2.root.json", *FILES[1:]]))
    original = repository.files.get(name)
    if original is None:
        return
    at = data.draw(st.integers(0, len(original) - 1))
    new = data.draw(
        st.one_of(
            st.integers(0, 255).map(lambda value: bytes([value])),
            st.just(b""),
            st.just(original[at : at + 1] * 2),
        )
    )
    repository.files[name] = original[:at] + new + original[at + 1 :]
    world.folder = tmp_path_factory.mktemp("car")
    for each, served in world.by_name.items():
        (world.folder / f"{each}.root.json").write_bytes(served.files["1.root.json"])
    world.restart()
    try:
        same_or_refused(world, wanted)
    finally:
        repository.files[name] = original


@pytest.mark.requirement("A1")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_removed_field_is_refused_even_if_nothing_was_stored(shared, data):
    world, wanted = shared
    repository = world.by_name[data.draw(st.sampled_from(REPOSITORIES))]
    name = data.draw(st.sampled_from(FILES[1:]))
    original = repository.files[name]
    document = json.loads(original)
    node = document
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    del node[key]
    repository.files[name] = json.dumps(document).encode()
    try:
        same_or_refused(world, wanted)
    finally:
        repository.files[name] = original
