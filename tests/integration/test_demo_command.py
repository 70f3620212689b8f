"""`hil-rig demo` as a program: what it prints, how it ends, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "hil_rig", "demo"]
QUICK = ["--size", "16384"]


def environment(tmp_path: Path) -> dict[str, str]:
    """Everything temporary goes to one place, so that a test can see what is left of it."""
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo in a session of its own."""
    process = subprocess.Popen(
        [*DEMO, *QUICK],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def in_session(session: int) -> list[str]:
    """Command lines of the processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.requirement("B1")
def test_the_demo_ends_with_the_new_version_read_back(tmp_path: Path) -> None:
    svg = tmp_path / "demo.svg"
    run = subprocess.run(
        [*DEMO, *QUICK, "--svg", str(svg)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    out = run.stdout
    assert "2.3.1 → 2.4.0 as read back" in out
    assert "2.4.0 in bank B, confirmed" in out
    assert "signature verified by the backend: yes" in out
    assert "duplicates 0" in out
    assert (
        out.index("update    ready") < out.index("update    approved") < out.index("car       park")
    )
    assert all(line.isprintable() for line in out.splitlines())
    assert svg.read_text().startswith("<svg")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_killed_agent_is_started_again_and_completes(tmp_path: Path) -> None:
    run = subprocess.run(
        [*DEMO, *QUICK, "--kill-agent-at", "ready"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "the agent is killed (SIGKILL)" in run.stdout


@pytest.mark.parametrize("until", ["starting", "update    noticed"])
def test_ctrl_c_leaves_nothing_running(
    demo: subprocess.Popen[str], until: str, tmp_path: Path
) -> None:
    assert demo.stdout is not None
    assert any(until in line for line in demo.stdout)
    os.kill(demo.pid, signal.SIGINT)
    demo.stdout.read()
    assert demo.wait(60) == 130
    assert in_session(demo.pid) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--image", "/nowhere/fw.elf"], "/nowhere/fw.elf: No such file"),
        (["--folder", "full"], "is not empty"),
    ],
)
def test_what_cannot_begin_says_why_in_one_line(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    run = subprocess.run(
        [*DEMO, *arguments],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("hil-rig demo: ")
    assert why in line


def test_without_a_can_interface_vcan_says_what_to_do(tmp_path: Path) -> None:
    if Path("/sys/class/net/vcan0").exists():
        pytest.skip("vcan0 is here")
    run = subprocess.run(
        [*DEMO, "--bus", "vcan"], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "make demo BUS=vcan" in line


def test_a_part_that_does_not_start_is_named_with_its_log(tmp_path: Path) -> None:
    environ = {**environment(tmp_path), "PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'car' in sys.orig_argv: sys.exit('no car today')\n"
    )
    run = subprocess.run(
        [*DEMO, *QUICK, "--broker", "amqtt"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    assert "problem: car ended with 1: " in run.stdout
    assert "no car today" in run.stdout
    assert "car.log" in run.stdout
    (kept,) = (tmp_path / "tmp").glob("hil-rig-demo-*")
    assert (kept / "logs" / "car.log").exists()
