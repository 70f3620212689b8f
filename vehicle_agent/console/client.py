"""Ask the running agent something over its Unix socket."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from vehicle_agent.console.commands import JSON_PREFIX
from vehicle_agent.console.status import Status
from vehicle_agent.refusals import Code, Refused


def ask(path: Path, command: str, *, timeout: float = 5.0) -> str:
    """Return the answer to one command line, without its final empty line.

    Raises `Refused(AGENT_UNREACHABLE)` if nobody answers at `path` within `timeout` seconds.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout)
            link.connect(str(path))
            link.sendall(command.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n\n"):
                piece = link.recv(1 << 16)
                if not piece:
                    raise ConnectionError("closed before the answer was whole")
                answer += piece
    except OSError as error:
        raise Refused(Code.AGENT_UNREACHABLE, f"{path}: {error}") from error
    return answer.decode().rstrip("\n")


def ask_status(path: Path) -> Status:
    """Return the agent's status. Raises as `ask` does."""
    return msgspec.json.decode(ask(path, f"{JSON_PREFIX}status"), type=Status)
