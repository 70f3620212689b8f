"""Targets of several blocks: the tar, its index and its blocks, damaged in every way."""

from __future__ import annotations

import random

from hil_rig.container import Block, make_container
from tests.fuzz.mutation import mutated, unhandled
from vehicle_agent.flashing.container import is_container, parse
from vehicle_agent.refusals import Refused


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` changed containers."""
    chance = random.Random(seed)
    boot = Block("boot", 0x0800_0000, chance.randbytes(300))
    bases = [
        make_container([boot]),
        make_container([boot, Block("app", 0x0801_0000, chance.randbytes(700), ("boot",))]),
    ]
    bad = 0
    for number in range(count):
        content = mutated(bases[number % len(bases)], chance)
        what = f"fuzz_containers: seed {seed}, input {number}"
        bad += unhandled(
            what, lambda content=content: (is_container(content), parse(content)), Refused
        )
    return count, bad
