"""The outbox: told in order, forgotten only when acknowledged, patient without a broker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.unit.life_bench import in_virtual_time
from vehicle_agent.journal import Journal, Outgoing
from vehicle_agent.outbox import tell


class Broker:
    def __init__(self, *, refuses=0):
        self.connected = asyncio.Event()
        self.taken: list[int] = []
        self.tries = 0
        self.refuses = refuses

    async def publish(self, _topic: str, body: bytes) -> None:
        self.tries += 1
        await asyncio.sleep(0.01)
        if self.refuses:
            self.refuses -= 1
            raise ConnectionError("no")
        self.taken.append(json.loads(body)["n"])


async def put(journal: Journal, *numbers: int) -> None:
    await journal.record(None, outgoing=[Outgoing("t", {"n": number}) for number in numbers])


def test_messages_are_told_in_order_over_refusals_and_none_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        journal, broker, more = (
            await Journal.open(tmp_path / "j"),
            Broker(refuses=3),
            asyncio.Event(),
        )
        broker.connected.set()
        await put(journal, *range(50))
        task = asyncio.ensure_future(tell(journal, broker, more))
        await asyncio.sleep(10)
        assert broker.taken == list(range(50))
        await put(journal, 50)
        more.set()
        await asyncio.sleep(1)
        assert broker.taken == list(range(51))
        assert await journal.waiting() == 0
        assert broker.tries == 51 + 3
        task.cancel()
        await journal.close()

    in_virtual_time(main())


def test_without_a_broker_nothing_is_tried_and_nothing_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        journal, broker, more = await Journal.open(tmp_path / "j"), Broker(), asyncio.Event()
        await put(journal, 1)
        reads = 0
        outbox = journal.outbox

        async def counted():
            nonlocal reads
            reads += 1
            return await outbox()

        journal.outbox = counted
        task = asyncio.ensure_future(tell(journal, broker, more))
        await asyncio.sleep(86_400)
        assert (broker.tries, reads) == (0, 0)
        broker.connected.set()
        await asyncio.sleep(1)
        assert broker.taken == [1]
        task.cancel()
        await journal.close()

    in_virtual_time(main())


def test_a_message_told_but_not_yet_forgotten_is_told_again_with_the_same_id(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        journal, broker, more = await Journal.open(tmp_path / "j"), Broker(), asyncio.Event()
        broker.connected.set()
        await put(journal, 7)
        dead = asyncio.Event()

        async def forget(_seq: int) -> None:
            dead.set()
            await asyncio.sleep(1000)

        told, journal.told = journal.told, forget
        task = asyncio.ensure_future(tell(journal, broker, more))
        await dead.wait()
        task.cancel()
        journal.told = told
        task = asyncio.ensure_future(tell(journal, broker, asyncio.Event()))
        await asyncio.sleep(1)
        assert broker.taken == [7, 7]
        assert await journal.waiting() == 0
        task.cancel()
        await journal.close()

    in_virtual_time(main())
