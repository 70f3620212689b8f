"""`make fuzz`: every target in turn until the time is up. MINUTES (default 1), SEED (0), TARGETS.

Each turn of a target has a seed of its own, counted up from SEED * 1,000,000, which its findings
name. Ends with one JSON line a target and a total; exit 1 if anything was unhandled.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TURN_S = 2.0

Target = Callable[[int, int], tuple[int, int]]


def main() -> int:
    """Go round the targets; a turn lasts about two seconds."""
    sys.path.insert(0, str(ROOT))
    targets = load()
    end = time.monotonic() + 60 * float(os.environ.get("MINUTES", "1"))
    seed = int(os.environ.get("SEED", "0")) * 1_000_000
    counts = dict.fromkeys(targets, 20)
    inputs, unhandled = dict.fromkeys(targets, 0), dict.fromkeys(targets, 0)
    while time.monotonic() < end:
        for name, target in targets.items():
            begin = time.monotonic()
            tried, bad = target(seed, counts[name])
            inputs[name] += tried
            unhandled[name] += bad
            took = max(time.monotonic() - begin, 0.001)
            turn = min(_TURN_S, max(end - time.monotonic(), 0.1))
            counts[name] = max(20, min(int(counts[name] * turn / took), counts[name] * 10))
        seed += 1
    for name in targets:
        sys.stdout.write(_line(name, inputs[name], unhandled[name]))
    sys.stdout.write(_line("total", sum(inputs.values()), sum(unhandled.values())))
    return int(sum(unhandled.values()) > 0)


def load() -> dict[str, Target]:
    """The targets by name: `run(seed, count) -> (inputs, unhandled)` of every fuzz_*.py.

    TARGETS names some of them, with spaces between; all if it is not set.
    """
    names = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))
    if chosen := os.environ.get("TARGETS", "").split():
        names = [f"fuzz_{name}" for name in chosen]
    return {
        name.removeprefix("fuzz_"): importlib.import_module(f"tests.fuzz.{name}").run
        for name in names
    }


def _line(name: str, inputs: int, unhandled: int) -> str:
    return json.dumps({"target": name, "inputs": inputs, "unhandled": unhandled}) + "\n"


if __name__ == "__main__":
    sys.exit(main())
