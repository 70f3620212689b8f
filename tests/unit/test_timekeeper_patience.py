"""Trusted time: asked for at once, then patiently; a slow answer is not asked away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest

from tests.unit.life_bench import in_virtual_time
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.timekeeper import Timekeeper
from vehicle_agent.trust.trusted_time import Outcome

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A trusted clock that believes an answer to the last question only."""

    def __init__(self):
        self.asked = 0
        self.time: datetime | None = None

    system_clock_off = None

    def ask(self) -> str:
        self.asked += 1
        return str(self.asked)

    def accept(self, message: bytes) -> Outcome:
        if message.decode() != str(self.asked):
            raise Refused(Code.TIME_ATTESTATION_INVALID, "answers another nonce than ours")
        self.time = NOW
        return Outcome.ATTESTED

    def now(self):
        return self.time

    def require_now(self):
        if self.time is None:
            raise Refused(Code.NO_TRUSTED_TIME, "none")
        return self.time


class Server:
    """Broker and time server in one; answers after `delay_s`, or never."""

    def __init__(self, *, delay_s: float | None):
        self.connected = asyncio.Event()
        self.connected.set()
        self.delay_s = delay_s
        self.keeper: Timekeeper | None = None
        self.asked_at: list[float] = []
        self.answers: list[asyncio.Task] = []
        self.away = 0

    async def publish(self, _topic: str, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        if self.away:
            self.away -= 1
            raise ConnectionError("away")
        if self.delay_s is not None:
            self.answers.append(asyncio.ensure_future(self._answer(json.loads(body))))

    async def _answer(self, question: dict) -> None:
        await asyncio.sleep(self.delay_s)
        with contextlib.suppress(Refused):
            await self.keeper.accept(question["payload"]["nonce"].encode())


async def no_evidence(_off) -> None:
    raise AssertionError("the clocks agree")


def keeper_of(server: Server, clock: Clock) -> Timekeeper:
    server.keeper = Timekeeper(clock, server, no_evidence)
    return server.keeper


async def ask_for(seconds: float, server: Server, clock: Clock) -> None:
    task = asyncio.ensure_future(keeper_of(server, clock).run())
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()


def test_an_attested_clock_is_refreshed_every_hour() -> None:
    async def main() -> None:
        server, clock = Server(delay_s=0.5), Clock()
        await ask_for(3 * 3600 + 60, server, clock)
        assert clock.time == NOW
        assert len(server.asked_at) == 4

    in_virtual_time(main())


def test_a_silent_time_server_is_asked_ever_more_patiently() -> None:
    async def main() -> None:
        server, clock = Server(delay_s=None), Clock()
        await ask_for(86_400, server, clock)
        assert 86_400 / 20 < len(server.asked_at) < 86_400 / 20 + 10

    in_virtual_time(main())


def test_an_answer_slower_than_the_first_patience_is_believed_in_the_end() -> None:
    async def main() -> None:
        server, clock = Server(delay_s=15.0), Clock()
        await ask_for(600, server, clock)
        assert clock.time == NOW

    in_virtual_time(main())


def test_a_connection_lost_while_asking_is_no_end() -> None:
    async def main() -> None:
        server, clock = Server(delay_s=0.1), Clock()
        server.away = 3
        await ask_for(60, server, clock)
        assert clock.time == NOW
        assert len(server.asked_at) == 4

    in_virtual_time(main())


def test_who_needs_the_time_waits_for_a_first_attestation_but_not_for_ever() -> None:
    async def main() -> None:
        server, clock = Server(delay_s=3.0), Clock()
        keeper = keeper_of(server, clock)
        task = asyncio.ensure_future(keeper.run())
        assert await keeper.now() == NOW
        task.cancel()
        with pytest.raises(Refused) as caught:
            await Timekeeper(Clock(), server, no_evidence).now()
        assert caught.value.refusal.code is Code.NO_TRUSTED_TIME

    in_virtual_time(main())
