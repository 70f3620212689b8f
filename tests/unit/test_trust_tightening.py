"""What the Director may change of what the Image role signed: row by row, only the stricter."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trust_world import HARDWARE, PATH, World, release
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import ReleaseFacts
from vehicle_agent.trust.tightening import tighten

SIGNED = release(
    hardware_ids=(HARDWARE, "OTHER"),
    base_versions=("2.3.0", "2.3.1"),
    install_wh=100,
    recovery_wh=50,
    minutes=25,
    soak_minutes=30,
).custom()
FACTS = msgspec.convert(SIGNED, ReleaseFacts)


def outcome(said, image=SIGNED):
    """The facts that come out, as plain data, or the code of the refusal."""
    facts = msgspec.convert(image, ReleaseFacts)
    try:
        return msgspec.to_builtins(tighten("target 'x'", facts, said, image))
    except Refused as refused:
        return refused.refusal.code


STRICTER = [
    ({}, {}),
    ({"hardwareIds": [HARDWARE]}, {"hardwareIds": (HARDWARE,)}),
    ({"hardwareIds": ["OTHER", HARDWARE]}, {"hardwareIds": ("OTHER", HARDWARE)}),
    ({"baseVersions": ["2.3.1"]}, {"baseVersions": ("2.3.1",)}),
    ({"baseVersions": []}, {"baseVersions": ()}),
    ({"energy": {"install_wh": 101}}, {"energy": {"install_wh": 101, "recovery_wh": 50}}),
    ({"energy": {"recovery_wh": 51}}, {"energy": {"install_wh": 100, "recovery_wh": 51}}),
    ({"energy": {}}, {}),
    ({"minutes": 26}, {"minutes": 26}),
    ({"minutes": 25}, {}),
    ({"needsTechnician": True}, {"needsTechnician": True}),
    ({"needsTechnician": False}, {}),
    ({"soak": {"minutes": 31}}, {"soak": {"minutes": 31}}),
    ({"version": "2.4.0", "rxswin": {"before": "R1", "after": "R2"}}, {}),
    ({"ecuIdentifiers": {}, "campaign": {"vin": "x"}}, {}),
    ({"uri": "https://example", "createdAt": "2026", "name": "adas"}, {}),
]

LOOSER = [
    {"hardwareIds": [HARDWARE, "THIRD"]},
    {"baseVersions": ["2.3.1", "2.2.0"]},
    {"energy": {"install_wh": 99}},
    {"energy": {"install_wh": 200, "recovery_wh": 49}},
    {"minutes": 24},
    {"soak": {"minutes": 29}},
    {"version": "2.4.1"},
    {"releaseCounter": 8},
    {"profileSha256": "cd" * 32},
    {"readback": []},
    {"memoryCheck": {"routine": 514, "expected": "00"}},
    {"rxswin": {"before": "R1", "after": "R3"}},
    {"needs_technician": True},
    {"skipGate": True},
]

OF_ANOTHER_KIND = [
    {"hardwareIds": HARDWARE},
    {"hardwareIds": None, "minutes": "26"},
    {"energy": {"install_wh": 101, "other": 1}},
    {"energy": 101},
    {"minutes": True},
    {"needsTechnician": 1},
    {"soak": {}},
    {"soak": 31},
]


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(("said", "changed"), STRICTER, ids=repr)
def test_director_may_say_what_is_stricter(said, changed):
    assert outcome(said) == msgspec.to_builtins(FACTS) | changed


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("said", LOOSER, ids=repr)
def test_director_may_say_nothing_that_is_looser_or_unsigned(said):
    assert outcome(said) is Code.DIRECTOR_LOOSENS


def test_director_cannot_lift_the_need_for_a_technician():
    image = SIGNED | {"needsTechnician": True}
    assert outcome({"needsTechnician": False}, image) is Code.DIRECTOR_LOOSENS
    assert outcome({}, image)["needsTechnician"] is True


@pytest.mark.parametrize("said", OF_ANOTHER_KIND, ids=repr)
def test_field_of_another_kind_is_malformed(said):
    assert outcome(said) is Code.METADATA_MALFORMED


@pytest.mark.requirement("A1")
@given(
    install=st.integers(0, 300),
    recovery=st.integers(0, 300),
    minutes=st.integers(0, 99),
    soak=st.integers(0, 99),
    technician=st.booleans(),
    hardware=st.lists(st.sampled_from([HARDWARE, "OTHER", "THIRD"]), unique=True),
    bases=st.lists(st.sampled_from(["2.3.0", "2.3.1", "2.2.0"]), unique=True),
)
def test_whatever_the_director_says_the_result_is_nowhere_looser(
    *, install, recovery, minutes, soak, technician, hardware, bases
):
    got = outcome(
        {
            "energy": {"install_wh": install, "recovery_wh": recovery},
            "minutes": minutes,
            "soak": {"minutes": soak},
            "needsTechnician": technician,
            "hardwareIds": hardware,
            "baseVersions": bases,
        }
    )
    if got is Code.DIRECTOR_LOOSENS:
        return
    assert got["energy"]["install_wh"] >= 100
    assert got["energy"]["recovery_wh"] >= 50
    assert got["minutes"] >= 25
    assert got["soak"]["minutes"] >= 30
    assert set(got["hardwareIds"]) <= {HARDWARE, "OTHER"}
    assert set(got["baseVersions"]) <= {"2.3.0", "2.3.1"}
    assert {**got, **{name: SIGNED[name] for name in MAY_DIFFER}} == _plain(SIGNED)


MAY_DIFFER = ("energy", "minutes", "soak", "needsTechnician", "hardwareIds", "baseVersions")


def _plain(custom):
    plain = msgspec.to_builtins(msgspec.convert(custom, ReleaseFacts))
    return plain | {name: custom[name] for name in MAY_DIFFER}


def test_release_carries_the_stricter_of_both_and_its_digest_changes(tmp_path):
    world = World(tmp_path)
    before = world.verify()
    world.director.targets.targets[PATH].custom.update(needsTechnician=True, minutes=40)
    world.director.publish(world.now)
    after = world.verify()
    assert (before.facts.needs_technician, before.facts.minutes) == (False, 25)
    assert (after.facts.needs_technician, after.facts.minutes) == (True, 40)
    assert after.manifest_sha256 != before.manifest_sha256


def test_director_that_takes_our_hardware_off_the_list_is_not_for_us(tmp_path):
    world = World(tmp_path, published=release(hardware_ids=(HARDWARE, "OTHER")))
    world.director.targets.targets[PATH].custom.update(hardwareIds=["OTHER"])
    world.director.publish(world.now)
    with pytest.raises(Refused) as caught:
        world.verify()
    assert caught.value.refusal.code is Code.BAD_HARDWARE_ID
