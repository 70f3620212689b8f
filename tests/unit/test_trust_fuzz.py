"""A sample of the metadata fuzz target, and that the target can find something."""

import json
import random

import pytest

from tests.fuzz import fuzz_metadata
from vehicle_agent.refusals import Refused


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("seed", [1, 2])
def test_changed_metadata_is_refused_or_harmless(seed):
    assert fuzz_metadata.run(seed, 300) == (300, 0)


def test_fuzz_target_finds_a_verifier_that_checks_no_signatures(monkeypatch, capsys):
    monkeypatch.setattr(
        "vehicle_agent.trust.repository.verify", lambda parsed, delegator, role: ("anybody",)
    )
    unhandled = fuzz_metadata.run(3, 300)[1]
    assert unhandled > 0
    assert "seed 3" in capsys.readouterr().err


def test_changes_reach_every_file_of_both_repositories_and_are_repeatable():
    origin = fuzz_metadata.base()
    chance = random.Random(7)
    changes = [fuzz_metadata.change(origin.files, chance)[1] for _ in range(400)]
    for repository, files in origin.files.items():
        for name in files:
            assert any(what.startswith(f"{repository}/{name}: ") for what in changes)


def test_unchanged_files_reformatted_keep_their_meaning():
    origin = fuzz_metadata.base()
    spread = {
        repository: {
            name: json.dumps(json.loads(data), indent=2).encode() for name, data in files.items()
        }
        for repository, files in origin.files.items()
    }
    plain = {**origin.files, "director": spread["director"]}
    assert origin.verify(plain) == origin.meaning
    with pytest.raises(Refused):
        origin.verify({**origin.files, "image": spread["image"]})
