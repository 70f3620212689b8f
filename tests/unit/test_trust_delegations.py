"""Image targets signed by delegated roles: by path, by hardware, in order, within bounds."""

import pytest
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.release import add_image
from tests.unit.trust_world import HARDWARE, NOW, PATH, World, release
from vehicle_agent.refusals import Code, Refused


@pytest.fixture
def world(tmp_path):
    """The release stands in no role yet; `describe` says which one signs it."""
    world = World(tmp_path)
    world.image.targets.targets.clear()
    return world


def delegate(world, role, paths=("adas/*",), delegator="targets", **options):
    return world.image.delegate(delegator, role, list(paths), **options)


def describe(world, role, **changes):
    published = release(**changes)
    world.image.add_target(PATH, published.image, published.custom(), role=role)


def publish(world):
    world.image.publish(NOW)


def refusal_of(world):
    with pytest.raises(Refused) as caught:
        world.verify()
    return caught.value.refusal.code


@pytest.mark.requirement("A1")
def test_release_signed_by_a_delegated_role_is_taken_and_its_signer_named(world):
    delegate(world, "suppliers")
    delegate(world, "adas-maker", delegator="suppliers")
    describe(world, "adas-maker")
    publish(world)
    got = world.verify()
    assert got.facts.version == "2.4.0"
    assert world.image.signers["adas-maker"][0].public_key.keyid in got.signed_by


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["adas/*"], True),
        (["adas/adas-controller-?.4.0.bin"], True),
        (["radio/*", "adas/*.bin"], True),
        (["*"], False),
        (["adas/*.hex"], False),
        (["radio/*"], False),
        ([], False),
    ],
)
def test_role_may_sign_for_its_paths_only(world, paths, found):
    delegate(world, "maker", paths)
    describe(world, "maker")
    publish(world)
    if found:
        world.verify()
    else:
        assert refusal_of(world) is Code.DELEGATION_MISSING


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("hardware_ids", "code"),
    [
        (None, None),
        ([HARDWARE], None),
        (["OTHER", HARDWARE], None),
        (["OTHER"], Code.DELEGATION_MISSING),
        ([], Code.DELEGATION_MISSING),
    ],
)
def test_role_may_sign_for_its_hardware_only(world, hardware_ids, code):
    delegate(world, "maker", hardware_ids=hardware_ids)
    describe(world, "maker")
    publish(world)
    if code is None:
        world.verify()
    else:
        assert refusal_of(world) is code


@pytest.mark.requirement("B4")
def test_hardware_of_every_delegation_on_the_way_counts(world):
    delegate(world, "suppliers", hardware_ids=["OTHER"])
    delegate(world, "maker", delegator="suppliers", hardware_ids=[HARDWARE])
    describe(world, "maker")
    publish(world)
    assert refusal_of(world) is Code.DELEGATION_MISSING


@pytest.mark.parametrize("hardware_ids", ["ADAS-HW-3", [3], {"a": 1}])
def test_hardware_list_of_another_kind_is_malformed(world, hardware_ids):
    delegate(world, "maker")
    describe(world, "maker")
    role = world.image.targets.delegations.roles["maker"]
    role.unrecognized_fields["hardwareIds"] = hardware_ids
    publish(world)
    assert refusal_of(world) is Code.METADATA_MALFORMED


def test_role_of_higher_priority_has_the_say(world):
    delegate(world, "first")
    delegate(world, "second")
    describe(world, "first", minutes=25)
    describe(world, "second", minutes=99)
    publish(world)
    assert world.verify().facts.minutes == 25


def test_top_level_targets_come_before_any_delegation(world):
    delegate(world, "maker")
    describe(world, "maker", minutes=99)
    add_image(world.image, world.release)
    publish(world)
    assert world.verify().facts.minutes == 25


def test_terminating_delegation_ends_the_search(world):
    delegate(world, "first", terminating=True)
    delegate(world, "second")
    describe(world, "second")
    publish(world)
    assert refusal_of(world) is Code.TARGET_MISMATCH


def test_terminating_delegation_ends_the_search_above_it_too(world):
    delegate(world, "first")
    delegate(world, "below", delegator="first", terminating=True)
    delegate(world, "second")
    describe(world, "second")
    publish(world)
    assert refusal_of(world) is Code.TARGET_MISMATCH


