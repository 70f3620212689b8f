"""One part of the rig as a process of its own: started, waited for, stopped, or killed."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

START_LIMIT_S = 60.0


class PartFailed(Exception):
    """A part did not become ready, or ended by itself; the message names its log."""


class Part:
    """A process that prints a line beginning with `ready` on stdout when it serves."""

    def __init__(
        self, name: str, command: list[str], folder: Path, *, says_ready: bool = True
    ) -> None:
        """Only remembers; `log` is where the process's stderr goes (appended)."""
        self.name = name
        self.command = command
        self.log = folder / "logs" / f"{name}.log"
        self._folder = folder
        self._says_ready = says_ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last run, None while it runs or before."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start the process and return at once; `wait_ready` follows."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._says_ready else log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait_ready(self) -> None:
        """Wait for the line `ready`. Raises `PartFailed`."""
        process = self._process
        if process is None or process.stdout is None:
            raise PartFailed(f"{self.name} was not started")
        deadline, said = time.monotonic() + START_LIMIT_S, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in said:
                if not selector.select(deadline - time.monotonic()):
                    self.kill()
                    raise PartFailed(
                        f"{self.name} is not ready after {START_LIMIT_S:.0f} s: {self.last_words()}"
                    )
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise PartFailed(
                        f"{self.name} ended with {process.wait()}: {self.last_words()}"
                    )
                said += piece
        if not said.startswith(b"ready"):
            self.kill()
            raise PartFailed(f"{self.name} said {said[:60]!r} instead of ready: {self.log}")

    def start(self) -> None:
        """Start and wait until it serves. Raises `PartFailed`."""
        self.spawn()
        if self._says_ready:
            self.wait_ready()

    def stop(self, limit_s: float = 20.0) -> int | None:
        """End the process with SIGTERM, after `limit_s` seconds with SIGKILL; its exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._end()

    def kill(self) -> None:
        """End the process with SIGKILL, as a loss of power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._end()

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.stdout is not None:
            process.stdout.close()
        return process.returncode

    def last_words(self) -> str:
        """Last line of its log, and where that is."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no word'} ({self.log})"


def rig_part(name: str, folder: Path, *arguments: str) -> Part:
    """Return the part `hil-rig NAME ARGUMENTS…`, run by this interpreter."""
    return Part(name, [sys.executable, "-m", "hil_rig", name, *arguments], folder)
