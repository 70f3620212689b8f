"""The demo in a log: a line for each change, none without one, and nothing that moves a cursor."""

from __future__ import annotations

import io

from hil_rig.demo_lines import Lines
from hil_rig.demo_moment import Condition, Moment, Progress
from hil_rig.demo_show import Plain


def condition(value, name="gear"):
    return Condition(name=name, value=value, reading="DU_Gear P", reason="DU_Gear D")


def test_a_condition_is_told_when_it_turns_true_or_false():
    lines = Lines()
    told = [
        line
        for value in ("unknown", "false", "false", "unknown", "true", "true", "false")
        for line in lines.new(Moment(at=1.0, conditions=(condition(value),)))
    ]
    assert [line.split("gear: ")[1] for line in told] == [
        "false (DU_Gear D)",
        "true (DU_Gear D)",
        "false (DU_Gear D)",
    ]


def test_every_state_is_told_once_even_if_several_came_together():
    lines = Lines()
    reports = tuple(
        {"state": state, "status": "RUNNING", "message": message}
        for state, message in (
            ("noticed", "notice received"),
            ("downloading", "image is being fetched"),
            ("downloading", "download 6 %"),
            ("ready", "asked"),
        )
    )
    told = lines.new(Moment(at=2.0, feedback=reports))
    assert [line.split("update    ")[1] for line in told] == [
        "noticed: notice received",
        "downloading: image is being fetched",
        "ready: asked",
    ]
    assert lines.new(Moment(at=2.1, feedback=reports)) == []


def test_progress_is_told_at_each_quarter():
    lines = Lines()
    told = [
        line
        for done in range(0, 101, 5)
        for line in lines.new(
            Moment(at=1.0, progress=Progress(phase="programming", done=done, total=100, rate=5.0))
        )
    ]
    assert [line.split("programming ")[1].split(" (")[0] for line in told] == [
        "25 %",
        "50 %",
        "75 %",
        "100 %",
    ]


def test_inhibit_answer_and_refusal_are_told_when_they_change():
    lines = Lines()
    first = lines.new(Moment(at=1.0))
    then = Moment(at=2.0, inhibited=True, answers=("APPROVED",), refusal="NotParked: gear")
    assert first == []
    assert [line.split("s  ")[1].split()[0] for line in lines.new(then)] == [
        "driver",
        "inhibit",
        "refused",
    ]
    assert lines.new(then) == []


def test_no_control_characters_come_out():
    stream = io.StringIO()
    show = Plain(stream)
    show.say("from\x1b[31m a\rforeign\tmessage")
    assert stream.getvalue() == "from [31m a foreign message\n"
