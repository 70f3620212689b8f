"""The demo's verdict: only what agent, controller and backend agree on counts as completed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil_rig.demo_moment import Moment, Progress
from hil_rig.demo_show import picture
from hil_rig.demo_summary import Facts, Meter, Signature, problems, rows
from hil_rig.demo_view import Heading

GOOD = Facts(
    state="completed",
    refusal=None,
    recall="S2025M0149I",
    vin="LNBXMA7R2RB000149",
    before="2.3.1",
    after="2.4.0",
    wanted="2.4.0",
    controller={"version": "2.4.0", "active": 1, "trial": False, "rxswin": "R157-HPA-1"},
    length=100,
    programmed=90,
    signatures=(Signature(repository="image", keys=("ed25519 ab",), threshold=1, of=1),),
    manifests=(True, True),
    bytes_per_s=1000.0,
    start_s=1.0,
    duration_s=20.0,
    reports={"desiredstatefeedback": 18, "manifest": 2, "incident": 0},
    duplicates=0,
    told_completed=True,
)


def test_a_good_run_has_no_problem_and_says_what_was_read_back():
    assert problems(GOOD) == []
    told = dict(rows(GOOD))
    assert told["software"].startswith("2.3.1 → 2.4.0 as read back")
    assert told["controller says"].startswith("2.4.0 in bank B, confirmed")
    assert told["reports received"] == "desiredstatefeedback 18, manifest 2; duplicates 0"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"state": "rolled_back", "refusal": "ReadbackMismatch: x"}, "ReadbackMismatch"),
        ({"after": "2.3.1"}, "agent read back"),
        ({"controller": {**GOOD.controller, "version": "2.3.1"}}, "controller runs"),
        ({"controller": {**GOOD.controller, "trial": True}}, "trial"),
        ({"told_completed": False}, "not told"),
        ({"manifests": ()}, "manifest"),
        ({"manifests": (True, False)}, "manifest"),
    ],
)
def test_whatever_disagrees_is_a_problem(change, word):
    (problem,) = problems(replace(GOOD, **change))
    assert word in problem


def test_the_rate_is_that_of_programming_and_begins_anew_with_it():
    meter = Meter()

    def note(at, phase, done):
        meter.note(at, Progress(phase=phase, done=done, total=1000, rate=0.0))

    assert meter.bytes_per_s is None
    note(0.0, "erasing", 0)
    note(1.0, "programming", 0)
    note(2.0, "programming", 500)
    note(9.0, "programming", 0)
    note(10.0, "programming", 100)
    note(14.0, "programming", 400)
    note(15.0, "checking", 1000)
    assert meter.bytes_per_s == pytest.approx(80.0)
    assert meter.total == 1000


def test_the_picture_loads_nothing_from_elsewhere(tmp_path):
    path = tmp_path / "docs" / "demo.svg"
    heading = Heading(recall="S2025M0149I", vin="V", bus="wire", broker="mosquitto MQTT 5")
    picture(path, heading, Moment(at=1.0), rows(GOOD), good=True)
    svg = path.read_text()
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "S2025M0149I" in svg
