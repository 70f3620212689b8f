"""A controller that says no, once or for good, at every step of the reprogramming (design, 6).

Once: the update goes on by itself to the end. For good: it ends in a named state, and what the
controller itself then answers is the old software.
"""

from __future__ import annotations

from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import audit, codes, family, told, update_in, update_refused

pytestmark = pytest.mark.scenario

bench = family(
    driving=False,
    consent="approve",
    profile_changes=(("s3_s = 5.0", "s3_s = 5.0\nseed_delay_s = 0.5"),),
)

FOR_GOOD = 1_000_000

GOES_ON: dict[str, list[dict[str, Any]]] = {
    "in-place": [
        {"kind": "nrc", "match": "1002", "nrc": 0x21, "count": 3},
        {"kind": "nrc", "match": "2701", "nrc": 0x37, "count": 2},
        {"kind": "nrc", "match": "3101FF00", "nrc": 0x21, "count": 2},
        {"kind": "nrc", "match": "36", "nrc": 0x73, "nth": 3},
        {"kind": "nrc", "match": "36", "nrc": 0x71, "nth": 6},
        {"kind": "drop_response", "match": "36", "nth": 11},
        {"kind": "nrc", "match": "3101FF01", "nrc": 0x21},
    ],
    "through-the-gate": [
        {"kind": "nrc", "match": "34", "nrc": 0x92},
        {"kind": "nrc", "match": "37", "nrc": 0x22},
        {"kind": "nrc", "match": "3101FF01", "nrc": 0x7F},
    ],
    "pending-long-while-erasing": [{"kind": "delay", "match": "3101FF00", "seconds": 6.5}],
}

ENDS: dict[str, tuple[dict[str, Any], str]] = {
    "out-of-range-at-programming-session": ({"match": "1002", "nrc": 0x31}, "ControllerRefused"),
    "denied-at-seed": ({"match": "2701", "nrc": 0x33}, "SecurityDenied"),
    "invalid-key": ({"match": "2702", "nrc": 0x35}, "SecurityDenied"),
    "too-many-attempts": ({"match": "2702", "nrc": 0x36}, "SecurityDenied"),
    "out-of-range-at-erase": ({"match": "3101FF00", "nrc": 0x31}, "ControllerRefused"),
    "download-not-accepted": ({"match": "34", "nrc": 0x70}, "ControllerRefused"),
    "programming-failure-at-a-block": ({"match": "36", "nrc": 0x72, "nth": 4}, "ControllerRefused"),
    "denied-at-a-block": ({"match": "36", "nrc": 0x33}, "SecurityDenied"),
    "programming-failure-at-exit": ({"match": "37", "nrc": 0x72}, "ControllerRefused"),
    "failure-at-dependency-check": ({"match": "3101FF01", "nrc": 0x72}, "ControllerRefused"),
}


def from_the_factory(rig: Rig) -> None:
    """Put the old software back, as another controller of the same car would have it."""
    rig.tell("controller", "clear")
    if rig.tell("controller", "state")["version"] == "2.3.1":
        return
    rig.controller.stop()
    for file in rig.folder.glob("adas.flash*"):
        file.unlink()
    rig.controller.start()


@pytest.mark.parametrize("case", GOES_ON)
def test_what_passes_by_itself_is_waited_for_and_the_update_completes(rig: Rig, case: str) -> None:
    from_the_factory(rig)
    for fault in GOES_ON[case]:
        rig.tell("controller", "fault", **fault)
    done = update_in(rig, rig.notify(), "completed")
    assert (done.software_before, done.software_after) == ("2.3.1", "2.4.0")
    after = rig.tell("controller", "state")
    assert (after["version"], after["trial"]) == ("2.4.0", False)


@pytest.mark.parametrize("case", ENDS)
def test_what_stays_ends_the_update_with_the_old_software_running(rig: Rig, case: str) -> None:
    from_the_factory(rig)
    fault, code = ENDS[case]
    rig.tell("controller", "fault", kind="nrc", count=FOR_GOOD, **fault)
    activity = rig.notify()
    status = update_refused(rig, activity, "failed", code)
    assert status.refusal is not None
    assert f"0x{fault['nrc']:02X}" in status.refusal.detail
    payload = told(rig, activity, state="failed")
    assert (payload["status"], payload["code"]) == ("INCOMPLETE", code)
    rig.wait(lambda s: not s.drive_inhibited, "the drive inhibit released")
    after = rig.tell("controller", "state")
    assert (after["version"], after["trial"], after["next"]) == ("2.3.1", False, "same")
    assert [e["kind"] for e in audit(rig) if e.get("activity") == activity][-1] == "refused"


def test_what_never_passes_is_given_up_after_a_bounded_number_of_times(rig: Rig) -> None:
    from_the_factory(rig)
    before = rig.tell("controller", "state")["writes"]
    rig.tell("controller", "fault", kind="nrc", match="1002", nrc=0x22, count=FOR_GOOD)
    activity = rig.notify()
    update_refused(rig, activity, "failed", "ControllerConditions")
    assert codes(rig, activity).count("ControllerConditions") == 5
    after = rig.tell("controller", "state")
    assert (after["version"], after["writes"]) == ("2.3.1", before)


def test_after_all_of_these_a_good_notice_is_carried_out(rig: Rig) -> None:
    pid = rig.agent.pid
    from_the_factory(rig)
    assert update_in(rig, rig.notify(), "completed").software_after == "2.4.0"
    assert rig.agent.pid == pid
