"""Configuration files: the agent's and the controller profile."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.fuzz.mutation import mutated, unhandled
from vehicle_agent.config import load_config
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.refusals import Refused

_ROOT = Path(__file__).resolve().parents[2]
_AGENT = (_ROOT / "docs" / "agent.toml").read_bytes()
_PROFILE = (_ROOT / "vehicle_agent" / "flashing" / "adas.toml").read_bytes()


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` changed files."""
    chance = random.Random(seed)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "file.toml"
        for number in range(count):
            load, base = ((load_config, _AGENT), (load_profile, _PROFILE))[number % 2]
            path.write_bytes(mutated(base, chance))
            what = f"fuzz_config: seed {seed}, input {number}"
            bad += unhandled(what, lambda load=load: load(path), Refused)
    return count, bad
