"""The status that the console shows, and the rate of a running step."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tests.unit.life_bench import Car, a_notice
from vehicle_agent.agent import _update_of
from vehicle_agent.progress_rate import ProgressRate
from vehicle_agent.refusals import Code, Refusal
from vehicle_agent.snapshot import snapshot
from vehicle_agent.update import State


def status_of(update=None, **more):
    fields = {
        "vin": "V",
        "verdict": Car().verdict(),
        "progress": None,
        "broker_connected": False,
        "drive_inhibited": False,
        "trusted_time": None,
        "outbox": 0,
    }
    return snapshot(update=update, **{**fields, **more})


def test_a_car_without_update_is_idle_and_free() -> None:
    status = status_of()
    assert (status.state, status.activity_id, status.refusal) == ("idle", None, None)
    assert not status.drive_inhibited
    assert status.trusted_time is None


@pytest.mark.parametrize("state", sorted(State))
def test_every_state_shows_its_update_and_the_reason_that_stands(state: State) -> None:
    refusal = Refusal(Code.PARK_LOST, "gear is D")
    update = msgspec.structs.replace(_update_of(a_notice()), state=state, refusal=refusal)
    status = status_of(update, trusted_time=datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert (status.state, status.activity_id, status.version) == (state, "a1", "2.4.0")
    assert (status.refusal.code, status.refusal.lifted_by) == ("ParkLost", "a parked car")
    assert status.trusted_time == "2026-03-01T12:00:00+00:00"
    assert msgspec.json.decode(msgspec.json.encode(status), type=type(status)) == status


def test_the_rate_is_that_of_the_running_phase() -> None:
    rate = ProgressRate()
    assert rate.status() is None
    rate.note("erasing", 0, 100, 10.0)
    assert rate.status().bytes_per_s == 0.0
    rate.note("programming", 20, 100, 11.0)
    rate.note("programming", 60, 100, 13.0)
    assert (rate.status().done, rate.status().bytes_per_s) == (60, 20.0)
    rate.clear()
    assert rate.status() is None
    rate.note("programming", 0, 100, 20.0)
    rate.note("programming", 10, 100, 20.0)
    assert rate.status().bytes_per_s == 0.0
