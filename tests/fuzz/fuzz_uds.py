"""UDS responses: a controller that answers anything at any point of a whole programming."""

from __future__ import annotations

import random

from tests.fuzz.mutation import mutated, unhandled
from tests.unit.flashing_bench import START, MemoryTransport, MiniServer, profile
from tests.unit.flashing_bench import run as run_in_virtual_time
from vehicle_agent.flashing.images import Image, Segment
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.refusals import Refused
from vehicle_agent.release import MemoryCheck

_PROFILE = profile()
_IMAGE = Image((Segment(START, bytes(range(64))),))


class _Key:
    def key(self, seed: bytes, level: int) -> bytes:
        return seed[:16]


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` conversations, each with answers changed, lost, doubled or out of the blue."""
    chance = random.Random(seed)
    bad = 0
    for number in range(count):
        what = f"fuzz_uds: seed {seed}, input {number}"
        bad += unhandled(what, lambda: run_in_virtual_time(_program(chance)), Refused)
    return count, bad


async def _program(chance: random.Random) -> None:
    server = MiniServer(block_length=b"\x20\x00\x12")
    share = chance.choice((0.02, 0.1, 0.5))
    busy = False

    def twist(pdu: bytes) -> list[bytes] | None:
        nonlocal busy
        if busy or chance.random() > share:
            return None
        busy = True
        good = server.answer(pdu)
        busy = False
        kind = chance.randrange(5)
        if kind == 0:
            return []
        if kind == 1:
            return [bytes((0x7F, pdu[0], chance.randrange(256)))]
        if kind == 2:
            return [mutated(each, chance) for each in good]
        if kind == 3:
            return [chance.randbytes(chance.randint(0, 8)), *good]
        return good * 2

    server.twist = twist
    transport = MemoryTransport(server)
    programmer = Programmer(transport, _PROFILE, _Key())
    try:
        await programmer.identify()
        await programmer.program(
            _IMAGE,
            fingerprint=bytes(11),
            memory_check=MemoryCheck(routine=0x0202, expected="00" * 33),
            on_progress=lambda _: None,
            start_gate=lambda: None,
        )
        await programmer.activate()
        await programmer.health()
    finally:
        await programmer.close()
