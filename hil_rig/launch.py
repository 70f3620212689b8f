"""A whole car on the desk: every part as a process of its own, in one folder.

    with Rig(Bench(), folder) as rig:
        rig.notify()
        rig.wait_for_state("completed")

Of `vehicle_agent` this knows only the program `vehicle-agent` and its console's answers.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from hil_rig.backend.broker import Broker
from hil_rig.bench_files import Bench, write_agent, write_bench
from hil_rig.control import call
from hil_rig.part import Part, PartFailed, rig_part
from vehicle_agent.console.client import ask_status
from vehicle_agent.console.status import Status
from vehicle_agent.refusals import Refused

POLL_S = 0.05


class RigTimeout(Exception):
    """What was waited for did not come; the message says what was there instead."""


class Rig:
    """The parts of one bench. Use as a context manager; leaving it stops everything."""

    def __init__(
        self, bench: Bench, folder: Path, *, broker: Literal["mosquitto", "amqtt"] | None = None
    ) -> None:
        """Only remembers; entering the context starts the parts. `broker`: what is there."""
        self.bench = bench
        self.folder = folder.resolve()
        self._broker_kind = broker
        self.broker: Broker | None = None
        self.wire: Part | None = None
        self.controller = rig_part("controller", self.folder, "--config", "controller.toml")
        self.car = rig_part("car", self.folder, "--config", "car.toml")
        self.backend = rig_part("backend", self.folder, "--config", "backend.toml")
        self.hmi = rig_part("hmi", self.folder, "--config", "hmi.toml")
        self.agent = Part(
            "agent",
            [*_agent_program(), "run", "--config", "agent.toml"],
            self.folder,
            says_ready=False,
        )
        if bench.bus == "wire":
            rates = ["--bitrate", str(bench.bitrate), "--data-bitrate", str(bench.data_bitrate)]
            self.wire = rig_part("wire", self.folder, "--socket", str(bench.hub), "--fd", *rates)

    def __enter__(self) -> Rig:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all parts, the agent last. Raises `PartFailed`, `BrokerFailed`."""
        self.broker = Broker.start(self.folder / "broker", kind=self._broker_kind)
        mqtt = {"mqtt_port": self.broker.port, "mqtt_version": self.broker.version}
        write_bench(self.bench, self.folder, **mqtt)
        if self.wire is not None:
            self.wire.spawn()
        self.backend.spawn()
        if self.wire is not None:
            self.wire.wait_ready()
        self.controller.spawn()
        self.car.spawn()
        self.backend.wait_ready()
        self.hmi.spawn()
        write_agent(self.bench, self.folder, **mqtt)
        self.agent.start()
        for part in (self.controller, self.car, self.hmi):
            part.wait_ready()
        self.wait(lambda status: status.broker_connected, "a broker connection")

    def stop(self) -> None:
        """Stop all parts, the agent first, and remove the sockets."""
        for part in self.parts:
            part.stop()
        if self.broker is not None:
            self.broker.stop()
        shutil.rmtree(self.bench.sockets, ignore_errors=True)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part but the broker, in the order in which they are stopped."""
        wire = () if self.wire is None else (self.wire,)
        return (self.agent, self.hmi, self.backend, self.car, self.controller, *wire)

    def tell(self, part: str, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a control request to car, controller, backend or hmi. Raises `ControlError`."""
        return call(self.bench.control(part), do, **arguments)

    def notify(self, **arguments: Any) -> str:
        """Let the campaign desk send a notice; returns its activity id."""
        return str(self.tell("backend", "notice", **arguments).get("activity_id", ""))

    def status(self) -> Status | None:
        """Return the agent's status, or None if nobody answers."""
        try:
            return ask_status(self.bench.control("agent"))
        except Refused:
            return None

    def wait(self, wanted: Callable[[Status], bool], what: str, *, limit_s: float = 60.0) -> Status:
        """Wait until the agent's status is as `wanted`. Raises `RigTimeout`, `PartFailed`."""
        deadline, status = time.monotonic() + limit_s, None
        while time.monotonic() < deadline:
            status = self.status()
            if status is not None and wanted(status):
                return status
            if self.agent.exit_code is not None:
                raise PartFailed(f"agent ended with {self.agent.exit_code}: {self.agent.log}")
            time.sleep(POLL_S)
        raise RigTimeout(f"no {what} after {limit_s:.0f} s; last: {_in_short(status)}")

    def wait_for_state(self, *states: str, limit_s: float = 60.0) -> Status:
        """Wait until the update is in one of `states`."""
        named: Container[str] = states
        return self.wait(lambda status: status.state in named, " or ".join(states), limit_s=limit_s)


def _agent_program() -> list[str]:
    """`vehicle-agent` as it is installed beside this interpreter."""
    program = Path(sys.executable).with_name("vehicle-agent")
    return [str(program)] if program.exists() else [sys.executable, "-m", "vehicle_agent"]


def _in_short(status: Status | None) -> str:
    if status is None:
        return "no answer from the agent"
    refusal = f", {status.refusal.code}: {status.refusal.detail}" if status.refusal else ""
    waiting = "; ".join(c.name for c in status.conditions if c.value != "true")
    return f"state {status.state}{refusal}, parked {status.parked} ({waiting or 'all true'})"
