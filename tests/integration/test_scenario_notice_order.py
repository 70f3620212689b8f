"""Several notices: the same one again, a newer one, and one while the controller is written."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.integration.scenario_bench import (
    audit,
    codes,
    message_refused,
    question_shown,
    reports,
    running_rig,
    told,
    untouched,
    update_in,
    update_refused,
)

pytestmark = pytest.mark.scenario


def test_one_update_at_a_time_and_none_is_overwritten(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="ask", program_s=0.2) as rig:
        first = rig.notify()
        update_in(rig, first, "ready")

        seen = len(reports(rig))
        rig.notify(activity_id=first)
        rig.wait(lambda _: len(reports(rig)) > seen, "an answer to the repeated notice")
        answer = reports(rig)[-1]
        assert (answer["activityId"], answer["payload"]["state"]) == (first, "ready")
        assert [e["activity"] for e in audit(rig) if e["kind"] == "noticed"] == [first]

        rig.tell("backend", "assign", campaign={"vin": "LNBXMA7R2RB999999"})
        stranger = rig.notify()
        told(rig, stranger, code="VinMismatch")
        assert message_refused(rig, "VinMismatch").activity_id == first
        rig.tell("backend", "assign")

        second = rig.notify()
        update_in(rig, second, "ready")
        told(rig, first, state="superseded", status="SUPERSEDED")
        untouched(rig)

        question_shown(rig, second)
        rig.tell("hmi", "answer", status="APPROVED")
        update_in(rig, second, "installing")
        third = str(uuid.uuid4())
        rig.notify(activity_id=third)
        assert told(rig, third)["code"] == "UpdateInProgress"
        rig.notify(activity_id=second)
        done = update_in(rig, second, "completed")
        assert (done.software_before, done.software_after) == ("2.3.1", "2.4.0")
        assert codes(rig, second) == []
        assert message_refused(rig, "UpdateInProgress").state == "completed"

        rig.notify(activity_id=second)
        rig.tell("hmi", "policy", policy="approve")
        fourth = rig.notify()
        update_refused(rig, fourth, "failed", "AlreadyInstalled")
        states = [r["payload"]["state"] for r in reports(rig) if r["activityId"] == second]
        assert states.count("completed") == 2
