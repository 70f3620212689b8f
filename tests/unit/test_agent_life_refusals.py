"""Every refusal in every state: a defined state, on disk, and the car given back."""

from __future__ import annotations

import asyncio
from itertools import pairwise, product
from pathlib import Path

import msgspec
import pytest

from tests.unit.life_bench import Bench, a_notice, in_virtual_time
from vehicle_agent.agent import HELD, _update_of
from vehicle_agent.refusals import RULES, Code, Refused, Retry
from vehicle_agent.update import ENDED, State, Update

ACTIVE = sorted(set(State) - ENDED)
INSTALLED = {State.ACTIVATING, State.PROBATION, State.ROLLING_BACK, State.RECOVERY_REQUIRED}
WRITTEN = INSTALLED | {State.INSTALLING}


def an_update(bench: Bench, state: State, activity: str, **more: object) -> Update:
    update = msgspec.structs.replace(
        _update_of(a_notice(activity)),
        state=state,
        writes_started=state in WRITTEN,
        software_before="2.3.1" if state in WRITTEN else None,
    )
    if state is not State.NOTICED:
        update = msgspec.structs.replace(update, release=bench.release, challenge="00" * 16)
    return msgspec.structs.replace(update, **more)


async def refuse_once(bench: Bench, update: Update, code: Code) -> None:
    """Let the step of `update` say no with `code`, once; what comes after it hangs."""
    refused = False

    async def step(_update: Update) -> None:
        nonlocal refused
        if not refused:
            refused = True
            raise Refused(code, "in the test")
        await asyncio.get_running_loop().create_future()

    await bench.journal.record(update)
    bench.steps.run = step
    await bench.start()
    await asyncio.sleep(400)
    assert refused


@pytest.mark.parametrize("state", ACTIVE)
def test_every_refusal_leads_to_a_defined_state_and_starts_nothing(
    tmp_path: Path, state: State
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        for number, (code, attempts) in enumerate(product(Code, (0, 4))):
            await bench.open()
            bench.car.running = "2.3.1"
            bench.car.calls.clear()
            update = an_update(bench, state, f"a{number}", attempts=attempts)
            await refuse_once(bench, update, code)
            after = bench.life.update
            assert after == await bench.journal.current()
            assert after.refusal is not None
            assert after.refusal.code is code
            assert set(bench.car.calls) <= {"identify", "leave"}
            assert not bench.car.held or after.state in HELD, (code, after.state)
            final = RULES[code].retry is Retry.NEVER
            if final and state in {State.NOTICED, State.VERIFIED, State.READY, State.DOWNLOADING}:
                assert after.state in {State.REJECTED, State.FAILED}
            if state in INSTALLED:
                assert after.state in INSTALLED
            await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("C1")
@pytest.mark.parametrize(
    ("runs", "trial", "ends"),
    [
        ("2.3.1", False, State.FAILED),
        ("2.3.1", True, State.RECOVERY_REQUIRED),
        ("half", False, State.RECOVERY_REQUIRED),
    ],
)
@pytest.mark.parametrize("state", [State.INSTALLING, State.APPROVED])
def test_an_interrupted_installation_ends_only_by_the_controllers_own_word(
    tmp_path: Path, state: State, runs: str, trial: bool, ends: State
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.car.running, bench.car.trial = runs, trial
        written = {"writes_started": True, "software_before": "2.3.1"}
        await refuse_once(bench, an_update(bench, state, "a1", **written), Code.CAMPAIGN_HALTED)
        assert bench.life.update.state is ends
        await bench.kill()

    in_virtual_time(main())


def test_giving_up_does_not_wait_for_ever_for_a_parked_car(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.car.parked = False
        await refuse_once(bench, an_update(bench, State.INSTALLING, "a1"), Code.SECURITY_DENIED)
        assert bench.life.update.state is State.RECOVERY_REQUIRED
        assert bench.car.calls == []
        await bench.kill()

    in_virtual_time(main())


def test_a_defect_in_a_step_is_a_refusal_and_the_life_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        await bench.journal.record(an_update(bench, State.DOWNLOADING, "a1"))

        async def step(_update: Update) -> None:
            raise ZeroDivisionError

        bench.steps.run = step
        await bench.start()
        await bench.until(State.FAILED)
        assert bench.life.update.refusal.code is Code.INTERNAL_ERROR
        assert not bench.task.done()
        await bench.kill()

    in_virtual_time(main())


def test_a_component_that_left_the_configuration_ends_in_a_defined_state(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        for number, state in enumerate(ACTIVE):
            await bench.open()
            bench.installations.clear()
            await bench.journal.record(an_update(bench, state, f"a{number}"))
            await bench.start()
            await asyncio.sleep(2000)
            assert not bench.task.done()
            assert bench.life.update.state in ENDED | {State.READY, State.RECOVERY_REQUIRED}
            await bench.kill()

    in_virtual_time(main())


def test_back_off_doubles_up_to_a_cap_is_jittered_and_never_overflows(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        times: list[float] = []

        async def step(_update: Update) -> None:
            times.append(asyncio.get_running_loop().time())
            raise Refused(Code.METADATA_UNAVAILABLE, "no answer")

        bench.steps.run = step
        await bench.journal.record(an_update(bench, State.NOTICED, "a1"))
        await bench.start()
        await bench.until_true(lambda: len(times) >= 1100, 100)
        waits = [after - before for before, after in pairwise(times)]
        for number, wait in enumerate(waits):
            longest = min(2 ** min(number, 20), 300)
            assert longest / 2 <= wait <= longest
        assert len({round(wait, 6) for wait in waits[10:]}) > 1000
        assert not bench.task.done()
        history, reports = await bench.journal.history(), await bench.reports()
        assert (len(history), len(reports)) == (1, 1)  # the same no is told and audited once
        await bench.kill()

    in_virtual_time(main())


def test_a_refusal_that_no_longer_stands_is_not_told_again(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.refuse_image = [Code.IMAGE_SERVER_UNAVAILABLE]
        await bench.start()
        await bench.life.receive(a_notice())
        await bench.until(State.READY)
        assert bench.life.update.refusal is None
        codes = [body["payload"].get("code") for _, body in await bench.reports()]
        assert codes.count("ImageServerUnavailable") == 1
        await bench.kill()

    in_virtual_time(main())


def test_a_bus_that_fails_in_every_installation_uses_the_budget_up(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.car.refuse["program"] = [Code.BUS_UNAVAILABLE] * 50
        await bench.start()
        await bench.life.receive(a_notice())
        await bench.approve()
        await bench.until(State.FAILED)
        assert len(bench.car.refuse["program"]) == 45
        await bench.kill()

    in_virtual_time(main())
