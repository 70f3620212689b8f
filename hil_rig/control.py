"""How a running part of the rig is told things: one JSON object a line over a Unix socket.

Every part (car, controller, backend, HMI) opens one such socket. A request is an object with the
key `do`; the answer is `{"ok": true, ...}` or `{"ok": false, "error": "one line"}`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Handler = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_LINE_LIMIT = 1 << 20


class ControlError(Exception):
    """A part refused a request, or cannot be reached; the message is one line."""


async def serve(path: Path, handler: Handler) -> asyncio.AbstractServer:
    """Open the control socket at `path` (an old one is replaced) and answer with `handler`.

    `handler(do, request)` returns what is merged into the answer; it raises `ControlError`,
    `KeyError`, `TypeError` or `ValueError` for a request it cannot carry out.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(handler, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(converse, path, limit=_LINE_LIMIT)


async def _answer(handler: Handler, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise ControlError('a request is an object with a text "do"')
        return {"ok": True, **await handler(request["do"], request)}
    except (ControlError, KeyError, TypeError, ValueError) as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def call(path: Path, do: str, *, timeout: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Send one request to the part whose socket is `path` and return its answer.

    Raises `ControlError` if the part refuses or does not answer within `timeout` seconds.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout)
            link.connect(str(path))
            with link.makefile("rwb") as stream:
                stream.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
                stream.flush()
                line = stream.readline()
    except OSError as error:
        raise ControlError(f"{path}: {error}") from error
    answer = json.loads(line) if line else {"ok": False, "error": "closed without an answer"}
    if not answer.pop("ok"):
        raise ControlError(f"{path.name}: {answer['error']}")
    return dict(answer)
