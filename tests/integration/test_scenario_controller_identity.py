"""Another controller than the car's file names, or one that does not answer: nothing is erased."""

from __future__ import annotations

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    codes,
    family,
    reports,
    untouched,
    update_in,
    update_refused,
)

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="approve")

WRONG = {
    "vin": ("LNBXMA7R2RB000149", "LNBXMA7R2RB000150", "VIN (F190)"),
    "serial": ("ADAS-24051700149", "ADAS-24051700150", "ECU serial (F18C)"),
    "hardware": ("adas-hw-3", "adas-hw-2", "hardware id (F191)"),
}


def become(rig: Rig, old: str, new: str) -> None:
    """Exchange the controller for one whose identity says `new` instead of `old`."""
    rig.controller.stop()
    path = rig.folder / "controller.toml"
    path.write_text(path.read_text().replace(f'"{old}"', f'"{new}"'))
    rig.controller.start()


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("case", WRONG)
def test_a_controller_with_another_identity_is_left_alone(rig: Rig, case: str) -> None:
    old, new, words = WRONG[case]
    become(rig, old, new)
    try:
        activity = rig.notify()
        status = update_refused(rig, activity, "failed", "ControllerIdentity")
        assert status.refusal is not None
        assert words in status.refusal.detail
        assert repr(new) in status.refusal.detail
        assert not status.drive_inhibited
        untouched(rig)
    finally:
        become(rig, new, old)


def test_a_silent_controller_is_waited_for(rig: Rig) -> None:
    pid = rig.agent.pid
    rig.tell("controller", "fault", kind="silent")
    activity = rig.notify()
    update_refused(rig, activity, "approved", "ControllerSilent")
    untouched(rig)
    rig.tell("controller", "clear")
    assert update_in(rig, activity, "completed").software_after == "2.4.0"
    assert "ControllerSilent" in codes(rig, activity)
    assert reports(rig, "manifest")
    assert rig.agent.pid == pid
