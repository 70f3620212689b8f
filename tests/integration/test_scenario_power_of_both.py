"""Power lost in the controller, and in controller and head unit at once."""

from __future__ import annotations

import pytest

from hil_rig.launch import Rig
from tests.integration.conftest import StartRig
from tests.integration.power_bench import (
    LIMIT_S,
    await_death,
    completed,
    controller,
    every_report_counted_once,
    half_written,
    parked_car,
    restart,
    until,
)

pytestmark = [pytest.mark.scenario, pytest.mark.requirement("C1")]

VERSIONS = {"2.3.1", "2.4.0"}


def boots(rig: Rig) -> None:
    """Assert that the controller starts with the old or the new software, whatever was done."""
    state = until(lambda: (now := controller(rig))["running"] and now, "controller that runs")
    assert state["version"] in VERSIONS
    assert state["selfTest"]


def power_of_all_is_lost(rig: Rig) -> None:
    rig.agent.kill()
    rig.controller.kill()
    rig.controller.start()
    boots(rig)


def test_a_controller_that_loses_power_is_programmed_anew_or_waited_for(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig, reset_s=2.0)
    rig.tell("controller", "fault", kind="delay", match="36", nth=9, seconds=30)
    rig.notify()
    until(lambda: half_written(rig), "half of the image")
    rig.tell("controller", "power", to="cycle")
    boots(rig)
    assert controller(rig)["version"] == "2.3.1"
    rig.wait_for_state("activating", limit_s=LIMIT_S)
    until(lambda: not controller(rig)["running"], "restart")
    rig.tell("controller", "power", to="cycle")
    boots(rig)
    assert controller(rig)["version"] == "2.4.0"
    completed(rig)


def test_power_that_comes_back_late_finds_a_controller_that_starts(start_rig: StartRig) -> None:
    rig = parked_car(start_rig)
    rig.tell("controller", "fault", kind="power_cut", nth=2)
    rig.notify()
    for operation in (12, None):
        until(lambda: not controller(rig)["powered"], "loss of power")
        if operation is not None:
            rig.tell("controller", "fault", kind="power_cut", nth=operation)
        rig.tell("controller", "power", to="on")
        boots(rig)
    completed(rig)


def test_both_lose_power_in_mid_programming_and_between_an_effect_and_its_decision(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig)
    rig.tell("controller", "fault", kind="delay", match="36", nth=9, seconds=60)
    with every_report_counted_once(rig):
        rig.notify()
        until(lambda: half_written(rig), "half of the image")
        power_of_all_is_lost(rig)
        for point in ("before activating", "before completed"):
            restart(rig, point)
            await_death(rig, point)
            power_of_all_is_lost(rig)
        restart(rig)
        completed(rig)


def test_a_controller_that_accepted_the_image_in_a_car_that_left_is_not_programmed_twice(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig)
    rig.tell("controller", "fault", kind="delay", match="3101FF01", seconds=4)
    with every_report_counted_once(rig):
        rig.notify()
        until(lambda: controller(rig)["programs"] == 17 and controller(rig)["busy"], "last check")
        rig.tell("car", "set", speed=4.0)
        rig.wait_for_state("approved")
        until(lambda: controller(rig)["next"] == "trial", "acceptance")
        rig.tell("controller", "power", to="cycle")
        boots(rig)
        assert controller(rig)["version"] == "2.4.0"
        rig.tell("car", "clear")
        completed(rig)
    assert controller(rig)["programs"] == 17
