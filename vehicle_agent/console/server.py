"""The local door: a Unix socket (mode 0660) that answers one line with lines and an empty line."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from vehicle_agent.console.commands import UnknownCommand, execute
from vehicle_agent.console.status import Agent
from vehicle_agent.refusals import Code, Refused

LINE_LIMIT = 4096


class ConsoleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table `[console]`: where the socket stands (default: `console.sock` in the state folder)."""

    socket: str = ""


async def serve(agent: Agent, path: Path) -> asyncio.AbstractServer:
    """Open the socket at `path` and answer until the returned server is closed.

    Raises `Refused(CONFIG_INVALID)` if the socket cannot be made there.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(f"{await _answer(agent, line)}\n\n".encode())
                await writer.drain()
        writer.close()

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(converse, path, limit=LINE_LIMIT)
        path.chmod(0o660)
    except OSError as error:
        raise Refused(
            Code.CONFIG_INVALID, f"[console] socket = {str(path)!r}: {error.strerror}"
        ) from error
    return server


async def _answer(agent: Agent, line: bytes) -> str:
    try:
        return await execute(agent, line.decode("utf-8").strip())
    except UnicodeDecodeError:
        return "error: a command is UTF-8 text"
    except UnknownCommand as unknown:
        return f"error: {unknown}"
