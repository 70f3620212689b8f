"""Image servers that fail or attack: nothing but the signed bytes gets to the controller.

The car stands parked; the driver is not asked before the image is whole.
"""

from __future__ import annotations

from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import codes, family, untouched, update_in, update_refused

pytestmark = pytest.mark.scenario

bench = family(
    driving=False,
    consent="silence",
    agent_changes=(("[download]\n", "[download]\nslow_after_s = 0.5\n"),),
)

LATER: dict[str, tuple[dict[str, Any], str]] = {
    "truncated": ({"kind": "truncated", "amount": 9_000}, "ImageTruncated"),
    "dropped": ({"kind": "dropped"}, "ImageServerUnavailable"),
    "not-found": ({"kind": "status", "amount": 404}, "ImageServerUnavailable"),
    "forbidden": ({"kind": "status", "amount": 403}, "ImageServerUnavailable"),
    "broken": ({"kind": "status", "amount": 500}, "ImageServerUnavailable"),
    "overloaded": ({"kind": "status", "amount": 503}, "ImageServerUnavailable"),
    "redirects": ({"kind": "status", "amount": 302}, "ImageServerUnavailable"),
    "drips": ({"kind": "drip", "amount": 100}, "SlowRetrieval"),
    "stalls": ({"kind": "stall", "amount": 5_000}, "SlowRetrieval"),
}
NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "longer": ({"kind": "longer", "amount": 1}, "OversizedTarget"),
    "endless": ({"kind": "endless"}, "OversizedTarget"),
    "first-bit": ({"kind": "corrupt", "amount": 0}, "TargetHashMismatch"),
    "last-bit": ({"kind": "corrupt", "amount": 1 << 20}, "TargetHashMismatch"),
}


def begin(rig: Rig, fault: dict[str, Any]) -> str:
    """Send a good notice for an image that is not on disk, while the server has `fault`."""
    for image in (rig.folder / "state" / "images").glob("*"):
        image.unlink()
    rig.tell("backend", "fault", kind="none")
    rig.tell("backend", "fault", **fault)
    return rig.notify()


@pytest.mark.parametrize("case", LATER)
def test_a_server_that_fails_is_asked_again_until_the_image_is_whole(rig: Rig, case: str) -> None:
    fault, code = LATER[case]
    activity = begin(rig, fault)
    update_refused(rig, activity, "downloading", code)
    assert rig.tell("hmi", "state")["policy"] == "silence"
    untouched(rig)
    rig.tell("backend", "fault", kind="none")
    update_in(rig, activity, "ready")
    assert set(codes(rig, activity)) >= {code}


@pytest.mark.parametrize("case", NEVER)
def test_other_bytes_than_the_signed_ones_end_the_update(rig: Rig, case: str) -> None:
    fault, code = NEVER[case]
    activity = begin(rig, fault)
    update_refused(rig, activity, "failed", code)
    assert not list((rig.folder / "state" / "images").glob("*.image"))
    untouched(rig)


def test_a_server_that_is_gone_and_comes_back_ends_nothing(rig: Rig) -> None:
    activity = begin(rig, {"kind": "gone"})
    update_refused(rig, activity, "noticed", "MetadataUnavailable")
    untouched(rig)
    rig.tell("backend", "fault", kind="none")
    update_in(rig, activity, "ready")


def test_an_image_cut_in_the_middle_is_resumed(rig: Rig) -> None:
    activity = begin(rig, {"kind": "truncated", "amount": 20_000, "times": 1})
    update_in(rig, activity, "ready")
    assert set(codes(rig, activity)) <= {"ImageTruncated"}


def test_after_all_of_these_a_good_notice_is_carried_out(rig: Rig) -> None:
    pid = rig.agent.pid
    rig.tell("hmi", "policy", policy="approve")
    activity = begin(rig, {"kind": "without_ranges"})
    assert update_in(rig, activity, "completed").software_after == "2.4.0"
    assert rig.agent.pid == pid
