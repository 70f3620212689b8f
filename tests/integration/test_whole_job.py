"""The main job on real parts: from an MQTT notice to the software read back from the controller."""

from __future__ import annotations

import pytest

from hil_rig.launch import Rig

pytestmark = pytest.mark.scenario


@pytest.mark.requirement("B1")
@pytest.mark.requirement("C1")
def test_a_recall_update_runs_from_notice_to_read_back(rig: Rig) -> None:
    before = rig.tell("controller", "state")
    assert before["writes"] == 0
    rig.notify()
    waiting = rig.wait_for_state("approved")
    assert waiting.recall == "S2025M0149I"
    assert waiting.parked == "false"
    assert rig.tell("controller", "state")["writes"] == 0
    rig.tell("car", "park")
    done = rig.wait_for_state("completed")
    assert (done.software_before, done.software_after) == ("2.3.1", "2.4.0")
    after = rig.tell("controller", "state")
    assert (after["version"], after["trial"], after["revertible"]) == ("2.4.0", False, False)
