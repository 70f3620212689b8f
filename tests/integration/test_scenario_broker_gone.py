"""The broker goes and comes back: every report arrives once, in order, and the update goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_rig.backend.broker import find_mosquitto
from hil_rig.backend.ledger import REPORTS
from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    question_shown,
    reports,
    running_rig,
    untouched,
    update_in,
)

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(
        find_mosquitto() is None,
        reason="mosquitto is not installed; the embedded broker forgets sessions when it ends",
    ),
]


def away_until(rig: Rig, state: str) -> None:
    """Take the broker away, wait for the state without it, and bring it back."""
    assert rig.broker is not None
    rig.broker.stop()
    rig.wait(lambda s: not s.broker_connected, "the loss of the broker noticed")
    rig.wait_for_state(state)
    back(rig)


def back(rig: Rig) -> None:
    assert rig.broker is not None
    rig.broker.restart()
    rig.wait(lambda s: s.broker_connected, "the broker found again")


def test_reports_arrive_once_and_in_order_over_four_losses_of_the_broker(tmp_path: Path) -> None:
    with running_rig(tmp_path, consent="ask", program_s=0.15) as rig:
        pid = rig.agent.pid
        activity = rig.notify()
        update_in(rig, activity, "ready")
        away_until(rig, "ready")
        question_shown(rig, activity)
        rig.tell("hmi", "answer", status="APPROVED")
        update_in(rig, activity, "approved")
        away_until(rig, "approved")
        untouched(rig)
        rig.tell("car", "park")
        update_in(rig, activity, "installing")
        assert rig.broker is not None
        rig.broker.restart()
        rig.wait(lambda s: s.broker_connected, "the broker found again")
        away_until(rig, "completed")
        rig.wait(lambda s: s.outbox == 0, "all reports told")
        everything = [r for topic in REPORTS for r in reports(rig, topic) if "seq" in r]
        numbers = {report["seq"] for report in everything}
        to_the_display = set(range(min(numbers), max(numbers))) - numbers
        assert len(to_the_display) == 1, "only the question is not for the backend"
        assert len({report["messageId"] for report in everything}) == len(everything)
        for topic in REPORTS:
            arrived = [report["seq"] for report in reports(rig, topic) if "seq" in report]
            assert arrived == sorted(arrived)
        states = [r["payload"].get("state") for r in reports(rig)]
        once = [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s]
        assert once == [
            *("noticed", "verified", "downloading", "ready", "approved"),
            *("installing", "activating", "probation", "completed"),
        ]
        assert rig.tell("backend", "state")["cars"][rig.bench.vin]["completed"]
        assert rig.agent.pid == pid


def test_a_broker_that_is_away_when_the_daemon_starts_is_waited_for(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="silence") as rig:
        assert rig.broker is not None
        rig.agent.stop()
        rig.broker.stop()
        rig.agent.start()
        status = rig.wait(lambda s: s.parked == "true", "the park gate without a broker")
        assert (status.state, status.broker_connected) == ("idle", False)
        back(rig)
        update_in(rig, rig.notify(), "ready")
        untouched(rig)


def test_a_notice_sent_while_the_daemon_is_away_is_kept_for_it(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="silence") as rig:
        assert rig.broker is not None
        rig.agent.stop()
        activity = rig.notify()
        rig.broker.restart()
        rig.agent.start()
        update_in(rig, activity, "ready")
        untouched(rig)
