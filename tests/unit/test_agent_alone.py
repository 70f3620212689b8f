"""A head unit has the agent and its own libraries, nothing of the rig or of the tests."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"hil_rig", "e2e", "isotp", "amqtt", "pytest", "hypothesis"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import vehicle_agent
for module in pkgutil.walk_packages(vehicle_agent.__path__, "vehicle_agent."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_of_the_agent_is_there_without_the_rig() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "vehicle_agent.daemon" in done.stdout.split()


def test_what_a_head_unit_installs_is_the_agents_own_and_of_the_locked_versions() -> None:
    def versions(name: str) -> dict[str, str]:
        lines = (PROJECT / name).read_text().splitlines()
        pins = (line.split()[0].split("==") for line in lines if "==" in line)
        return dict(pins)

    agent, everything = versions("requirements-agent.lock"), versions("requirements.lock")
    assert agent.items() <= everything.items()
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for extra in ("rig", "dev"):
        for wanted in extras["optional-dependencies"][extra]:
            assert wanted.partition(">=")[0] not in agent or wanted.startswith("setuptools")
