"""The timekeeper asks until it is answered, and tells of a system clock that is far off."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.attestation import TimeServer, time_key_statement
from tests.unit.flashing_bench import run
from tests.unit.time_world import NOON, TimeWorld
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.timekeeper import Timekeeper
from vehicle_agent.trust.trusted_time import Outcome


class Broker:
    """Takes questions; `answers` of the next ones come back, after that none does."""

    def __init__(self, car):
        self.car = car
        self.connected = asyncio.Event()
        self.connected.set()
        self.asked = []
        self.answers = 1_000_000
        self.loses = 0
        self.keeper = None

    async def publish(self, topic, payload):
        self.asked.append(asyncio.get_running_loop().time())
        if self.loses:
            self.loses -= 1
            raise ConnectionError("gone")
        if self.answers:
            self.answers -= 1
            nonce = json.loads(payload)["payload"]["nonce"]
            self.car.loop_time = self.asked[-1]
            self.task = asyncio.create_task(self.keeper.accept(self.car.answer(nonce)))


async def start(car):
    broker, evidence = Broker(car), []

    async def note(off):
        evidence.append(off)

    car.clock._loop_time = asyncio.get_running_loop().time
    car.clock._started = car.clock._started._replace(since=0.0)
    broker.keeper = Timekeeper(car.clock, broker, note)
    return broker, broker.keeper, evidence


async def running(keeper, seconds):
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait({task})


@pytest.fixture
def car(tmp_path, monkeypatch):
    async def inline(work, *arguments):
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", inline)
    return TimeWorld(tmp_path)


def test_it_asks_at_once_and_then_every_hour(car):
    async def scenario():
        broker, keeper, _ = await start(car)
        await running(keeper, 2 * 3600 + 1)
        return broker.asked

    assert run(scenario()) == [0.0, 3600.0, 7200.0]


def test_it_asks_again_less_and_less_often_while_nobody_answers(car):
    async def scenario():
        broker, keeper, _ = await start(car)
        broker.answers = 0
        await running(keeper, 80)
        return broker.asked

    assert run(scenario()) == [0.0, 5.0, 15.0, 35.0, 55.0, 75.0]


def test_it_outlives_a_broker_that_is_lost(car):
    async def scenario():
        broker, keeper, _ = await start(car)
        broker.loses = 2
        await running(keeper, 11)
        return car.clock.now() is not None, broker.asked

    assert run(scenario()) == (True, [0.0, 5.0, 10.0])


def test_who_waits_for_time_gets_it_or_is_told(car):
    async def scenario():
        broker, keeper, _ = await start(car)
        broker.answers = 0
        with pytest.raises(Refused) as caught:
            await keeper.now()
        assert caught.value.refusal.code is Code.NO_TRUSTED_TIME
        waiting = asyncio.create_task(keeper.now())
        broker.answers = 1
        asking = asyncio.create_task(keeper.run())
        now = await waiting
        asking.cancel()
        return now

    assert run(scenario()) == NOON


def test_relayed_answer_is_the_same_call(car):
    async def scenario():
        _, keeper, _ = await start(car)
        outcome = await keeper.accept(car.answer(keeper.ask()))
        return outcome, await keeper.now()

    assert run(scenario()) == (Outcome.ATTESTED, NOON)


def test_new_key_is_asked_for_time_at_once(car):
    fresh = Ed25519PrivateKey.generate()

    async def scenario():
        broker, keeper, _ = await start(car)
        asking = asyncio.create_task(keeper.run())
        await asyncio.sleep(10)
        signers = car.image.signers["root"]
        named = time_key_statement(fresh.public_key(), 1, NOON, signers)
        car.server = TimeServer(fresh, lambda: car.server_time)
        await keeper.accept(json.dumps(named).encode())
        await asyncio.sleep(1)
        asking.cancel()
        return car.clock.now() is not None, broker.asked

    assert run(scenario()) == (True, [0.0, 10.0])


def test_system_clock_that_is_far_off_is_told_once_and_when_it_jumps(car):
    async def scenario():
        _, keeper, evidence = await start(car)
        for off in (timedelta(minutes=5), timedelta(days=-20_000), timedelta(days=-20_000)):
            car.system_time = NOON + off
            await keeper.accept(car.answer(keeper.ask()))
        car.system_time = NOON
        await keeper.accept(car.answer(keeper.ask()))
        return evidence

    assert run(scenario()) == [timedelta(days=-20_000), timedelta()]
