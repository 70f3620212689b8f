"""The gate on live buses: who is told, when, and in which call."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import pytest

from tests.unit.jumping_loop import JumpingLoop
from tests.unit.parking_car import BUS, PROJECT, PROJECT_PARKED, STEP_S, SilentCar
from vehicle_agent.bus import BusConfig, Frame
from vehicle_agent.parking import monitor as monitor_module
from vehicle_agent.parking.gate import Gate
from vehicle_agent.parking.monitor import ParkMonitor
from vehicle_agent.parking.park_config import ConditionConfig, Expression, ParkConfig
from vehicle_agent.parking.signals import FrameConfig
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refused

BUSES = {BUS: BusConfig("fake", "x"), "adas": BusConfig("fake", "y")}


class FakePort:
    """Stands where a CAN port stands; the test plays the bus."""

    opened: list[FakePort]
    failures: int

    @classmethod
    def open(cls, config, *, receive, on_frame, transmit=(), on_error=None):
        if cls.failures:
            cls.failures -= 1
            raise Refused(Code.BUS_UNAVAILABLE, "no such bus")
        port = cls()
        port.config, port.receive, port.on_frame = config, frozenset(receive), on_frame
        port.on_error, port.closed = on_error, False
        cls.opened.append(port)
        return port

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def fake_port(monkeypatch):
    FakePort.opened, FakePort.failures = [], 0
    monkeypatch.setattr(monitor_module, "CanPort", FakePort)


def play(story):
    """Run the coroutine function `story(car, drive)` in a loop with a jumping clock."""

    async def main():
        loop = asyncio.get_running_loop()
        car = SilentCar(PROJECT, PROJECT_PARKED)

        async def drive(seconds, without=()):
            for _ in range(round(seconds / STEP_S)):
                await asyncio.sleep(STEP_S)
                for name in car.names:
                    if name not in without:
                        FakePort.opened[-1].on_frame(car.frame(name), loop.time())

        await story(car, drive)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())


def test_only_the_wanted_ids_of_the_wanted_bus_are_opened():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        assert [port.config for port in FakePort.opened] == [BUSES[BUS]]
        assert FakePort.opened[0].receive == Gate(PROJECT).needs()[BUS]
        monitor.close()
        assert FakePort.opened[0].closed

    play(story)


def test_waiting_for_a_parked_car_ends_when_all_conditions_have_held():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        waiting = asyncio.create_task(monitor.parked())
        await drive(1.5)
        assert not waiting.done()
        await drive(1.0)
        assert (await waiting).is_parked
        assert (await monitor.parked()).is_parked
        monitor.close()

    play(story)


@pytest.mark.requirement("C4")
def test_the_guard_is_called_from_within_the_unsafe_frame():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        lost = []
        monitor.guard(lost.append)
        monitor.guard(lost.append)()  # ended again at once
        car.set("ESP_Speed.ESP_VehicleSpeed", 3)
        unsafe = car.frame("ESP_Speed")
        assert lost == []
        FakePort.opened[0].on_frame(unsafe, asyncio.get_running_loop().time())
        assert [v.parked for v in lost] == [Ternary.FALSE]
        assert "ESP_VehicleSpeed 3 km/h" in lost[0].reasons()
        await drive(3.0)
        assert len(lost) == 1
        monitor.close()

    play(story)


@pytest.mark.requirement("C3")
def test_the_guard_is_called_by_the_timer_when_a_frame_stays_away():
    async def story(car, drive):
        loop = asyncio.get_running_loop()
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        last = loop.time()
        lost = []
        monitor.guard(lambda verdict: lost.append((loop.time(), verdict)))
        await asyncio.sleep(5.0)
        [(at, verdict)] = lost
        assert at == pytest.approx(last + 0.1, abs=1e-6)
        assert verdict.parked is Ternary.UNKNOWN
        monitor.close()

    play(story)


def test_a_late_timer_does_not_let_a_new_frame_forgive_what_was_stale():
    async def story(car, drive):
        loop = asyncio.get_running_loop()
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        lost = []
        monitor.guard(lost.append)
        for name in car.names:  # the loop was busy: 5 s of bus in one turn
            FakePort.opened[0].on_frame(car.frame(name), loop.time() + 5.0)
        assert len(lost) == 1
        monitor.close()

    play(story)


def test_a_guard_on_a_car_that_is_not_parked_is_called_at_once():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        lost = []
        monitor.guard(lost.append)
        assert len(lost) == 1
        monitor.close()

    play(story)


def test_a_guard_that_fails_does_not_keep_the_next_from_being_called():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        lost = []
        monitor.guard(lambda verdict: 1 / 0)
        monitor.guard(lost.append)
        car.set("DU_Motion.DU_Gear", "D")
        FakePort.opened[0].on_frame(car.frame("DU_Motion"), asyncio.get_running_loop().time())
        assert len(lost) == 1
        monitor.close()

    play(story)


def test_changes_are_told_once_each():
    async def story(car, drive):
        told = []
        monitor = ParkMonitor.open(PROJECT, BUSES, lambda verdict: told.append(verdict.parked))
        await drive(3.0)
        car.set("DU_Motion.DU_Gear", "D")
        await drive(1.0)
        car.set("DU_Motion.DU_Gear", "P")
        await drive(3.0)
        assert [v for v in told if v is not Ternary.UNKNOWN] == [
            Ternary.TRUE,
            Ternary.FALSE,
            Ternary.TRUE,
        ]
        assert all(a is not b for a, b in pairwise(told))
        monitor.close()

    play(story)


def test_a_bus_that_went_away_is_opened_again_and_the_car_is_not_parked_meanwhile():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        FakePort.failures = 2
        FakePort.opened[0].on_error(Refused(Code.BUS_UNAVAILABLE, "unplugged"))
        assert FakePort.opened[0].closed
        await asyncio.sleep(3.5)
        assert not monitor.verdict().is_parked
        assert len(FakePort.opened) == 2
        await drive(2.5)
        assert monitor.verdict().is_parked
        monitor.close()

    play(story)


def test_a_bus_that_is_not_configured_is_refused():
    async def story(car, drive):
        with pytest.raises(Refused, match="'vehicle' is not configured; known: adas"):
            ParkMonitor.open(PROJECT, {"adas": BUSES["adas"]})

    play(story)


def test_a_bus_that_cannot_be_opened_is_refused():
    async def story(car, drive):
        FakePort.failures = 1
        with pytest.raises(Refused, match="no such bus"):
            ParkMonitor.open(PROJECT, BUSES)

    play(story)


def test_a_closed_monitor_wakes_nobody_and_ends_the_waiting():
    async def story(car, drive):
        monitor = ParkMonitor.open(PROJECT, BUSES)
        waiting = asyncio.create_task(monitor.parked())
        await drive(2.5 - STEP_S)
        lost = []
        await waiting
        monitor.guard(lost.append)
        monitor.close()
        await asyncio.sleep(5.0)
        assert lost == []

    play(story)


def test_the_staleness_timer_is_not_moved_by_every_frame(monkeypatch):
    async def story(car, drive):
        loop = asyncio.get_running_loop()
        monitor = ParkMonitor.open(PROJECT, BUSES)
        await drive(2.5)
        timers, call_at = [], loop.call_at
        monkeypatch.setattr(
            loop,
            "call_at",
            lambda when, *rest, **named: timers.append(when) or call_at(when, *rest, **named),
        )
        await drive(1.0)
        sleeps = 20
        assert len(timers) - sleeps <= 3 * sleeps  # for nine frames in each
        monitor.close()

    play(story)


def test_an_unprotected_frame_after_a_gap_does_not_forgive_the_gap(tmp_path):
    (tmp_path / "ab.dbc").write_text(
        'VERSION ""\nBU_: X\nBO_ 1 A: 1 X\n SG_ S : 0|8@1+ (1,0) [0|1] "" X\n'
        'BO_ 2 B: 1 X\n SG_ S : 0|8@1+ (1,0) [0|1] "" X\n'
    )
    plain = FrameConfig(protection="none", timeout_s=1.0)
    both = tuple(Expression(signal=f"{name}.S", equals=1) for name in "AB")
    config = ParkConfig(
        bus=BUS,
        dbc=(str(tmp_path / "ab.dbc"),),
        frames={"A": plain, "B": msgspec.structs.replace(plain, timeout_s=60.0)},
        conditions=(ConditionConfig(name="it", agree=both),),
    )

    async def story(car, drive):
        now = asyncio.get_running_loop().time()
        gate = Gate(config)
        gate._missing = ()
        monitor = ParkMonitor(gate, BUSES, None)
        monitor._open(BUS)
        receive = FakePort.opened[0].on_frame
        receive(Frame(1, b"\x01"), now)
        receive(Frame(2, b"\x01"), now)
        lost = []
        monitor.guard(lost.append)
        receive(Frame(1, b"\x01"), now + 1.5)
        assert [verdict.parked for verdict in lost] == [Ternary.UNKNOWN]
        monitor.close()

    play(story)
