"""How a long-running part of the backend starts, says that it is ready, and ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


class ConfigError(Exception):
    """A configuration that cannot be used; the message is one line."""


def read_config(path: Path, kind: type[_T]) -> _T:
    """Read a TOML file as `kind`. Raises ConfigError naming file, key and what is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def run(part: Callable[[asyncio.Event], Awaitable[None]], name: str) -> int:
    """Run `part(ended)` until SIGTERM or SIGINT sets `ended`; 1 if it cannot start."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(message)s"
    )

    async def main() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await part(ended)

    try:
        asyncio.run(main())
    except (ConfigError, OSError, ValueError) as error:
        sys.stderr.write(f"hil-rig {name}: {error}\n")
        return 1
    return 0


def say_ready() -> None:
    """Tell whoever started this process that it serves now."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
