"""New software that does not run as it should: the old one comes back by itself, and is told."""

from __future__ import annotations

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import family, reports, told, update_in

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="approve")


@pytest.mark.requirement("C1")
@pytest.mark.parametrize("mode", ["no_boot", "self_test", "wrong_version"])
def test_software_that_fails_after_the_restart_is_rolled_back(rig: Rig, mode: str) -> None:
    rig.tell("controller", "fault", kind="refuse_boot", mode=mode, version="9.9.9")
    activity = rig.notify()
    status = update_in(rig, activity, "rolled_back")
    assert (status.software_before, status.software_after) == ("2.3.1", "2.3.1")
    after = rig.tell("controller", "state")
    assert (after["version"], after["trial"], after["selfTest"]) == ("2.3.1", False, True)
    payload = told(rig, activity, state="rolled_back")
    assert payload["status"] == "INCOMPLETE"
    assert payload["actions"][0]["status"] == "ROLLBACK_SUCCESS"
    assert payload["softwareAfter"] == "2.3.1"
    rig.wait(lambda s: s.outbox == 0 and not s.drive_inhibited, "all told and the car free")
    assert [r for r in reports(rig, "incident") if r["activityId"] == activity]
    manifests = rig.tell("backend", "state")["cars"][rig.bench.vin]["manifests"]
    assert manifests[-1]["verified"]
    rig.tell("controller", "clear")


def test_after_all_of_these_a_good_notice_is_carried_out(rig: Rig) -> None:
    pid = rig.agent.pid
    assert update_in(rig, rig.notify(), "completed").software_after == "2.4.0"
    assert rig.agent.pid == pid
