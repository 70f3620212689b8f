"""A server that has nothing or fails is asked again, less and less often, without end or hurry."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.unit.life_bench import Bench, FakeDownloader, a_notice, in_virtual_time
from vehicle_agent.refusals import Code
from vehicle_agent.update import State

TIMES = 14


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("code", [Code.IMAGE_SERVER_UNAVAILABLE, Code.SLOW_RETRIEVAL])
def test_attempts_double_their_distance_up_to_five_minutes_and_end_in_the_image(
    tmp_path, monkeypatch, code
):
    async def main():
        bench = Bench(tmp_path)
        await bench.open()
        bench.refuse_image = [code] * TIMES
        tried = []
        real = FakeDownloader.image

        async def image(*arguments):
            tried.append(asyncio.get_running_loop().time())
            return await real(*arguments)

        monkeypatch.setattr(FakeDownloader, "image", image)
        await bench.start()
        await bench.life.receive(a_notice())
        await bench.until(State.READY)
        await bench.kill()
        return tried[: TIMES + 1]

    tried = in_virtual_time(main())
    waits = [after - before - 0.1 for before, after in pairwise(tried)]
    assert len(waits) == TIMES
    for number, wait in enumerate(waits):
        longest = min(2.0**number, 300.0)
        assert longest / 2 - 0.01 <= wait <= longest + 0.01
