"""A whole car for a test: every part a process, on the bus that the run was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hil_rig.bench_files import Bench
from hil_rig.launch import Rig

BUSES = {"wire": "wire", "vcan": "vcan0"}

StartRig = Callable[..., Rig]


@pytest.fixture
def start_rig(tmp_path: Path) -> Iterator[StartRig]:
    """Start a bench with a small image and hurried manoeuvres; everything ends with the test.

    Keyword arguments are those of `Bench`, and `broker` ("mosquitto" or "amqtt"). The bus is the
    one of HIL_RIG_BUS: the software wire, or vcan0.
    """
    bus = BUSES[os.environ.get("HIL_RIG_BUS", "wire")]
    with ExitStack() as running:

        def start(*, broker: Any = None, **options: Any) -> Rig:
            quick = {"image_size": 1 << 16, "pace": 6.0, "reset_s": 0.3, "erase_s": 0.005}
            bench = Bench(**{"bus": bus, **quick, **options})
            return running.enter_context(Rig(bench, tmp_path / "bench", broker=broker))

        yield start


@pytest.fixture
def rig(start_rig: StartRig) -> Rig:
    """The default bench: a driving car that is in the recall, a driver who agrees."""
    return start_rig()
