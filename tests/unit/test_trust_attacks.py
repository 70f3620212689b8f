"""Uptane's attacks and the error names of its test vectors: one test each, named after it."""

import asyncio
import json
from datetime import timedelta

import pytest

from hil_rig.backend.repository import Repository
from hil_rig.backend.tamper import TAMPERS
from tests.unit.trust_world import HARDWARE, NOW, PATH, SERIAL, VIN, World, release
from vehicle_agent.refusals import RULES, Code, Refused
from vehicle_agent.trust.verifier import release_counter


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refusal_of(world, **arguments):
    with pytest.raises(Refused) as caught:
        world.verify(**arguments)
    return caught.value.refusal.code


def stored(world, repository):
    return world.store.load(repository)


# ---- Uptane's list: read updates, deny updates, deny functionality, control


@pytest.mark.requirement("A1")
def test_attack_eavesdrop_requests_tell_nothing_but_whose_car_it_is(world):
    """Metadata is public; images may be encrypted. What we ask tells no more than the VIN."""
    world.verify()
    assert world.fetched
    for url in world.fetched:
        assert url.startswith("https://localhost:8443/")
        assert "?" not in url
        for secret in (SERIAL, HARDWARE, "2.3.1"):
            assert secret not in url
    assert not [url for url in world.fetched if VIN in url and "/image" in url]


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("repository", ["director", "image"])
@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_attack_drop_request_delays_and_changes_nothing(world, repository, name):
    kept = world.by_name[repository].files.pop(name)
    assert refusal_of(world) is Code.METADATA_UNAVAILABLE
    world.by_name[repository].files[name] = kept
    assert world.verify().facts.version == "2.4.0"


@pytest.mark.requirement("A4")
def test_attack_slow_retrieval_ends_with_the_fetch_and_expires(world):
    """What is fetched is bounded in time by the download room; slowness wins no acceptance."""
    real = world.verifier._fetch

    async def slow(url, limit):
        if url.endswith("snapshot.json"):
            raise Refused(Code.SLOW_RETRIEVAL, f"{url}: too slow for too long")
        return await real(url, limit)

    world.verifier._fetch = slow
    assert refusal_of(world) is Code.SLOW_RETRIEVAL
    world.verifier._fetch = real
    world.now = NOW + timedelta(days=8)
    assert refusal_of(world) is Code.EXPIRED_METADATA


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("repository", ["director", "image"])
def test_attack_freeze_old_metadata_expires(world, repository):
    world.verify()
    other = {"director": "image", "image": "director"}[repository]
    world.now = NOW + timedelta(days=8)
    world.by_name[other].publish(world.now)
    assert refusal_of(world) is Code.EXPIRED_METADATA


@pytest.mark.requirement("A1")
def test_attack_partial_bundle_one_repository_alone_gives_no_release(world):
    """New software is directed while its description is held back, or was never signed."""
    held_back = world.image.files.pop("targets.json")
    assert refusal_of(world) is Code.METADATA_UNAVAILABLE
    world.image.files["targets.json"] = held_back
    world.image.targets.targets.clear()
    world.image.publish(NOW)
    assert refusal_of(world) is Code.TARGET_MISMATCH


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("repository", ["director", "image"])
def test_attack_rollback_of_metadata_is_refused(world, repository):
    old = dict(world.by_name[repository].files)
    world.by_name[repository].publish(NOW)
    world.verify()
    world.by_name[repository].files = old
    world.restart()
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A3")
def test_attack_rollback_of_the_release_is_refused_by_its_counter(world):
    world.floors.raise_to(release_counter(SERIAL), 8)
    assert refusal_of(world) is Code.RELEASE_COUNTER_TOO_LOW


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_attack_endless_data_is_cut_off(world, role):
    asked = {}

    async def endless(url, limit):
        name = url.rpartition("/")[2]
        asked[name] = limit
        wanted = "2.root.json" if role == "root" else f"{role}.json"
        if name == wanted:
            return b" " * (limit + 1)
        return await world.fetch(url, limit)

    world.verifier._fetch = endless
    assert refusal_of(world) is Code.METADATA_MALFORMED
    assert max(asked.values()) == 1 << 20


