"""Targets of several blocks: the tar, its index and its blocks, damaged in every way."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hil_rig.container import Block, make_container
from tests.fuzz.mutation import mutated, unhandled
from vehicle_agent.flashing.images import load_image
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.refusals import Refused

_ROOT = Path(__file__).resolve().parents[2]


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` changed containers."""
    chance = random.Random(seed)
    profile = load_profile(_ROOT / "vehicle_agent" / "flashing" / "adas.toml")
    boot = Block("boot", 0x0800_0000, chance.randbytes(300))
    app = Block("app", 0x0801_0000, chance.randbytes(700), ("boot",))
    bases = [make_container([boot]), make_container([boot, app])]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "image"
        for number in range(count):
            path.write_bytes(mutated(bases[number % len(bases)], chance))
            what = f"fuzz_containers: seed {seed}, input {number}"
            bad += unhandled(what, lambda: load_image(path, profile), Refused)
    return count, bad
