"""A halt heard in time: by a car that waits to be parked, and by one whose new software runs."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.life_bench import OLD, Bench, a_notice, in_virtual_time
from vehicle_agent.recall_watch import PERIOD_S
from vehicle_agent.refusals import Code
from vehicle_agent.release import Release
from vehicle_agent.update import State

HOUR = 3600.0


def halted(release: Release) -> Release:
    campaign = msgspec.structs.replace(release.campaign, halted=True)
    return msgspec.structs.replace(release, campaign=campaign, manifest_sha256="bb" * 32)


async def waiting(folder, **options) -> Bench:
    """A car that is driven, its update approved."""
    bench = Bench(folder, **options)
    await bench.open()
    bench.car.park(False)
    await bench.start()
    await bench.life.receive(a_notice())
    await bench.approve()
    await bench.until(State.APPROVED)
    return bench


async def trial(folder, **options) -> Bench:
    """A car whose new software runs and is being watched."""
    bench = await waiting(folder, **options)
    bench.car.park(True)
    await bench.until(State.PROBATION)
    return bench


def refusal(bench):
    refused = bench.life.update.refusal
    return None if refused is None else refused.code


@pytest.mark.requirement("E2")
def test_a_car_that_waits_for_days_hears_of_a_halt_within_the_hour(tmp_path):
    async def main():
        bench = await waiting(tmp_path)
        await asyncio.sleep(50 * HOUR)
        assert bench.car.state is State.APPROVED
        bench.release = halted(bench.release)
        await asyncio.sleep(PERIOD_S + 60)
        assert (bench.car.state, refusal(bench)) == (State.FAILED, Code.CAMPAIGN_HALTED)
        assert bench.car.calls == []
        await bench.kill()

    in_virtual_time(main())


def test_a_known_notice_lets_it_ask_at_once_but_not_without_end(tmp_path):
    async def main():
        bench = await waiting(tmp_path)
        await asyncio.sleep(60)
        asked = []
        verify = bench.steps._parts.verifier.verify

        async def counted(*arguments):
            asked.append(asyncio.get_running_loop().time())
            return await verify(*arguments)

        bench.steps._parts.verifier.verify = counted
        for _ in range(600):
            await bench.life.receive(a_notice())
            await asyncio.sleep(0.1)
        assert 1 <= len(asked) <= 7
        bench.release = halted(bench.release)
        await asyncio.sleep(15)
        await bench.life.receive(a_notice())
        await asyncio.sleep(15)
        assert refusal(bench) is Code.CAMPAIGN_HALTED
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.parametrize("code", [Code.METADATA_UNAVAILABLE, Code.NO_TRUSTED_TIME])
def test_a_network_that_is_away_ends_no_wait_but_nothing_starts_on_old_words(tmp_path, code):
    async def main():
        bench = await waiting(tmp_path)
        bench.refuse_verify = [code] * 1000
        await asyncio.sleep(20 * HOUR)
        assert bench.car.state is State.APPROVED
        bench.car.park(True)
        await asyncio.sleep(60)
        assert bench.car.state is State.APPROVED
        assert bench.car.running == OLD
        bench.refuse_verify = []
        await bench.until(State.INSTALLING)
        await bench.kill()

    in_virtual_time(main())


def test_a_car_parked_where_there_is_no_network_starts_on_the_word_of_this_hour(tmp_path):
    async def main():
        bench = await waiting(tmp_path)
        await asyncio.sleep(0.75 * HOUR)
        bench.refuse_verify = [Code.METADATA_UNAVAILABLE] * 1000
        bench.car.park(True)
        await bench.until(State.INSTALLING)
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("E2")
def test_a_halt_during_probation_rolls_back_through_the_park_gate(tmp_path):
    async def main():
        bench = await trial(tmp_path, soak_minutes=600)
        bench.car.park(False)
        bench.halted = True
        await asyncio.sleep(PERIOD_S + 60)
        assert bench.car.state is State.ROLLING_BACK
        assert bench.car.running != OLD
        bench.car.park(True)
        await bench.until(State.ROLLED_BACK)
        assert (bench.car.running, refusal(bench)) == (OLD, Code.CAMPAIGN_HALTED)
        assert bench.car.breaches == []
        assert bench.floors == []
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("E2")
def test_a_trial_is_never_confirmed_without_having_asked(tmp_path):
    async def main():
        bench = await trial(tmp_path, soak_minutes=1)
        bench.refuse_halted = [Code.METADATA_UNAVAILABLE] * 10_000
        await asyncio.sleep(20 * HOUR)
        assert (bench.car.state, refusal(bench)) == (State.PROBATION, Code.METADATA_UNAVAILABLE)
        assert "confirm" not in bench.car.calls
        assert bench.floors == []
        bench.refuse_halted = []
        await bench.until(State.COMPLETED)
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("code", [Code.UNMET_THRESHOLD, Code.VERSION_MISMATCH, Code.BAD_ECU_ID])
def test_an_attacker_in_the_network_brings_no_rollback_about(tmp_path, code):
    async def main():
        bench = await trial(tmp_path, soak_minutes=1)
        bench.refuse_halted = [code] * 3
        await bench.until(State.COMPLETED)
        assert bench.car.running != OLD
        assert bench.journal.unreported == {code: 3}
        await bench.kill()

    in_virtual_time(main())


def test_a_soak_that_has_passed_is_not_begun_anew_while_the_director_is_away(tmp_path):
    async def main():
        bench = await trial(tmp_path, soak_minutes=600)
        bench.refuse_halted = [Code.METADATA_UNAVAILABLE] * 12
        await asyncio.sleep(600 * 60 + 2 * HOUR)
        assert bench.car.state is State.COMPLETED
        await bench.kill()

    in_virtual_time(main())