@pytest.mark.requirement("A4")
def test_attack_endless_data_beyond_a_named_length_is_not_even_asked_for(tmp_path):
    world = World(tmp_path)
    world.image = Repository(NOW, describe_files=True)
    (tmp_path / "image.root.json").write_bytes(world.image.files["1.root.json"])
    world.image.add_target(PATH, world.release.image, world.release.custom())
    world.image.publish(NOW)
    limits = {}

    async def fetch(url, limit):
        limits[url.rpartition("/")[2]] = limit
        return await world.fetch(url, limit)

    world.verifier._fetch = fetch
    world.verify()
    assert limits["targets.json"] == len(world.image.files["targets.json"])


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_attack_mix_and_match_of_two_states_is_refused(world, role):
    before = world.image.bytes_of(role)
    world.image.publish(NOW)
    world.image.files[f"{role}.json"] = before
    assert refusal_of(world) is Code.VERSION_MISMATCH


@pytest.mark.requirement("A1")
def test_attack_mix_and_match_of_director_and_image_is_refused(world):
    other = release(image=b"other software", release_counter=8)
    world.image.add_target(PATH, other.image, other.custom())
    world.image.publish(NOW)
    assert refusal_of(world) is Code.TARGET_MISMATCH


@pytest.mark.requirement("A1")
def test_attack_arbitrary_software_by_the_directors_keys_is_refused(world):
    """A thief of every online key of the Director names software of their own."""
    world.director.add_target(
        "adas/evil.bin",
        b"evil",
        world.director.targets.targets.pop(PATH).custom,
    )
    world.director.publish(NOW)
    assert refusal_of(world) is Code.TARGET_MISMATCH


@pytest.mark.requirement("A1")
def test_attack_arbitrary_software_by_the_image_repositorys_online_keys_is_refused(world):
    """Snapshot and timestamp are stolen, too: the targets role is signed offline."""
    evil = release(image=b"evil")
    world.image.forge(
        "targets",
        lambda s: s["targets"][PATH].update(length=len(evil.image)),
        signers=[*world.image.signers["snapshot"], *world.image.signers["timestamp"]],
    )
    assert refusal_of(world) is Code.UNMET_THRESHOLD


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("repository", ["director", "image"])
def test_attack_fast_forward_is_undone_by_new_keys(world, repository, role):
    attacked = world.by_name[repository]
    getattr(attacked, role).version = 2**31 - 2
    attacked.publish(NOW)
    world.verify()
    for each in ("timestamp", "snapshot"):
        attacked.rotate(each, NOW)
    for each in ("timestamp", "snapshot", "targets"):
        getattr(attacked, each).version = 1
    attacked.publish(NOW)
    world.restart()
    assert world.verify().facts.version == "2.4.0"


@pytest.mark.requirement("A2")
def test_attack_fast_forward_holds_while_the_stolen_key_is_trusted(world):
    world.image.timestamp.version = 2**31 - 2
    world.image.publish(NOW)
    world.verify()
    world.image.timestamp.version = 1
    world.image.publish(NOW)
    assert refusal_of(world) is Code.VERSION_MISMATCH


# ---- error names


def test_error_unmet_threshold(world):
    TAMPERS["unsigned"](world.director, "targets")
    assert refusal_of(world) is Code.UNMET_THRESHOLD


def test_error_expired_metadata(world):
    TAMPERS["expired"](world.director, "targets")
    assert refusal_of(world) is Code.EXPIRED_METADATA


def test_error_non_unique_signatures(world):
    TAMPERS["repeated_signature"](world.director, "targets")
    assert refusal_of(world) is Code.NON_UNIQUE_SIGNATURES


def test_error_bad_key_id(world):
    world.director.rotate("targets", NOW)
    world.director.forge(
        "root", lambda s: s.update(keys={"0" * 64: next(iter(s["keys"].values()))})
    )
    assert refusal_of(world) is Code.BAD_KEY_ID


@pytest.mark.parametrize("threshold", [0, -1])
def test_error_illegal_threshold(world, threshold):
    world.director.rotate("targets", NOW)
    world.director.forge("root", lambda s: s["roles"]["targets"].update(threshold=threshold))
    assert refusal_of(world) is Code.ILLEGAL_THRESHOLD


def test_error_root_rotation_error(world):
    world.director.rotate("root", NOW)
    world.director.forge("root", lambda s: None, signers=world.director.signers["root"])
    assert refusal_of(world) is Code.ROOT_ROTATION_ERROR


def test_error_version_mismatch(world):
    TAMPERS["newer"](world.director, "targets")
    assert refusal_of(world) is Code.VERSION_MISMATCH


def test_error_target_mismatch(world):
    world.director.forge("targets", lambda s: s["targets"][PATH].update(length=1))
    assert refusal_of(world) is Code.TARGET_MISMATCH


