"""What the command line answers, and with which exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.test_config_errors import GOOD
from vehicle_agent import cli, daemon
from vehicle_agent.refusals import Code, Refused


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    return str(path)


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "--log-level", "loud"], ["status", "x"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["doctor", "--help"]])
def test_help_and_version_are_0(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "status", "park", "doctor"])
def test_a_missing_configuration_is_1_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert cli.main([command, "--config", str(tmp_path / "none.toml")]) == 1
    said = capsys.readouterr()
    assert "ConfigInvalid" in said.err + said.out
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", [["status"], ["park", "--json"]])
def test_no_running_agent_is_1(
    config: str, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert cli.main([*command, "--config", config]) == 1
    assert "AgentUnreachable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ends", "code"),
    [(None, 0), (Refused(Code.BUS_UNAVAILABLE, "x"), 1), (KeyboardInterrupt(), 130)],
)
def test_the_daemons_end_is_the_exit_code(
    config: str, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None, code: int
) -> None:
    async def run(_config: object) -> None:
        await asyncio.sleep(0)
        if ends is not None:
            raise ends

    monkeypatch.setattr(daemon, "run", run)
    assert cli.main(["run", "--config", config]) == code


def test_a_running_daemons_refusal_among_its_parts_is_1_too(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_config: object) -> None:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(fails())

    async def fails() -> None:
        raise Refused(Code.JOURNAL_DAMAGED, "the disk is gone")

    monkeypatch.setattr(daemon, "run", run)
    assert cli.main(["run", "--config", config]) == 1
