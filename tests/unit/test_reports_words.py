"""What is told after each decision: the table's words, the reason, once."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.life_bench import a_notice
from tests.unit.release_maker import make_release
from vehicle_agent.agent import _update_of
from vehicle_agent.notices.messages import Topic
from vehicle_agent.refusals import Code, Refusal
from vehicle_agent.reports import Reporter
from vehicle_agent.update import Event, Kind, State, advance

REPORTER = Reporter(now_ms=lambda: 5, manifest=lambda _: {"signed": {}, "signatures": []})
WORDS = {
    State.IDLE: {"IDENTIFYING"},
    State.NOTICED: {"IDENTIFYING"},
    State.VERIFIED: {"IDENTIFIED"},
    State.REJECTED: {"IDENTIFICATION_FAILED"},
    State.DOWNLOADING: {"RUNNING", "DOWNLOADING"},
    State.READY: {"RUNNING", "DOWNLOAD_SUCCESS"},
    State.APPROVED: {"RUNNING", "DOWNLOAD_SUCCESS"},
    State.INSTALLING: {"RUNNING", "UPDATING"},
    State.ACTIVATING: {"RUNNING", "ACTIVATING"},
    State.PROBATION: {"RUNNING", "ACTIVATION_SUCCESS"},
    State.ROLLING_BACK: {"RUNNING", "ACTIVATION_FAILURE"},
    State.COMPLETED: {"COMPLETED", "ACTIVATION_SUCCESS"},
    State.ROLLED_BACK: {"INCOMPLETE", "ROLLBACK_SUCCESS"},
    State.RECOVERY_REQUIRED: {"INCOMPLETE_INCONSISTENT", "UPDATE_FAILURE"},
    State.FAILED: {"INCOMPLETE", "UPDATE_FAILURE"},
    State.CANCELLED: {"INCOMPLETE", "UPDATE_FAILURE"},
    State.SUPERSEDED: {"SUPERSEDED", "UPDATE_FAILURE"},
}


def in_state(state: State, **more: object):
    update = msgspec.structs.replace(_update_of(a_notice()), state=state, release=make_release())
    return msgspec.structs.replace(update, **more)


def topics(outgoing) -> list[str]:
    return [message.topic for message in outgoing]


@pytest.mark.parametrize("state", sorted(set(State) - {State.IDLE}))
def test_each_state_is_told_in_the_words_of_the_table(state: State) -> None:
    (message,) = REPORTER.feedback(in_state(state))
    payload = message.envelope["payload"]
    said = {payload["status"]} | {action["status"] for action in payload["actions"]}
    assert said == WORDS[state]
    assert (payload["state"], payload["recall"]) == (state, "S2025M0149I")
    assert message.envelope["timestamp"] == 5


def test_a_download_that_fails_is_told_as_such() -> None:
    before = in_state(State.DOWNLOADING)
    refusal = Refusal(Code.OVERSIZED_TARGET, "too long")
    after = advance(before, Event(kind=Kind.REFUSED, refusal=refusal))
    payload = REPORTER.changed(after, before, refusal)[0].envelope["payload"]
    assert payload["actions"][0]["status"] == "DOWNLOAD_FAILURE"
    assert payload["code"] == "OversizedTarget"


@pytest.mark.requirement("E5")
def test_an_attack_is_an_incident_and_a_manifest_follows_only_where_bytes_were_written() -> None:
    before = in_state(State.NOTICED)
    refusal = Refusal(Code.UNMET_THRESHOLD, "unsigned")
    after = advance(before, Event(kind=Kind.REFUSED, refusal=refusal))
    assert topics(REPORTER.changed(after, before, refusal)) == [Topic.FEEDBACK, Topic.INCIDENT]
    plain = Refusal(Code.METADATA_MALFORMED, "junk")
    assert topics(REPORTER.changed(after, before, plain)) == [Topic.FEEDBACK]
    written = in_state(State.FAILED, writes_started=True)
    assert Topic.MANIFEST in topics(REPORTER.changed(written, in_state(State.INSTALLING)))
    unwritten = in_state(State.FAILED)
    assert Topic.MANIFEST not in topics(REPORTER.changed(unwritten, in_state(State.READY)))


def test_what_the_controller_answered_is_told_before_and_after() -> None:
    update = in_state(State.COMPLETED, software_before="2.3.1", software_after="2.4.0")
    payload = REPORTER.feedback(update)[0].envelope["payload"]
    assert (payload["softwareBefore"], payload["softwareAfter"]) == ("2.3.1", "2.4.0")


def test_every_message_has_an_id_of_its_own() -> None:
    update = in_state(State.READY, challenge="00" * 16)
    outgoing = [m for _ in range(20) for m in REPORTER.changed(update, None)]
    assert len({m.envelope["messageId"] for m in outgoing}) == len(outgoing) == 40


def test_a_question_without_challenge_is_not_asked() -> None:
    assert topics(REPORTER.changed(in_state(State.READY), None)) == [Topic.FEEDBACK]
