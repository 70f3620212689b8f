"""The driver's answer: signed, for this question, and final when it is no.

The car stands parked with the image on disk: consent alone stands before the controller.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    audit,
    codes,
    family,
    message_refused,
    publish,
    question_shown,
    reports,
    untouched,
    update_in,
    update_refused,
)

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="silence")


def asked(rig: Rig, policy: str) -> str:
    """Bring a good notice up to the question, with the display under `policy`."""
    rig.tell("hmi", "policy", policy=policy)
    activity = rig.notify()
    update_in(rig, activity, "ready", "approved", "cancelled")
    question_shown(rig, activity)
    return activity


def invalid(rig: Rig) -> list[str]:
    return [str(e["detail"]) for e in audit(rig) if e.get("code") == "ConsentInvalid"]


def test_silence_is_no_consent(rig: Rig) -> None:
    activity = asked(rig, "silence")
    rig.wait(lambda s: s.parked == "true", "a parked car")
    assert rig.wait(lambda s: s.outbox == 0, "all told").state == "ready"
    assert (update_in(rig, activity, "ready").refusal, codes(rig, activity)) == (None, [])
    untouched(rig)


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("forgery", ["forged_key", "forged_manifest", "replay"])
def test_a_forged_answer_is_written_down_and_starts_nothing(rig: Rig, forgery: str) -> None:
    before = len(invalid(rig))
    activity = asked(rig, forgery)
    rig.wait(lambda _: len(invalid(rig)) > before, "the refusal in the audit")
    assert message_refused(rig, "ConsentInvalid").state == "ready"
    assert update_in(rig, activity, "ready").refusal is None
    untouched(rig)


def test_an_answer_that_was_given_once_counts_for_no_other_question(rig: Rig) -> None:
    rig.tell("hmi", "policy", policy="postpone")
    postponed = rig.notify()
    update_in(rig, postponed, "approved")
    said = rig.tell("hmi", "state")["answers"][-1]
    asked(rig, "silence")
    before = len(invalid(rig))
    publish(rig, "ownerconsentfeedback", {"activityId": "x", "timestamp": 1, "payload": said})
    rig.wait(lambda _: len(invalid(rig)) > before, "the refusal in the audit")
    assert message_refused(rig, "ConsentInvalid").state == "ready"
    untouched(rig)


def test_postponed_waits_until_the_time_that_the_driver_named(rig: Rig) -> None:
    activity = asked(rig, "ask")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    rig.tell("hmi", "answer", status="POSTPONED", not_before=tomorrow)
    update_in(rig, activity, "approved")
    rig.wait(lambda s: s.parked == "true" and s.outbox == 0, "a parked car and all told")
    untouched(rig)


@pytest.mark.requirement("D2")
def test_no_is_no_until_the_release_changes(rig: Rig) -> None:
    activity = asked(rig, "deny")
    update_refused(rig, activity, "cancelled", "ConsentDenied")
    questions = len(reports(rig, "ownerconsentfeedback"))
    rig.tell("hmi", "policy", policy="approve")
    again = rig.notify()
    update_refused(rig, again, "rejected", "ConsentDenied")
    assert len(reports(rig, "ownerconsentfeedback")) == questions
    rig.agent.stop()
    rig.agent.start()
    rig.wait(lambda s: s.broker_connected, "a broker connection")
    once_more = rig.notify()
    update_refused(rig, once_more, "rejected", "ConsentDenied")
    untouched(rig)


def test_a_changed_release_is_asked_about_anew_and_may_be_postponed_a_little(rig: Rig) -> None:
    rig.tell("backend", "assign", campaign={"hotline": "400-018-2027"})
    activity = asked(rig, "ask")
    untouched(rig)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    rig.tell("hmi", "answer", status="POSTPONED", not_before=soon)
    assert update_in(rig, activity, "completed").software_after == "2.4.0"
