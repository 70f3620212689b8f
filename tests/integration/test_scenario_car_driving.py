"""A car that is driven: everything is prepared, and nothing is sent on its buses."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartRig
from tests.integration.power_bench import (
    completed,
    controller,
    every_report_counted_once,
    listen,
    parked_car,
    restart,
    until,
)

pytestmark = [pytest.mark.scenario, pytest.mark.requirement("D8"), pytest.mark.requirement("C4")]

OURS = (0x310, 0x7A0, 0x7DF)


def test_a_car_that_never_parks_stays_approved_and_hears_nothing_from_the_agent(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig, driving=True, consent="ask", pace=12.0)
    with listen(rig, *OURS) as bus, every_report_counted_once(rig):
        rig.tell("backend", "fault", kind="stall", amount=20_000)
        rig.notify()
        rig.wait_for_state("downloading")
        requests = rig.tell("backend", "state")["requests"]
        until(lambda: rig.tell("backend", "state")["requests"] >= requests, "request")
        rig.agent.kill()
        rig.tell("backend", "fault", kind="none")
        restart(rig)
        rig.wait_for_state("ready")
        until(lambda: rig.tell("hmi", "state")["showing"], "question")
        assert rig.agent.stop() == 0, "SIGTERM"
        restart(rig)
        rig.wait_for_state("ready")
        rig.tell("hmi", "answer", status="APPROVED")
        rig.wait_for_state("approved")
        rig.agent.kill()
        restart(rig)
        waiting = rig.wait(
            lambda s: s.state == "approved" and s.parked == "false", "verdict on a car that moves"
        )
        missing = {each.name: each for each in waiting.conditions if each.value != "true"}
        assert {"speed of the wheels", "gear", "parking brake", "drive not ready"} <= set(missing)
        assert all(each.reason and each.wanted for each in missing.values())
        assert controller(rig)["writes"] == 0
        assert bus.recv(0) is None, "a frame of the agent in a moving car"
        rig.tell("car", "park")
        while (frame := bus.recv(0.05)) is None:
            pass
        car = rig.tell("car", "state")
        assert car["standstill"], f"a frame of the agent before the car stood: {frame}"
        assert (car["state"]["gear"], car["state"]["epb"]) == ("P", "APPLIED")
        completed(rig)
        until(lambda: rig.tell("car", "state")["inhibited"] == "NO", "release")
        while bus.recv(0.5):  # the tail of the release, then silence
            pass
        rig.tell("car", "drive")
        until(lambda: rig.tell("car", "state")["state"]["speed"] > 20, "driving off")
        assert bus.recv(0) is None, "a frame of the agent in a moving car"
