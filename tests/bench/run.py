"""`make bench`: every group of figures, one after the other. GROUPS="trust flash" picks some."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("trust", "park", "flash", "agent")


def main() -> int:
    """Measure, print and write; 1 if a group broke off."""
    sys.path.insert(0, str(ROOT))
    figures = importlib.import_module("tests.bench.figures").Figures()
    console = Console(width=None if sys.stdout.isatty() else 170)
    broken = 0
    begin = time.monotonic()
    for group in os.environ.get("GROUPS", " ".join(GROUPS)).split():
        console.print(f"-- {group} ({time.monotonic() - begin:.0f} s)")
        try:
            importlib.import_module(f"tests.bench.{group}_figures").measure(figures)
        except Exception:  # one group that fails must not cost the figures of the others
            console.print_exception()
            broken += 1
    figures.show(console)
    figures.write(ROOT / "build" / "bench.json")
    console.print(f"{time.monotonic() - begin:.0f} s; build/bench.json")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
