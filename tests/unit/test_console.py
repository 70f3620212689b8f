"""The console: each command answers a person and a program; anything else is refused in a line."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle_agent.console.client import ask, ask_status
from vehicle_agent.console.commands import COMMANDS, UnknownCommand, execute
from vehicle_agent.console.server import serve
from vehicle_agent.console.status import (
    ConditionStatus,
    ProgressStatus,
    RefusalStatus,
    Status,
)
from vehicle_agent.refusals import Code, Refused

STATUS = Status(
    vin="LNBXMA700RB000123",
    state="installing",
    broker_connected=True,
    trusted_time=None,
    outbox=2,
    parked="false",
    drive_inhibited=True,
    conditions=(
        ConditionStatus(name="gear", value="false", reading="D", wanted="P", reason="is D"),
        ConditionStatus(name="brake", value="true", reading="0", wanted="0", reason=""),
    ),
    version="2.4.0",
    component="adas-controller",
    recall="S2025M0149I",
    refusal=RefusalStatus(code="ParkLost", detail="gear is D", lifted_by="a parked car"),
    progress=ProgressStatus(phase="program", done=512, total=1024, bytes_per_s=179_600.0),
)


class FixedAgent:
    async def status(self) -> Status:
        return STATUS


async def test_status_tells_a_person_state_recall_progress_and_what_is_needed() -> None:
    text = await execute(FixedAgent(), "status")
    for word in ("installing", "S2025M0149I", "50 %", "179.6 kB/s", "ParkLost", "a parked car"):
        assert word in text


async def test_park_shows_what_a_condition_still_needs_and_nothing_for_a_true_one() -> None:
    _, gear, brake = (await execute(FixedAgent(), "park")).splitlines()
    assert gear.split() == ["false", "gear", "D", "P"]
    assert brake.split() == ["true", "brake", "0"]


async def test_help_lists_every_command() -> None:
    assert set(json.loads(await execute(FixedAgent(), "@json help"))) == set(COMMANDS)


@given(st.text())
def test_any_other_line_is_unknown(line: str) -> None:
    if line.removeprefix("@json ").strip() in COMMANDS:
        return
    with pytest.raises(UnknownCommand):
        asyncio.run(execute(FixedAgent(), line))


async def test_the_socket_answers_its_group_only_and_survives_junk(tmp_path: Path) -> None:
    path = tmp_path / "console.sock"
    async with await serve(FixedAgent(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        junk = await asyncio.to_thread(ask, path, "\x00reboot")
        assert junk.startswith("error: no command")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\xff\xfe\n" + b"x" * 10_000 + b"\n")
        assert b"UTF-8" in await reader.readline()
        assert await asyncio.to_thread(ask_status, path) == STATUS
        writer.close()


def test_no_agent_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        ask(tmp_path / "console.sock", "status")
    assert refused.value.refusal.code is Code.AGENT_UNREACHABLE
