"""An MQTT broker of the rig's own: mosquitto where it is installed, else the embedded amqtt.

`python -m hil_rig.backend.broker PORT` is the embedded one. Either way the broker is a process of
its own on 127.0.0.1, so that it can be taken away and brought back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

_START_LIMIT_S = 15.0


class BrokerFailed(Exception):
    """The broker did not start; the message says where its log is."""


def find_mosquitto() -> str | None:
    """Path of the mosquitto program, or None. Debian keeps it where users' PATH does not look."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Broker:
    """A broker process; `port` and `version` (5 or 4, for MQTT 3.1.1) are for its clients."""

    def __init__(self, folder: Path, port: int, kind: Literal["mosquitto", "amqtt"]) -> None:
        self.folder = folder
        self.port = port
        self.kind = kind
        self.version = 5 if kind == "mosquitto" else 4
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls, folder: Path, port: int = 0, *, kind: Literal["mosquitto", "amqtt"] | None = None
    ) -> Broker:
        """Start a broker that keeps its state and log in `folder`; port 0 takes a free one.

        `kind` defaults to mosquitto if it is installed. Raises BrokerFailed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        chosen = kind or ("mosquitto" if find_mosquitto() else "amqtt")
        broker = cls(folder, port or _free_port(), chosen)
        broker.restart()
        return broker

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def restart(self) -> None:
        """Stop if running and start on the same port. amqtt forgets its sessions, mosquitto not."""
        self.stop()
        self._need_free_port()
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        self._wait_until_it_accepts(self._process)

    def stop(self) -> None:
        """End the process; nothing happens if it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _command(self) -> list[str]:
        if self.kind == "amqtt":
            return [sys.executable, "-m", "hil_rig.backend.broker", str(self.port)]
        program = find_mosquitto()
        if program is None:
            raise BrokerFailed("mosquitto is not installed; kind='amqtt' needs no program")
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            "allow_anonymous true\n"
            f"user {pwd.getpwuid(os.getuid()).pw_name}\n"
            "persistence true\n"
            f"persistence_location {self.folder.resolve()}/\n"
            "autosave_interval 1\n"
            "max_inflight_messages 20\n"
            "max_queued_messages 10000\n"
            "log_dest stderr\n"
            "log_type error\nlog_type warning\nlog_type notice\n"
        )
        return [program, "-c", str(config)]

    def _need_free_port(self) -> None:
        """Another broker on our port would pass for ours."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise BrokerFailed(f"port {self.port} is taken: {error}") from error

    def _wait_until_it_accepts(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise BrokerFailed(
            f"{self.kind} does not accept on port {self.port}; see {self.folder / 'broker.log'}"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve_embedded(port: int) -> None:
    from amqtt.broker import Broker as Embedded  # noqa: PLC0415 - an extra, of the rig only

    settings: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"hil_rig.backend.embedded_access.Everyone": {}},
    }
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    embedded = Embedded(settings)
    await embedded.start()
    await ended.wait()
    await embedded.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_serve_embedded(int(sys.argv[1])))
