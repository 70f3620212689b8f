"""Imports run one way, as docs/contracts.md, section 1, says; .importlinter holds the contracts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [*LINT, "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project under the same contracts, all its modules empty."""
    for module in (
        "vehicle_agent/__init__.py",
        "vehicle_agent/refusals.py",
        "vehicle_agent/release.py",
        "vehicle_agent/journal.py",
        "vehicle_agent/parking/__init__.py",
        "vehicle_agent/flashing/__init__.py",
        "hil_rig/__init__.py",
        "hil_rig/launch.py",
        "hil_rig/demo.py",
        "hil_rig/control.py",
        "hil_rig/controller/__init__.py",
    ):
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).touch()
    shutil.copyfile(ROOT / ".importlinter", tmp_path / ".importlinter")
    return tmp_path


def test_imports_run_one_way() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "imported", "broken"),
    [
        ("vehicle_agent/refusals.py", "vehicle_agent.release", "built in layers"),
        ("vehicle_agent/parking/x.py", "vehicle_agent.flashing", "do not import each other"),
        ("vehicle_agent/journal.py", "hil_rig.control", "knows nothing of the rig"),
        ("hil_rig/controller/x.py", "vehicle_agent.release", "knows nothing of the agent"),
        ("hil_rig/demo.py", "vehicle_agent.release", "knows nothing of the agent"),
        ("vehicle_agent/unheard_of.py", "json", "unheard_of"),
    ],
    ids=[
        "upwards",
        "between rooms",
        "agent to rig",
        "rig to agent",
        "demo to agent",
        "module without a layer",
    ],
)
def test_a_wrong_import_breaks_a_contract(
    tree: Path, module: str, imported: str, broken: str
) -> None:
    (tree / module).write_text(f"import {imported}\n")
    result = lint(tree)
    assert result.returncode == 1, result.stdout
    assert broken in " ".join(result.stdout.split())


def test_launch_may_speak_to_the_agent(tree: Path) -> None:
    (tree / "hil_rig" / "launch.py").write_text("import vehicle_agent.release\n")
    result = lint(tree)
    assert result.returncode == 0, result.stdout