def test_terminating_delegation_for_other_hardware_ends_nothing(world):
    delegate(world, "first", terminating=True, hardware_ids=["OTHER"])
    delegate(world, "second")
    describe(world, "second")
    publish(world)
    assert world.verify().facts.version == "2.4.0"


def test_delegations_in_a_circle_come_to_an_end(world):
    delegate(world, "a")
    delegate(world, "b", delegator="a")
    delegate(world, "a", delegator="b")
    publish(world)
    assert refusal_of(world) is Code.TARGET_MISMATCH
    assert len(world.fetched) < 20


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(("depth", "found"), [(8, True), (9, False)])
def test_depth_is_bounded(world, depth, found):
    above = "targets"
    for level in range(depth):
        delegate(world, f"level{level}", delegator=above)
        above = f"level{level}"
    describe(world, above)
    publish(world)
    if found:
        world.verify()
    else:
        assert refusal_of(world) is Code.DELEGATION_MISSING


@pytest.mark.requirement("A4")
@pytest.mark.parametrize(("count", "found"), [(32, True), (33, False)])
def test_number_of_roles_is_bounded(world, count, found):
    for number in range(count):
        delegate(world, f"role{number}")
    describe(world, f"role{count - 1}")
    publish(world)
    if found:
        world.verify()
    else:
        assert refusal_of(world) is Code.DELEGATION_MISSING


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("stored", [False, True])
def test_delegated_role_of_a_replaced_key_is_refused_also_when_it_was_stored(world, stored):
    delegate(world, "maker")
    describe(world, "maker")
    publish(world)
    if stored:
        world.verify()
    thiefs = world.image.signers["maker"]
    delegate(world, "maker", signers=[CryptoSigner.generate_ed25519()])
    world.image.signers["maker"] = thiefs
    maker = world.image.delegated["maker"]
    unchanged = maker.version
    publish(world)
    assert refusal_of(world) is Code.UNMET_THRESHOLD
    maker.version = unchanged
    world.image._write("maker", maker)
    world.image.refresh(NOW)
    world.restart()
    assert refusal_of(world) in {Code.UNMET_THRESHOLD, Code.VERSION_MISMATCH}


@pytest.mark.requirement("A2")
def test_stored_delegated_role_alone_is_verified_for_its_current_delegator(world):
    """The file is the one that the snapshot means, to the byte; only the delegator has changed."""
    delegate(world, "maker")
    describe(world, "maker")
    publish(world)
    world.verify()
    maker = world.image.delegated["maker"]
    version = maker.version
    delegate(world, "maker", signers=[CryptoSigner.generate_ed25519()])
    world.image.targets.version += 1
    world.image._write("targets", world.image.targets)
    world.image.refresh(NOW)
    assert maker.version == version
    assert refusal_of(world) is Code.UNMET_THRESHOLD


@pytest.mark.requirement("A3")
def test_delegated_role_does_not_go_back(world):
    delegate(world, "maker")
    describe(world, "maker")
    publish(world)
    publish(world)
    world.verify()
    world.image.delegated["maker"].version -= 1
    world.image._write("maker", world.image.delegated["maker"])
    world.image.refresh(NOW)
    assert refusal_of(world) is Code.VERSION_MISMATCH


def test_delegated_role_may_not_be_named_as_a_top_level_one(world):
    delegate(world, "maker")
    publish(world)
    world.image.forge("targets", lambda s: s["delegations"]["roles"][0].update(name="snapshot"))
    assert refusal_of(world) is Code.METADATA_MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"terminating": "no"},
        {"paths": "adas/*"},
        {"paths": [1]},
        {"path_hash_prefixes": ["00"]},
        {"threshold": 1.0},
        {"keyids": "ab"},
        {"name": "x" * 300},
    ],
    ids=repr,
)
def test_delegation_of_hostile_shape_is_refused(world, change):
    delegate(world, "maker")
    publish(world)
    if "x" * 300 in change.values():
        world.image.snapshot.meta["x" * 300 + ".json"] = world.image.snapshot.meta["maker.json"]
        world.image.forge(
            "snapshot", lambda s: s["meta"].update({"x" * 300 + ".json": {"version": 1}})
        )
    if change == {"threshold": 1.0}:
        data = world.image.bytes_of("targets").replace(b'"threshold":1', b'"threshold":1.0')
        world.image.files["targets.json"] = data
    else:
        world.image.forge("targets", lambda s: s["delegations"]["roles"][0].update(change))
    assert refusal_of(world) is Code.METADATA_MALFORMED
