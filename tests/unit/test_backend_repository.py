"""The rig's repositories: what a plain TUF client accepts, and what it must refuse."""

from datetime import UTC, datetime, timedelta

import pytest
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from hil_rig.backend.campaign import RECALLS, S2025M0149I
from hil_rig.backend.release import ImageRelease, add_image, assign, publish_both
from hil_rig.backend.repository import Repository, make_signers, read_signers, write_signers

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VIN = "LXMA7000MBEV00001"
RELEASE = ImageRelease(
    path="adas-2.4.0.bin",
    image=bytes(range(256)) * 16,
    version="2.4.0",
    release_counter=24,
    hardware_ids=("ADAS-HW-3",),
    base_versions=("2.3.1",),
    profile_sha256="ab" * 32,
    readback={0xF189: "2.4.0"},
    memory_check_expected="00",
    rxswin_before="R156 1.0",
    rxswin_after="R156 1.1",
)


def _follow(repository: Repository) -> Targets:
    """Root, timestamp, snapshot, targets as the TUF client workflow verifies them."""
    root = Metadata[Root].from_bytes(repository.files["1.root.json"]).signed
    root.verify_delegate("root", *_signed_and_signatures(repository.files["1.root.json"]))
    number = 2
    while (following := repository.files.get(f"{number}.root.json")) is not None:
        new = Metadata[Root].from_bytes(following).signed
        for delegator in (root, new):
            delegator.verify_delegate("root", *_signed_and_signatures(following))
        assert new.version == number
        root, number = new, number + 1
    parts = {}
    for role, kind in (("timestamp", Timestamp), ("snapshot", Snapshot), ("targets", Targets)):
        content = repository.bytes_of(role)
        root.verify_delegate(role, *_signed_and_signatures(content))
        parts[role] = Metadata[kind].from_bytes(content).signed
        assert not parts[role].is_expired(NOW)
    assert parts["timestamp"].snapshot_meta.version == parts["snapshot"].version
    assert parts["snapshot"].meta["targets.json"].version == parts["targets"].version
    return parts["targets"]


def _signed_and_signatures(content):
    metadata = Metadata.from_bytes(content)
    return metadata.signed_bytes, metadata.signatures


@pytest.fixture
def pair():
    image, director = Repository(NOW), Repository(NOW)
    add_image(image, RELEASE)
    assign(
        director,
        RELEASE,
        S2025M0149I,
        vin=VIN,
        ecus={"ADAS-0001": "ADAS-HW-3"},
        correlation_id="activity-1",
    )
    publish_both(image, director, NOW)
    return image, director


def test_both_repositories_verify_from_root_to_target(pair):
    for repository in pair:
        _follow(repository).targets[RELEASE.path].verify_length_and_hashes(RELEASE.image)


def test_image_target_carries_what_safety_rests_on(pair):
    custom = _follow(pair[0]).targets[RELEASE.path].custom
    assert set(custom) == {
        *("version", "releaseCounter", "hardwareIds", "baseVersions", "profileSha256", "energy"),
        *("minutes", "readback", "memoryCheck", "rxswin", "needsTechnician", "soak"),
    }
    assert custom["readback"] == [{"did": 0xF189, "equals": "2.4.0"}]
    assert custom["energy"] == {"install_wh": 120, "recovery_wh": 120}


def test_director_target_names_car_controller_and_recall(pair):
    targets = _follow(pair[1])
    custom = targets.targets[RELEASE.path].custom
    assert custom["ecuIdentifiers"] == {"ADAS-0001": {"hardwareId": "ADAS-HW-3"}}
    assert custom["campaign"]["vin"] == VIN
    assert custom["campaign"]["recall"] == "S2025M0149I"
    assert targets.unrecognized_fields["custom"] == {"correlationId": "activity-1"}


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("recall", RECALLS.values(), ids=lambda recall: recall.number)
def test_texts_of_every_recall_have_all_fields_in_both_languages(recall):
    texts = recall.texts(25)
    assert set(texts) == {"zh-CN", "en"}
    for words in texts.values():
        assert set(words) == {"purpose", "changes", "minutes", "unavailable", "instructions"}
        assert recall.number in words["purpose"]
        assert "25" in words["minutes"]
        assert recall.hotline in words["instructions"]
        assert not any("{" in text for text in words.values())
    encode_canonical(texts)


def test_recalls_name_all_cars_of_the_mission():
    assert sum(recall.cars for recall in RECALLS.values()) == 116_887


def test_expiry_is_counted_from_the_time_passed_in(pair):
    director = pair[1]
    director.publish(NOW - timedelta(days=8))
    timestamp = Metadata[Timestamp].from_bytes(director.bytes_of("timestamp")).signed
    assert timestamp.is_expired(NOW)


@pytest.mark.parametrize("role", ["root", "targets", "timestamp"])
def test_rotated_keys_are_followed_through_the_root_chain(pair, role):
    director = pair[1]
    director.rotate(role, NOW)
    director.publish(NOW)
    assert _follow(director).version == 2


def test_rotated_out_key_no_longer_counts(pair):
    director = pair[1]
    old = director.signers["targets"]
    director.rotate("targets", NOW)
    director.publish(NOW)
    director.forge("targets", lambda signed: None, signers=old)
    with pytest.raises(UnsignedMetadataError):
        _follow(director)


def test_threshold_of_two_needs_two_keys():
    repository = Repository(NOW, signers=make_signers({"targets": 2}), thresholds={"targets": 2})
    repository.publish(NOW)
    _follow(repository)
    repository.forge("targets", lambda signed: None, signers=repository.signers["targets"][:1])
    with pytest.raises(UnsignedMetadataError):
        _follow(repository)


def test_forged_file_is_well_signed_though_its_content_is_wrong(pair):
    image = pair[0]
    image.forge("targets", lambda signed: signed.update(version=9))
    metadata = Metadata[Targets].from_bytes(image.bytes_of("targets"))
    image.root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
    assert metadata.signed.version == 9


def test_files_and_images_on_disk_equal_those_in_memory(pair, tmp_path):
    image = pair[0]
    image.write_to(tmp_path)
    assert (tmp_path / "timestamp.json").read_bytes() == image.bytes_of("timestamp")
    assert (tmp_path / "targets" / RELEASE.path).read_bytes() == RELEASE.image


@pytest.mark.requirement("A2")
def test_private_keys_come_back_and_are_the_owners_alone(tmp_path):
    signers = make_signers({"root": 2})
    write_signers(tmp_path, signers)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    again = read_signers(tmp_path)
    assert {role: [s.public_key.keyid for s in keys] for role, keys in again.items()} == {
        role: [s.public_key.keyid for s in keys] for role, keys in signers.items()
    }
