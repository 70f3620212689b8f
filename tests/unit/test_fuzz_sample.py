"""A sample of every fuzz target: no input ends in an exception that nobody has foreseen."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "fuzz"
TARGETS = sorted(path.stem for path in FOLDER.glob("fuzz_*.py"))


def test_there_are_targets():
    assert {"fuzz_messages", "fuzz_metadata", "fuzz_config", "fuzz_uds"} <= set(TARGETS)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("name", TARGETS)
def test_sample_is_handled(name):
    module = importlib.import_module(f"tests.fuzz.{name}")
    assert module.run(1, 200) == (200, 0)


def test_runner_counts_what_nobody_has_foreseen(capsys):
    from tests.fuzz.mutation import unhandled

    def fails():
        raise KeyError("here")

    assert unhandled("target: seed 1", fails, ValueError) == 1
    assert "target: seed 1" in capsys.readouterr().err
    assert unhandled("target: seed 1", fails, KeyError) == 0