@pytest.mark.parametrize(
    ("hashes", "code"),
    [
        ({"sha256": "00" * 32}, Code.TARGET_MISMATCH),
        ({"md5": "00" * 16}, Code.METADATA_MALFORMED),
        ({"sha512": "00" * 64}, Code.METADATA_MALFORMED),
    ],
)
def test_target_hash_that_differs_or_cannot_be_checked_is_refused(world, hashes, code):
    world.director.forge("targets", lambda s: s["targets"][PATH].update(hashes=hashes))
    if code is not Code.TARGET_MISMATCH:
        world.image.forge("targets", lambda s: s["targets"][PATH].update(hashes=hashes))
    assert refusal_of(world) is code


def test_every_hash_that_is_known_is_handed_on_to_be_checked(world):
    hashes = {
        **world.image.targets.targets[PATH].hashes,
        "sha512": "11" * 64,
        "whirlpool": "22",
    }
    for repository in world.by_name.values():
        repository.forge("targets", lambda s: s["targets"][PATH].update(hashes=hashes))
    assert world.verify().hashes == {name: hashes[name] for name in ("sha256", "sha512")}


def test_error_bad_hardware_id(world):
    other = {"ecuIdentifiers": {SERIAL: {"hardwareId": "other"}}}
    world.director.forge("targets", lambda s: s["targets"][PATH]["custom"].update(other))
    assert refusal_of(world) is Code.BAD_HARDWARE_ID


def test_error_bad_ecu_id(world):
    other = {"ecuIdentifiers": {"other": {"hardwareId": HARDWARE}}}
    world.director.forge("targets", lambda s: s["targets"][PATH]["custom"].update(other))
    assert refusal_of(world) is Code.BAD_ECU_ID


def test_error_director_delegation(world):
    world.director.delegate("targets", "maker", ["*"])
    world.director.publish(NOW)
    assert refusal_of(world) is Code.DIRECTOR_DELEGATION


def test_error_director_repeated_ecu_id(world):
    world.director.forge("targets", lambda s: s["targets"].update(second=s["targets"][PATH]))
    assert refusal_of(world) is Code.DIRECTOR_REPEATED_ECU_ID


def test_error_delegation_missing(world):
    world.image.delegate("targets", "maker", ["adas/*"])
    world.image.targets.targets.clear()
    world.image.publish(NOW)
    del world.image.files["maker.json"]
    assert refusal_of(world) is Code.DELEGATION_MISSING


def test_error_delegation_missing_in_the_snapshot(world):
    world.image.delegate("targets", "maker", ["adas/*"])
    world.image.targets.targets.clear()
    world.image.publish(NOW)
    world.image.forge("snapshot", lambda s: s["meta"].pop("maker.json"))
    assert refusal_of(world) is Code.DELEGATION_MISSING


@pytest.mark.requirement("A5")
def test_names_of_the_test_vectors_count_as_attacks_but_expiry():
    vectors = {
        Code.UNMET_THRESHOLD,
        Code.NON_UNIQUE_SIGNATURES,
        Code.BAD_KEY_ID,
        Code.ILLEGAL_THRESHOLD,
        Code.ROOT_ROTATION_ERROR,
        Code.VERSION_MISMATCH,
        Code.TARGET_MISMATCH,
        Code.TARGET_HASH_MISMATCH,
        Code.OVERSIZED_TARGET,
        Code.BAD_HARDWARE_ID,
        Code.BAD_ECU_ID,
        Code.DIRECTOR_DELEGATION,
        Code.DIRECTOR_REPEATED_ECU_ID,
        Code.DELEGATION_MISSING,
    }
    assert all(RULES[code].attack for code in vectors)


def test_refused_metadata_is_not_stored(world):
    world.verify()
    before = {name: stored(world, name) for name in world.by_name}
    for repository in world.by_name.values():
        repository.publish(NOW)
        TAMPERS["unknown_key"](repository, "timestamp")
    assert refusal_of(world) is Code.UNMET_THRESHOLD
    assert {name: stored(world, name) for name in world.by_name} == before


def test_two_notices_at_once_are_verified_one_after_the_other(world):
    async def both():
        urls = ("https://localhost:8443/director/" + VIN, "https://localhost:8443/image")
        asked = [world.verifier.verify("adas-controller", "2.4.0", *urls) for _ in range(2)]
        return await asyncio.gather(*asked)

    first, second = asyncio.run(both())
    assert first == second
    assert json.loads(stored(world, "image")["timestamp"])["signed"]["version"] == 1
