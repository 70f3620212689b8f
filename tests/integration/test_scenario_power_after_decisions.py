"""Power lost between a decision and its effect, and between an effect and its decision."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartRig
from tests.integration.power_bench import (
    await_death,
    completed,
    every_report_counted_once,
    parked_car,
    restart,
)

pytestmark = [pytest.mark.scenario, pytest.mark.requirement("C1"), pytest.mark.requirement("D6")]

BEFORE_WRITING = ("noticed", "verified", "downloading", "ready", "approved")
ACTIVATING = ("activating", "probation", "completed")


@pytest.mark.parametrize(
    "points",
    [
        [f"{when} {state}" for state in BEFORE_WRITING for when in ("before", "after")],
        [
            "after installing",
            *(f"{when} {state}" for state in ACTIVATING for when in ("before", "after")),
            "told completed",
        ],
    ],
    ids=["before writing", "while writing"],
)
def test_a_daemon_killed_at_each_decision_of_an_update_completes_it(
    start_rig: StartRig, points: list[str]
) -> None:
    rig = parked_car(start_rig)
    with every_report_counted_once(rig):
        restart(rig, points[0])
        rig.notify()
        for point, following in zip(points, [*points[1:], None], strict=True):
            await_death(rig, point)
            restart(rig, following)
        completed(rig)
