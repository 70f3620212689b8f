"""The console's commands: a line of text in, lines of text or one JSON object out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from vehicle_agent.console.status import Agent, RefusalStatus, Status

JSON_PREFIX = "@json "


class Command(NamedTuple):
    """One command: what `help` says of it, and how it is carried out and shown."""

    summary: str
    run: Callable[[Agent], Awaitable[object]]
    show: Callable[[object], str]


class UnknownCommand(Exception):
    """A line that is no command; the message says which there are."""


async def execute(agent: Agent, line: str) -> str:
    """Carry out one line and return its answer, without a final line break.

    A line that begins with `@json ` is answered by one JSON object on one line. Raises
    `UnknownCommand` for anything that `help` does not list.
    """
    as_json = line.startswith(JSON_PREFIX)
    name = line.removeprefix(JSON_PREFIX).strip()
    command = COMMANDS.get(name)
    if command is None:
        raise UnknownCommand(f"no command {name[:40]!r}; one of {', '.join(COMMANDS)}")
    answer = await command.run(agent)
    return msgspec.json.encode(answer).decode() if as_json else command.show(answer)


async def _status(agent: Agent) -> Status:
    return await agent.status()


async def _help(_agent: Agent) -> dict[str, str]:
    return {name: command.summary for name, command in COMMANDS.items()}


def _show_help(answer: object) -> str:
    rows = msgspec.convert(answer, dict[str, str])
    return "\n".join(f"{name:<10}{summary}" for name, summary in rows.items())


def show_status(answer: object) -> str:
    """Lay a `Status` out for a terminal of 80 columns."""
    status = msgspec.convert(answer, Status, from_attributes=True)
    rows = [
        ("vehicle", status.vin),
        ("state", status.state),
        ("recall", status.recall),
        ("update", status.activity_id),
        ("target", status.version and f"{status.component} {status.version}"),
        ("software before", status.software_before),
        ("software after", status.software_after),
        ("progress", _show_progress(status)),
        ("refused", status.refusal and f"{status.refusal.code}: {status.refusal.detail}"),
        ("needed", status.refusal and status.refusal.lifted_by),
        ("message refused", _show_refused(status.message_refused)),
        ("parked", status.parked),
        ("drive inhibit", "held" if status.drive_inhibited else "not held"),
        ("broker", "connected" if status.broker_connected else "not connected"),
        ("trusted time", status.trusted_time or "none yet"),
        ("waiting reports", str(status.outbox)),
    ]
    return "\n".join(f"{name:<16}{value}" for name, value in rows if value)


def _show_refused(refusal: RefusalStatus | None) -> str | None:
    if refusal is None:
        return None
    return f"{refusal.code}: {refusal.detail} (needed: {refusal.lifted_by})"


def show_park(answer: object) -> str:
    """Lay the park conditions out, one a line, with what each still needs."""
    status = msgspec.convert(answer, Status, from_attributes=True)
    lines = [f"parked: {status.parked}"]
    lines += [
        f"  {c.value:<8}{c.name:<24}{c.reading:<20}{'' if c.value == 'true' else c.wanted}".rstrip()
        for c in status.conditions
    ]
    return "\n".join(lines)


def _show_progress(status: Status) -> str | None:
    progress = status.progress
    if progress is None:
        return None
    share = 100 * progress.done // max(progress.total, 1)
    return (
        f"{progress.phase} {share} % ({progress.done}/{progress.total} bytes, "
        f"{progress.bytes_per_s / 1000:.1f} kB/s)"
    )


COMMANDS = {
    "help": Command("what can be asked here", _help, _show_help),
    "status": Command("the current update", _status, show_status),
    "park": Command("the park conditions and what each needs", _status, show_park),
}
