"""can-utils see what the agent does on a real CAN: the gate's frames, and UDS as ISO-TP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import family, update_in

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(
        os.environ.get("HIL_RIG_BUS") != "vcan", reason="can-utils need a kernel's CAN (vcan0)"
    ),
    pytest.mark.skipif(shutil.which("candump") is None, reason="can-utils is not installed"),
]

bench = family(driving=False, consent="approve")


@contextmanager
def written(path: Path, *command: str) -> Iterator[None]:
    """Run a listening program while something happens; what it says goes to `path`."""
    with path.open("wb") as out, subprocess.Popen(command, stdout=out) as listener:
        try:
            yield
        finally:
            listener.terminate()


def test_candump_and_isotpdump_see_the_gate_and_the_reprogramming(rig: Rig, tmp_path: Path) -> None:
    frames, messages = tmp_path / "frames", tmp_path / "messages"
    with (
        written(frames, "stdbuf", "-oL", "candump", "-L", "vcan0"),
        written(messages, "stdbuf", "-oL", "isotpdump", "-s", "7A0", "-d", "7A8", "vcan0"),
    ):
        update_in(rig, rig.notify(), "completed")
    identifiers = set(re.findall(r" vcan0 ([0-9A-F]{3})#", frames.read_text()))
    assert {"0A0", "0A4", "0B0", "310", "314", "7A0", "7A8"} <= identifiers
    assert "7A0" in messages.read_text()


@pytest.mark.skipif(shutil.which("cangen") is None, reason="can-utils is not installed")
def test_strange_traffic_on_the_bus_disturbs_nothing(rig: Rig, tmp_path: Path) -> None:
    noise = ("cangen", "vcan0", "-g", "20", "-I", "6A0", "-L", "8", "-n", "200")
    pid = rig.agent.pid
    with written(tmp_path / "noise", *noise):
        rig.notify()
        rig.wait_for_state("failed", "completed")
    assert rig.agent.pid == pid
