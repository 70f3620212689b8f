"""The doctor says what it found as it stands, names every missing file, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.test_config_errors import GOOD
from vehicle_agent import doctor
from vehicle_agent.config import load_config
from vehicle_agent.doctor import Finding, Result


def test_square_brackets_of_the_configuration_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    doctor._print([Finding("[x]", Result.BAD, "no [/bus] here", "check [mqtt]")])
    shown = capsys.readouterr().out
    for words in ("[x]", "[/bus]", "[mqtt]"):
        assert words in shown


def test_every_missing_file_is_a_finding_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    findings = list(doctor._files(load_config(path)))
    bad = {finding.part for finding in findings if finding.result is Result.BAD}
    assert {"vehicle key", "time key", "HMI key", "image server CA", "director root"} <= bad
    assert {"image root", "profile"} <= bad
    assert all(finding.to_do for finding in findings if finding.result is Result.BAD)


def test_a_bad_configuration_is_the_only_finding_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(tmp_path / "none.toml", as_json=True) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["part"], finding["result"]) == ("configuration", "bad")


@pytest.mark.parametrize(
    ("results", "code"),
    [([Result.GOOD, Result.OPEN], 0), ([Result.GOOD, Result.BAD], 1), ([], 0)],
)
def test_only_a_bad_finding_makes_the_exit_1(
    monkeypatch: pytest.MonkeyPatch, results: list[Result], code: int
) -> None:
    async def examine(_path: Path) -> list[Finding]:
        return [Finding("part", result, "found") for result in results]

    monkeypatch.setattr(doctor, "examine", examine)
    assert doctor.main(Path("x"), as_json=False) == code


def test_somebody_else_at_the_console_socket_is_no_running_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vehicle_agent.console.client.ask", lambda *_: '{"vin": 5}')
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    assert doctor._running(load_config(path)) is None
