"""Damage and theft that a car comes through by itself: no workshop, nothing older accepted."""

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.repository import signed_file
from tests.unit.trust_world import NOW, World
from vehicle_agent.refusals import Code, Refused

ROLES = ["root", "timestamp", "snapshot", "targets"]
REPOSITORIES = ["director", "image"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refusal_of(world):
    with pytest.raises(Refused) as caught:
        world.verify()
    return caught.value.refusal.code


def folder_of(world, repository):
    return world.folder / "trust" / "metadata" / repository


def later_states(world):
    """Everything twice: the old files as they were served, the new ones verified and stored."""
    for repository in world.by_name.values():
        repository.rotate("timestamp", NOW)
        repository.publish(NOW)
    old = {name: dict(repository.files) for name, repository in world.by_name.items()}
    for repository in world.by_name.values():
        repository.publish(NOW)
    world.verify()
    return old


def version_of(world, repository, role):
    return json.loads(world.store.load(repository)[role])["signed"]["version"]


# ---- damage


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{}", None], ids=repr)
@pytest.mark.parametrize("roles", [*[[role] for role in ROLES], ROLES], ids=repr)
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_damaged_files_are_made_good_and_nothing_older_is_accepted(
    world, repository, roles, damage
):
    old = later_states(world)
    for role in roles:
        path = folder_of(world, repository) / f"{role}.json"
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
    world.restart()
    current = dict(world.by_name[repository].files)
    world.by_name[repository].files = old[repository]
    assert refusal_of(world) is Code.VERSION_MISMATCH
    world.by_name[repository].files = current
    world.restart()
    assert world.verify().facts.version == "2.4.0"
    assert [version_of(world, repository, role) for role in ROLES] == [2, 3, 3, 3]


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_lost_root_cannot_be_taken_back_by_withholding_the_rotations(world, repository):
    """The thief of a replaced key serves the repository as it was before the replacement."""
    before = dict(world.by_name[repository].files)
    later_states(world)
    for path in folder_of(world, repository).rglob("*.json"):
        path.unlink()
    world.restart()
    current, world.by_name[repository].files = world.by_name[repository].files, before
    assert refusal_of(world) is Code.VERSION_MISMATCH
    world.by_name[repository].files = current
    assert world.verify().facts.version == "2.4.0"


@pytest.mark.requirement("A2")
def test_root_itself_does_not_go_back_when_every_key_has_been_replaced(world):
    """With the old root all that its thieves sign would hold: its version has a floor."""
    before = dict(world.image.files)
    for role in ROLES:
        world.image.rotate(role, NOW)
    world.image.publish(NOW)
    world.verify()
    for path in folder_of(world, "image").rglob("*.json"):
        path.unlink()
    world.restart()
    world.image.files = before
    assert refusal_of(world) is Code.VERSION_MISMATCH


def test_chain_of_roots_is_kept_and_the_newest_whole_one_stands_in(world):
    for _ in range(3):
        world.image.rotate("root", NOW)
    world.image.publish(NOW)
    world.verify()
    roots = folder_of(world, "image") / "roots"
    assert sorted(path.name for path in roots.iterdir()) == [f"{n}.root.json" for n in (2, 3, 4)]
    (folder_of(world, "image") / "root.json").write_bytes(b"damaged")
    (roots / "4.root.json").write_bytes(b"damaged")
    world.restart()
    world.fetched.clear()
    assert world.verify().facts.version == "2.4.0"
    image_roots = [url for url in world.fetched if "/image/" in url and "root" in url]
    assert [url.rpartition("/")[2] for url in image_roots] == ["4.root.json", "5.root.json"]


@pytest.mark.parametrize("copies", [[""], [".copy"], ["", ".copy"]], ids=repr)
def test_damaged_floors_do_not_shut_updates_out(world, copies):
    old = later_states(world)
    for copy in copies:
        (world.folder / "trust" / "metadata" / f"versions.json{copy}").write_bytes(b"\0")
    world.restart()
    assert world.verify().facts.version == "2.4.0"
    world.image.files = old["image"]
    assert refusal_of(world) is Code.VERSION_MISMATCH


def test_damaged_provisioned_root_alone_is_told_as_what_it_is(world):
    (world.folder / "image.root.json").write_bytes(b"damaged")
    world.restart()
    assert refusal_of(world) is Code.METADATA_MALFORMED


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damage_to_the_stored_files_bricks_the_car(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("car"))
    later_states(world)
    files = sorted(path for path in (world.folder / "trust").rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), unique=True)):
        if "floors.json" in path.name:
            continue
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut] + data.draw(st.binary(max_size=8)))
    world.restart()
    assert world.verify().facts.version == "2.4.0"


