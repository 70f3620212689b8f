"""The daemon's start, to the import of its libraries alone, and what it takes while idle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hil_rig.bench_files import Bench
from hil_rig.launch import Rig
from tests.bench.figures import Figures

RUNS = 5
_IDLE_S = 4.0
_LIBRARIES = """
import sys
before = set(sys.modules)
import vehicle_agent.daemon
ours = [name for name in sys.modules if name not in before]
print(" ".join(name for name in ours if not name.startswith("vehicle_agent")))
"""
_IMPORT = """
import contextlib, importlib, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):  # aliases such as os.path's
        importlib.import_module(name)
"""


def measure(figures: Figures) -> None:
    """Start, memory and processor time of the real daemon on a silent bus."""
    python = [sys.executable, "-c"]
    listed = subprocess.run([*python, _LIBRARIES], capture_output=True, text=True, check=True)
    libraries = listed.stdout.split()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Rig(Bench(image_size=1 << 15), Path(folder) / "bench") as rig,
    ):
        for part in (rig.agent, rig.car, rig.controller, rig.hmi):
            part.stop()
        starts, imports, rss, cpu = [], [], [], []
        for _ in range(RUNS):
            begin = time.perf_counter()
            subprocess.run([*python, _IMPORT, *libraries], check=True)
            imports.append(time.perf_counter() - begin)
            with _running(rig.agent.command, rig.folder) as (pid, seconds):
                starts.append(seconds)
                time.sleep(1.0)  # connected, attested; what follows is idleness
                used = _cpu_s(pid)
                time.sleep(_IDLE_S)
                cpu.append((_cpu_s(pid) - used) / _IDLE_S * 100)
                rss.append(_rss_mib(pid))
    shown = (" ".join(f"{value:.2f}" for value in values) for values in (starts, imports))
    detail = "start to READY {} s, import of its libraries {} s".format(*shown)
    ratios = [start / least for start, least in zip(starts, imports, strict=True)]
    figures.add("agent.start_ratio", ratios, limit="<= 1.5", detail=detail)
    figures.add("agent.idle_rss_mib", rss, detail="resident, connected, silent bus")
    detail = f"of one core, over {_IDLE_S:.0f} s, silent bus, broker connected"
    figures.add("agent.idle_cpu_percent", cpu, limit="<= 0.5", detail=detail)


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[tuple[int, float]]:
    """The daemon from its start to READY=1, as systemd would hear it; pid and seconds."""
    with tempfile.TemporaryDirectory(prefix="notify-") as place:
        path = f"{place}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(path)
            listener.settimeout(60)
            begin = time.perf_counter()
            with (folder / "logs" / "bench-agent.log").open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "NOTIFY_SOCKET": path},
                )
            try:
                while b"READY=1" not in listener.recv(4096):
                    pass
                yield process.pid, time.perf_counter() - begin
            finally:
                process.terminate()
                process.wait(30)


def _cpu_s(pid: int) -> float:
    """Seconds on a processor, all threads: to the nanosecond, where ticks would show nothing."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")
