"""ISO-TP frames: any bytes at any instant, while a message is sent and while none is."""

from __future__ import annotations

import random

from tests.fuzz.mutation import unhandled
from vehicle_agent.flashing.isotp import IsoTp
from vehicle_agent.flashing.profile import IsoTpParameters

_FRAMES = 20


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` frames, in conversations of 20."""
    chance = random.Random(seed)
    bad = 0
    for number in range(0, count, _FRAMES):
        what = f"fuzz_isotp: seed {seed}, input {number}"
        bad += unhandled(what, lambda: _converse(chance))
    return count, bad


def _converse(chance: random.Random) -> None:
    length = chance.choice((8, 64))
    limit = chance.choice((64, 4096))
    engine = IsoTp(IsoTpParameters(tx_data_length=length, max_length=limit))
    now = 0.0
    for _ in range(_FRAMES):
        now += chance.choice((0.0, 0.001, 0.5, 2.0))
        if not engine.sending and chance.random() < 0.3:
            engine.send(chance.randbytes(chance.randint(1, 200)))
        for _ in engine.frames(now, chance.randint(0, 8)):
            engine.confirmed(now)
        kind = chance.choice((0x00, 0x10, 0x20, 0x30, chance.randrange(256)))
        first = kind | chance.randrange(16) if kind < 0x40 else kind
        engine.received(bytes((first,)) + chance.randbytes(chance.randint(0, length - 1)), now)
        if chance.random() < 0.1:
            engine.received(b"", now)
        engine.expire(now)
        for event in engine.events():
            if len(getattr(event, "pdu", None) or b"") > limit:
                raise AssertionError(f"a message of more than {limit} bytes")
