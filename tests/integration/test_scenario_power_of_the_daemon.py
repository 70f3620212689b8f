"""The daemon ends in the middle of its work on the controller, by SIGKILL and by SIGTERM."""

from __future__ import annotations

from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.conftest import StartRig
from tests.integration.power_bench import (
    LIMIT_S,
    completed,
    controller,
    every_report_counted_once,
    half_written,
    listen,
    parked_car,
    restart,
    until,
)
from tests.integration.scenario_bench import audit

pytestmark = [pytest.mark.scenario, pytest.mark.requirement("C1"), pytest.mark.requirement("D3")]

INHIBIT, REQUEST, FUNCTIONAL = 0x310, 0x7A0, 0x7DF

WRITING: dict[str, dict[str, Any]] = {
    "erasing": {"match": "3101FF00"},
    "early programming": {"match": "36", "nth": 2},
    "late programming": {"match": "36", "nth": 16},
    "checking": {"match": "31010202"},
}


def hold(rig: Rig, **request: Any) -> None:
    """Let the controller take long over this request, so that the daemon can be caught at it."""
    rig.tell("controller", "clear")
    rig.tell("controller", "fault", kind="delay", seconds=5, **request)


def at(rig: Rig, phase: str, done: int) -> bool:
    """Whether the daemon has come so far and waits for the controller, which is held up."""
    status = rig.status()
    progress = None if status is None else status.progress
    reached = progress is not None and progress.phase == phase and progress.done >= done
    return reached and bool(controller(rig)["busy"])


def killed_while_the_car_is_held(
    rig: Rig, stage: str, following: dict[str, Any] | None = None
) -> None:
    """Kill the daemon; the drive unit holds on, and the next daemon asks for that at first.

    `following`: the request at which the next daemon is to be held up.
    """
    rig.agent.kill()
    rig.tell("controller", "clear")
    if following is not None:
        hold(rig, **following)
    assert rig.tell("car", "state")["inhibited"] == "YES", stage
    assert rig.tell("car", "gear", gear="D")["reason"] == "drive inhibited", stage
    with listen(rig, INHIBIT, REQUEST, FUNCTIONAL) as bus:
        while bus.recv(0):  # what the dead one had still handed over
            pass
        rig.agent.start()
        first = bus.recv(LIMIT_S)
        status = until(rig.status, "status of the new daemon")
    assert first is not None, stage
    assert first.arbitration_id == INHIBIT, f"{stage}: the controller was talked to first"
    assert status.drive_inhibited, f"{stage}: ready before the car was held anew"
    assert rig.tell("car", "state")["inhibited"] == "YES", stage


def test_a_daemon_killed_at_each_stage_of_writing_writes_anew_and_completes(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig)
    with every_report_counted_once(rig):
        hold(rig, **next(iter(WRITING.values())))
        rig.notify()
        for (stage, request), following in zip(
            WRITING.items(), [*list(WRITING.values())[1:], None], strict=True
        ):
            phase, done = stage.split()[-1], (request.get("nth", 1) - 1) * 4000
            until(lambda phase=phase, done=done: at(rig, phase, done), stage)
            killed_while_the_car_is_held(rig, stage, following)
        completed(rig)
    assert controller(rig)["banks"] == ["2.3.1", "2.4.0"]


def test_a_daemon_killed_around_the_restart_of_the_controller_reads_the_new_software_back(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig, reset_s=4.0)
    hold(rig, match="1101")
    with every_report_counted_once(rig):
        rig.notify()
        rig.wait_for_state("activating")
        until(lambda: controller(rig)["busy"], "request for a reset")
        assert controller(rig)["version"] == "2.3.1"
        killed_while_the_car_is_held(rig, "before the reset")
        until(lambda: not controller(rig)["running"], "restart of the controller")
        killed_while_the_car_is_held(rig, "after the reset")
        completed(rig)


def test_sigterm_in_mid_programming_finishes_the_conversation_and_the_next_daemon_the_update(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig)
    hold(rig, match="36", nth=9)
    with every_report_counted_once(rig):
        rig.notify()
        until(lambda: half_written(rig), "half of the image")
        assert rig.agent.stop(limit_s=LIMIT_S) == 0
        stopped = [entry.get("code") for entry in audit(rig)]
        assert controller(rig)["next"] == "trial" or "ParkLost" in stopped, "cut in the middle"
        restart(rig)
        completed(rig)
