"""The drive inhibit over the life of an update, and how a stop ends what is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from tests.unit.life_bench import NEW, OLD, Bench, a_notice, frames_outside_held, in_virtual_time
from vehicle_agent.agent import HELD, _update_of
from vehicle_agent.refusals import Code
from vehicle_agent.update import State, Update


def in_state(bench: Bench, state: State) -> Update:
    return msgspec.structs.replace(
        _update_of(a_notice()),
        state=state,
        writes_started=True,
        release=bench.release,
        software_before=OLD,
    )


async def approved(bench: Bench) -> None:
    await bench.open()
    await bench.start()
    await bench.life.receive(a_notice())
    await bench.approve()


@pytest.mark.requirement("D3")
def test_the_car_is_held_from_installing_until_the_new_software_was_read_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await approved(bench)
        await bench.until(State.COMPLETED)
        asked = [(frame, state) for frame, state in bench.car.frames]
        assert asked[0] == ("UPDATE", State.INSTALLING)
        assert asked[-1] == ("RELEASE", State.PROBATION)
        assert [state for frame, state in asked if frame == "RELEASE"] == [State.PROBATION]
        assert frames_outside_held(bench.car) == []
        assert bench.car.breaches == []
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D3")
@pytest.mark.parametrize("state", sorted(set(State)))
def test_a_restart_asserts_the_inhibit_first_in_the_held_states_and_in_no_other(
    tmp_path: Path, state: State
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.journal.record(in_state(bench, state))
        await bench.life.start()
        assert bench.car.held == (state in HELD)
        assert bench.car.calls == []
        assert [s for _, s in bench.car.frames] == ([state] if state in HELD else [])
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.parametrize("inhibits", [False, True])
def test_a_lost_controller_holds_the_car_only_where_the_profile_says_so(
    tmp_path: Path, inhibits: bool
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, inhibits_without_controller=inhibits)
        await bench.open()
        bench.car.running = "neither"
        await bench.journal.record(in_state(bench, State.ROLLING_BACK))
        await bench.start()
        await bench.until(State.RECOVERY_REQUIRED)
        await asyncio.sleep(5)
        assert bench.car.held == inhibits
        bench.car.lose_hold()
        await asyncio.sleep(600)
        assert bench.car.held == inhibits
        bench.car.running = OLD
        await bench.until(State.ROLLED_BACK)
        await asyncio.sleep(1)
        assert not bench.car.held
        await bench.kill()

    in_virtual_time(main())


def test_a_hold_asserted_at_restart_is_given_back_when_the_image_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.refuse_image = [Code.IMAGE_SERVER_UNAVAILABLE] * 3
        await bench.journal.record(in_state(bench, State.ACTIVATING))
        await bench.life.start()
        assert bench.car.held
        bench.task = asyncio.ensure_future(bench.life.run())
        await asyncio.sleep(0.5)
        assert not bench.car.held
        assert bench.life.update.state is State.ACTIVATING
        await bench.kill()

    in_virtual_time(main())


def test_a_hold_asserted_at_restart_is_given_back_when_the_car_does_not_park(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.journal.record(in_state(bench, State.ACTIVATING))
        await bench.life.start()
        bench.car.park(False)
        bench.task = asyncio.ensure_future(bench.life.run())
        await asyncio.sleep(29)
        assert bench.car.held
        await asyncio.sleep(2)
        assert not bench.car.held
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("C4")
def test_a_start_that_found_no_parked_car_is_granted_anew_before_it_begins(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.journal.record(in_state(bench, State.INSTALLING))
        bench.car.park(False)
        await bench.start()
        await bench.until(State.APPROVED)
        assert bench.life.update.attempts == 0
        await asyncio.sleep(86_400)
        bench.release = msgspec.structs.replace(
            bench.release, campaign=msgspec.structs.replace(bench.release.campaign, halted=True)
        )
        await bench.kill()
        await bench.open()
        await bench.start()
        bench.car.park(True)
        await bench.until(State.FAILED)
        assert bench.life.update.refusal.code is Code.CAMPAIGN_HALTED
        assert "program" not in bench.car.calls
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.parametrize("state", sorted(HELD | {State.APPROVED, State.RECOVERY_REQUIRED}))
def test_a_stop_does_not_wait_for_a_car_that_never_parks(tmp_path: Path, state: State) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.journal.record(in_state(bench, state))
        bench.car.park(False)
        await bench.start()
        await asyncio.sleep(100)
        bench.life.stop_when_safe()
        async with asyncio.timeout(1):
            await bench.task
        assert bench.car.calls == []
        await bench.kill()

    in_virtual_time(main())


def test_a_stop_finishes_the_conversation_and_writes_down_what_came_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await approved(bench)
        await bench.until_true(lambda: "program" in bench.car.calls, 0.01)
        bench.life.stop_when_safe()
        await bench.task
        assert bench.car.other == NEW
        assert (await bench.journal.current()).state is State.ACTIVATING
        assert bench.car.breaches == []
        await bench.kill()

    in_virtual_time(main())


def test_a_stop_between_two_conversations_of_the_soak_does_not_wait_for_the_next(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await approved(bench)
        await bench.until_true(lambda: "health" in bench.car.calls, 0.01)
        bench.car.loses_park_at = "leave"
        bench.life.stop_when_safe()
        async with asyncio.timeout(5):
            await bench.task
        assert "confirm" not in bench.car.calls
        await bench.kill()

    in_virtual_time(main())


def test_a_confirmation_lost_with_the_power_is_not_asked_for_again(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.car.running, bench.car.trial = NEW, False
        bench.car.refuse["confirm"] = [Code.CONTROLLER_CONDITIONS] * 9
        await bench.journal.record(in_state(bench, State.PROBATION))
        await bench.start()
        await bench.until(State.COMPLETED)
        assert len(bench.car.refuse["confirm"]) == 9
        await bench.kill()

    in_virtual_time(main())


def test_probation_that_fails_brings_the_old_software_back_behind_gate_and_hold(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        bench.car.healthy = False
        await approved(bench)
        await bench.until(State.ROLLED_BACK)
        assert bench.car.running == OLD
        assert bench.life.update.refusal.code is Code.PROBATION_FAILED
        assert ("RECOVERY", State.ROLLING_BACK) in bench.car.frames
        assert bench.car.breaches == []
        assert bench.floors == []
        await bench.kill()

    in_virtual_time(main())


def test_progress_is_told_once_a_percent_and_never_changes_the_state(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await approved(bench)
        await bench.until(State.COMPLETED)
        percents = [
            body["payload"]["message"]
            for _, body in await bench.reports()
            if body["payload"].get("message", "").startswith("programming")
        ]
        assert percents
        assert len(set(percents)) == len(percents)
        await bench.kill()

    in_virtual_time(main())
