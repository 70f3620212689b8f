"""Power fails at every decision of an update: it ends completed, once, and never unguarded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.life_bench import NEW, Bench, a_notice, frames_outside_held, in_virtual_time
from vehicle_agent.update import State

DECISIONS = 11


async def run_through(bench: Bench, at: int | None, *, written: bool) -> int:
    """One update, killed at its `at`-th record and begun again; how many records the last took."""
    await bench.open(at, written=written)
    outside = asyncio.ensure_future(live(bench))
    dead = asyncio.ensure_future(bench.journal.dead.wait())
    await asyncio.wait({outside, dead}, return_when=asyncio.FIRST_COMPLETED)
    killed = dead.done()
    dead.cancel()
    if killed:
        outside.cancel()
        await asyncio.wait({outside})
        await bench.kill()
        before = len(bench.car.frames)
        await bench.open()
        known = await bench.journal.current()
        await bench.life.start()
        if known is not None and known.state in {State.INSTALLING, State.ACTIVATING}:
            assert bench.car.frames[before:][:1] == [("UPDATE", known.state)]
            assert bench.car.held
        await live(bench, started=True)
    else:
        outside.result()
    assert await bench.journal.current() == bench.life.update
    return bench.journal.records


async def live(bench: Bench, *, started: bool = False) -> None:
    if not started:
        await bench.life.start()
    bench.task = asyncio.ensure_future(bench.life.run())
    await bench.serve_outside(a_notice())


async def check_ended_well(bench: Bench) -> None:
    car = bench.car
    assert car.state is State.COMPLETED
    assert (car.running, car.trial) == (NEW, False)
    assert car.breaches == []
    assert frames_outside_held(car) == []
    assert not car.held
    assert bench.floors == [bench.release.facts.release_counter]
    told = [
        body for _, body in await bench.reports() if body["payload"].get("state") == "completed"
    ]
    assert len({body["messageId"] for body in told}) == 1 == len(told)
    seqs = [body["seq"] for _, body in await bench.reports()]
    assert seqs == sorted(set(seqs))


@pytest.mark.requirement("C1")
@pytest.mark.requirement("D6")
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", range(1, DECISIONS + 4))
def test_a_kill_at_any_record_still_ends_completed(tmp_path: Path, at: int, written: bool) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await run_through(bench, at, written=written)
        await check_ended_well(bench)
        await bench.kill()

    in_virtual_time(main())


def test_the_kills_reach_every_record_of_an_update(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        records = await run_through(bench, None, written=True)
        assert DECISIONS <= records < DECISIONS + 4
        await check_ended_well(bench)
        await bench.kill()

    in_virtual_time(main())


def test_the_floor_is_raised_after_the_decision_is_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        on_disk = []

        async def completed(update):
            current = await bench.journal.current()
            on_disk.append(current.state)

        await bench.open()
        bench.life._on_completed = completed
        await live(bench)
        assert on_disk == [State.COMPLETED]
        await bench.kill()

    in_virtual_time(main())