# ---- theft: each role's key, recovered from without touching the car


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_stolen_role_key_is_replaced_by_a_root_and_worth_nothing_then(world, repository, role):
    world.verify()
    attacked = world.by_name[repository]
    stolen = list(attacked.signers[role])
    attacked.rotate(role, NOW)
    attacked.publish(NOW)
    world.verify()
    attacked.publish(NOW)
    attacked.forge(role, lambda signed: None, signers=stolen)
    assert refusal_of(world) is Code.UNMET_THRESHOLD


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_stolen_root_key_below_the_threshold_does_nothing_and_is_replaced(tmp_path, repository):
    world = World(tmp_path)
    attacked = world.by_name[repository]
    three = [CryptoSigner.generate_ed25519() for _ in range(3)]
    attacked.rotate("root", NOW, signers=three, threshold=2)
    attacked.publish(NOW)
    world.verify()
    third = json.loads(attacked.files["2.root.json"])["signed"] | {"version": 3}
    attacked.files["3.root.json"] = signed_file(third, three[:1])
    assert refusal_of(world) is Code.ROOT_ROTATION_ERROR
    fresh = [*three[1:], CryptoSigner.generate_ed25519()]
    attacked.rotate("root", NOW, signers=fresh, threshold=2)
    world.verify()
    fourth = json.loads(attacked.files["3.root.json"])["signed"] | {"version": 4}
    attacked.files["4.root.json"] = signed_file(fourth, [three[0], fresh[-1]])
    assert refusal_of(world) is Code.ROOT_ROTATION_ERROR


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_threshold_is_raised_in_the_field(world, role):
    world.verify()
    two = [*world.image.signers[role], CryptoSigner.generate_ed25519()]
    world.image.rotate(role, NOW, signers=two, threshold=2)
    world.image.publish(NOW)
    world.verify()
    world.image.publish(NOW)
    if role == "root":
        third = json.loads(world.image.files["2.root.json"])["signed"] | {"version": 3}
        world.image.files["3.root.json"] = signed_file(third, two[:1])
        assert refusal_of(world) is Code.ROOT_ROTATION_ERROR
    else:
        world.image.forge(role, lambda signed: None, signers=two[:1])
        assert refusal_of(world) is Code.UNMET_THRESHOLD


@pytest.mark.requirement("A2")
def test_all_keys_of_a_repository_are_replaced_in_one_root(world):
    world.verify()
    old = {role: list(signers) for role, signers in world.director.signers.items()}
    for role in ROLES:
        world.director.rotate(role, NOW)
    world.director.publish(NOW)
    world.verify()
    world.director.publish(NOW)
    for role in ("timestamp", "snapshot", "targets"):
        intact = dict(world.director.files)
        world.director.forge(role, lambda signed: None, signers=old[role])
        assert refusal_of(world) is Code.UNMET_THRESHOLD
        world.director.files = intact
    world.verify()


@pytest.mark.requirement("A2")
def test_car_that_was_away_for_every_rotation_catches_up(world):
    for year in range(1, 6):
        for repository in world.by_name.values():
            repository.rotate("root", NOW + timedelta(days=300 * year))
            repository.rotate("timestamp", NOW + timedelta(days=300 * year))
    world.now = NOW + timedelta(days=1600)
    for repository in world.by_name.values():
        repository.publish(world.now)
    assert world.verify().facts.version == "2.4.0"
    assert version_of(world, "director", "root") == 11


@pytest.mark.requirement("A2")
def test_files_signed_by_a_replaced_key_do_not_count_though_they_are_stored(world):
    """The stored snapshot is the one that the timestamp means, but its key is gone."""
    world.verify()
    stored = world.store.load("image")["snapshot"]
    world.image.rotate("snapshot", NOW)
    assert world.image.files["snapshot.json"] == stored
    assert refusal_of(world) is Code.UNMET_THRESHOLD
