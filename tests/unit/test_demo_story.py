"""The demo's acts: notice while driving, consent after reading, parking, and a killed agent."""

from __future__ import annotations

import pytest

from hil_rig.demo_moment import Moment
from hil_rig.demo_story import (
    ASK_AGAIN_S,
    DOWN_S,
    NOTICE_AFTER_S,
    PARK_AFTER_S,
    READING_S,
    STALL_S,
    Act,
    Story,
)

TEXT = {"zh-CN": "召回", "en": "recall"}


def reported(*states):
    return tuple({"state": state, "message": state, "status": "RUNNING"} for state in states)


def test_the_notice_goes_out_once_after_the_car_was_seen_driving():
    story = Story()
    assert story.next_act(Moment(at=0.0)) is None
    assert story.next_act(Moment(at=NOTICE_AFTER_S)) is Act.NOTIFY
    assert story.next_act(Moment(at=NOTICE_AFTER_S + 1)) is None


def noticed():
    story = Story()
    story.next_act(Moment(at=NOTICE_AFTER_S))
    return story


def test_the_driver_agrees_only_after_having_had_the_text_in_sight():
    story = noticed()
    assert story.next_act(Moment(at=5.0, state="ready")) is None
    assert story.next_act(Moment(at=6.0, state="ready", words=TEXT)) is None
    assert story.next_act(Moment(at=6.0 + READING_S, state="ready", words=TEXT)) is Act.AGREE


def agreed():
    story = noticed()
    for at in (6.0, 6.0 + READING_S):
        story.next_act(Moment(at=at, state="ready", words=TEXT))
    return story


def test_the_car_parks_after_the_consent():
    story = agreed()
    assert story.next_act(Moment(at=10.0, state="approved", words=TEXT)) is None
    assert story.next_act(Moment(at=10.0 + PARK_AFTER_S, state="approved", words=TEXT)) is Act.PARK
    assert story.next_act(Moment(at=20.0, state="approved", words=TEXT)) is None


def test_the_driver_answers_again_when_the_question_stands_again():
    story = agreed()
    later = 6.0 + READING_S + ASK_AGAIN_S + 0.1
    assert story.next_act(Moment(at=later, state="ready", words=TEXT)) is Act.AGREE


def test_a_killed_agent_is_started_again_once():
    story = Story(kill_at="installing")
    story.next_act(Moment(at=NOTICE_AFTER_S))
    assert story.next_act(Moment(at=3.0, state="approved")) is None
    assert story.next_act(Moment(at=4.0, state="installing")) is Act.KILL_AGENT
    down = Moment(at=4.1, state="installing", agent_up=False)
    assert story.next_act(down) is None
    assert not story.is_over(Moment(at=4.2, state="completed", told_completed=True))
    assert story.next_act(Moment(at=4.0 + DOWN_S, agent_up=False)) is Act.START_AGENT
    assert story.next_act(Moment(at=6.0, state="installing")) is None


@pytest.mark.parametrize("state", ["noticed", "verified", "downloading"])
def test_a_state_too_short_to_be_seen_kills_by_what_was_reported(state):
    story = Story(kill_at=state)
    story.next_act(Moment(at=NOTICE_AFTER_S))
    passed = Moment(at=2.0, state="ready", feedback=reported("noticed", "verified", "downloading"))
    assert story.next_act(passed) is Act.KILL_AGENT


def test_it_is_over_when_the_update_has_ended_and_all_is_told():
    story = Story()
    assert not story.is_over(Moment(at=1.0, state="completed"))
    assert not story.is_over(Moment(at=1.0, state="completed", told_completed=True, outbox=1))
    assert story.is_over(Moment(at=1.0, state="completed", told_completed=True))
    assert story.is_over(Moment(at=1.0, state="rejected"))
    assert not story.is_over(Moment(at=1.0, state="recovery_required"))


def test_standstill_is_found_but_a_soak_is_waited_for():
    story, soaking = Story(), Story(soak_s=600.0)
    for each in (story, soaking):
        assert each.stalled_s(Moment(at=1.0, state="probation")) is None
    late = Moment(at=STALL_S + 2.0, state="probation")
    assert story.stalled_s(late) == pytest.approx(STALL_S + 1.0)
    assert soaking.stalled_s(late) is None
