"""The controller is talked to in a parked, held car only; a loss ends it in the same call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.life_bench import NEW, Bench, in_virtual_time
from vehicle_agent.refusals import Code, Refused

IMAGE = Path("image")


async def installation(bench: Bench):
    await bench.open()
    bench.car.life = None
    return bench.installations["adas-controller"]


def install(bench: Bench, made):
    return made.install(bench.release, IMAGE, lambda _: None)


@pytest.mark.requirement("C4")
@pytest.mark.parametrize("loss", ["park", "hold"])
def test_a_loss_while_writing_aborts_in_the_same_call(tmp_path: Path, loss: str) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car
        task = asyncio.ensure_future(install(bench, made))
        await bench.until_true(lambda: car.calls.count("program") >= 2, 0.01)
        if loss == "park":
            car.park(False)
        else:
            car.lose_hold()
        assert car.calls[-1] == "abort"
        with pytest.raises(Refused) as caught:
            await task
        assert caught.value.refusal.code is (
            Code.PARK_LOST if loss == "park" else Code.INHIBIT_LOST
        )
        assert car.calls[-1] == "abort"
        assert car.calls.count("program") == 2
        assert car.frames[-1][0] == "RELEASE"
        assert car.breaches == []
        assert not made.talking
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D3")
def test_a_hold_lost_before_the_first_word_lets_nothing_be_said(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car

        async def acquire(_reason: str) -> None:
            car.held = False  # acknowledged, and gone before anybody watched

        bench.inhibit.acquire = acquire
        with pytest.raises(Refused) as caught:
            await install(bench, made)
        assert caught.value.refusal.code is Code.INHIBIT_LOST
        assert set(car.calls) == {"abort"}
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("C4")
@pytest.mark.parametrize("method", ["identify", "install", "activate", "roll_back", "check_health"])
def test_nothing_is_said_in_a_car_that_is_not_parked(tmp_path: Path, method: str) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car
        car.park(False)
        calls = {
            "identify": made.identify,
            "install": lambda: install(bench, made),
            "activate": lambda: made.activate(bench.release, IMAGE),
            "roll_back": lambda: made.roll_back(bench.release),
            "check_health": lambda: made.check_health(bench.release, IMAGE),
        }
        with pytest.raises((TimeoutError, Refused)):
            async with asyncio.timeout(1000):
                await calls[method]()
        assert (car.calls, car.frames) == ([], [])
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D3")
def test_nothing_is_said_when_the_drive_unit_does_not_acknowledge(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car
        car.acknowledges = False
        with pytest.raises(Refused) as caught:
            await install(bench, made)
        assert caught.value.refusal.code is Code.INHIBIT_NOT_ACKNOWLEDGED
        assert car.calls == []
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("field", ["vin", "ecu_serial", "hardware_id"])
def test_another_controller_than_configured_is_not_written(tmp_path: Path, field: str) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car
        connect = made._connect

        def stranger():
            programmer = connect()
            identify = programmer.identify

            async def answer():
                return (await identify())._replace(**{field: "ANOTHER"})

            programmer.identify = answer
            return programmer

        made._connect = stranger
        with pytest.raises(Refused) as caught:
            await install(bench, made)
        assert caught.value.refusal.code is Code.CONTROLLER_IDENTITY
        assert "'ANOTHER'" in caught.value.refusal.detail
        assert "program" not in car.calls
        await bench.kill()

    in_virtual_time(main())


def test_the_connection_is_closed_and_quiet_comes_however_it_ends(tmp_path: Path) -> None:
    async def main() -> None:
        for code in (None, Code.CONTROLLER_SILENT, Code.SECURITY_DENIED):
            bench = Bench(tmp_path)
            made, car = await installation(bench), bench.car
            programmers, connect = [], made._connect
            made._connect = lambda connect=connect, kept=programmers: (
                kept.append(connect()) or kept[-1]
            )
            car.refuse["program"] = [code] if code else []
            task = asyncio.ensure_future(install(bench, made))
            await asyncio.sleep(0.35)
            assert made.talking
            await made.until_quiet()
            assert task.done() or task.cancelling() == 0
            await asyncio.wait({task})
            assert (task.exception() is None) == (code is None)
            assert all(programmer.closed for programmer in programmers)
            assert car.park_guards == {} == car.hold_guards
            assert (car.other == NEW) == (code is None)
            await bench.kill()

    in_virtual_time(main())


def test_a_controller_without_a_trial_is_not_asked_to_end_it(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made, car = await installation(bench), bench.car
        found = await made.identify()
        await made.confirm(found)
        assert "confirm" not in car.calls
        await made.confirm(found._replace(trial=True))
        assert "confirm" in car.calls
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("C1")
@pytest.mark.parametrize(("silent_s", "answers"), [(20.0, True), (60.0, False)])
def test_a_controller_in_a_restart_is_waited_for_as_long_as_its_profile_grants(
    tmp_path: Path, silent_s: float, answers: bool
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        made = await installation(bench)
        loop, connect = asyncio.get_running_loop(), made._connect
        wakes = loop.time() + silent_s

        def restarting():
            programmer = connect()
            identify = programmer.identify

            async def silent_at_first():
                if loop.time() < wakes:
                    raise Refused(Code.CONTROLLER_SILENT, "no answer to 22 f1 90")
                return await identify()

            programmer.identify = silent_at_first
            return programmer

        made._connect = restarting
        if answers:
            await made.activate(bench.release, IMAGE)
        else:
            with pytest.raises(Refused) as caught:
                await made.activate(bench.release, IMAGE)
            assert caught.value.refusal.code is Code.CONTROLLER_SILENT
        await bench.kill()

    in_virtual_time(main())
