"""What every scenario of lost power has in common: ends, restarts, and the count of the reports."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import can
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from hil_rig.launch import POLL_S, Rig, RigTimeout
from vehicle_agent.console.status import Status

LIMIT_S = 90.0
PATIENCE_S = 1.0
MORTAL = Path(__file__).with_name("mortal_agent.py")


def _patient() -> tuple[tuple[str, str], ...]:
    """Changes of agent.toml: frames may be late by as much as a loaded host delays a process.

    What the usual five cycles do is shown elsewhere. Here a process that was not scheduled for
    0.1 s would be a car that is not parked, and the fifth such interruption ends an update.
    """
    park = 'condition_set = "project"\nbus = "vehicle"\n'
    fast = ("ESP_Speed", "DU_Motion", "BRK_Pedal", "EPB_Status", "BCM_Power")
    frames = "".join(f"[park.frames.{name}]\ntimeout_s = {PATIENCE_S}\n" for name in fast)
    status = 'acknowledged = "YES"\n'
    return (park, park + frames), (status, f"{status}timeout_s = {PATIENCE_S}\n")


def parked_car(start_rig: Callable[..., Rig], **options: Any) -> Rig:
    """Start a bench whose car stands parked; `options` as for `Bench`."""
    return start_rig(agent_changes=_patient(), **{"driving": False, **options})


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait until `true()` is, and return what it says."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(POLL_S)
    raise RigTimeout(f"no {what} after {LIMIT_S:.0f} s")


def controller(rig: Rig) -> dict[str, Any]:
    """The controller's own state."""
    return rig.tell("controller", "state")


def half_written(rig: Rig) -> bool:
    """Whether the controller is at the ninth of 17 blocks, which a fault lets take long."""
    state = controller(rig)
    return bool(state["programs"] == 8 and state["busy"])


def restart(rig: Rig, dies: str | None = None) -> None:
    """Start the daemon after its end; `dies`: the point at which it ends (`mortal_agent.py`)."""
    rig.agent.stop()
    immortal = rig.agent.command[-3:]
    assert immortal == ["run", "--config", "agent.toml"]
    mortal = [sys.executable, str(MORTAL), str(dies)]
    program = rig.agent.command[:-3] if len(rig.agent.command) == 4 else [_program()]
    rig.agent.command = [*(mortal if dies else program), *immortal]
    rig.agent.start()


def _program() -> str:
    return str(Path(sys.executable).with_name("vehicle-agent"))


def await_death(rig: Rig, point: str) -> None:
    """Wait until the daemon has ended at `point`."""
    until(lambda: rig.agent.exit_code is not None, f"end of the daemon {point}: {rig.agent.log}")
    assert rig.agent.exit_code == -9, f"{point}: ended by itself, see {rig.agent.log}"


def completed(rig: Rig) -> Status:
    """Wait for the end and assert that the new software was read back and runs for good."""
    ends = ("completed", "rolled_back", "failed", "rejected", "cancelled")
    done = rig.wait_for_state(*ends, limit_s=LIMIT_S)
    assert done.state == "completed", f"{done.state}: {done.refusal}"
    assert (done.software_before, done.software_after) == ("2.3.1", "2.4.0")
    after = controller(rig)
    assert (after["version"], after["trial"], after["selfTest"]) == ("2.4.0", False, True)
    return done


def listen(rig: Rig, *ids: int) -> can.BusABC:
    """Hear these frames on the bus, as any other controller would."""
    wire = rig.bench.bus == "wire"
    return can.Bus(
        interface="wire" if wire else "socketcan",
        channel=str(rig.bench.hub) if wire else rig.bench.bus,
        fd=True,
        can_filters=[{"can_id": each, "can_mask": 0x7FF, "extended": False} for each in ids],
    )


class Ear:
    """Hears every report on the broker, beside the backend."""

    def __init__(self, rig: Rig) -> None:
        assert rig.broker is not None
        self.heard: list[dict[str, Any]] = []
        self._topic = f"vehicles/{rig.bench.vin}/adasupdate/#"
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "ear")
        self._client.on_connect = lambda *_: self._client.subscribe(self._topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", rig.broker.port)
        self._client.loop_start()
        assert self._ready.wait(LIMIT_S)

    def _take(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        envelope = json.loads(message.payload)
        if "seq" in envelope:
            self.heard.append(envelope)

    def close(self) -> None:
        """Hear no more."""
        self._client.disconnect()
        self._client.loop_stop()


def entered(rig: Rig) -> list[int]:
    """The `seq` of every report in the backend's book."""
    reports = rig.tell("backend", "reports")["reports"]
    return [told["seq"] for name in reports for told in reports[name] if "seq" in told]


@contextmanager
def every_report_counted_once(rig: Rig) -> Iterator[Ear]:
    """Assert that what was told inside reached the backend whole, each message under one number.

    A message may be heard twice (QoS 1), with the same `messageId` and `seq`; none is missing, and
    the last state was entered exactly once.
    """
    ear = Ear(rig)
    try:
        yield ear
        rig.wait(lambda status: status.outbox == 0, "an empty outbox", limit_s=LIMIT_S)
        with sqlite3.connect(rig.folder / "state" / "journal.db") as journal:
            query = "SELECT value FROM counters WHERE name='seq'"
            (last,) = journal.execute(query).fetchone()
        every = set(range(1, last + 1))
        until(lambda: {told["seq"] for told in ear.heard} >= every, f"reports 1 to {last}")
        questions = {told["seq"] for told in ear.heard if "challenge" in told["payload"]}
        until(lambda: set(entered(rig)) >= every - questions, "reports in the backend's book")
    finally:
        ear.close()
    numbers = {(told["messageId"], told["seq"]) for told in ear.heard}
    assert len(numbers) == last, "a report under two numbers, or two under one"
    book = entered(rig)
    assert len(book) == len(set(book)), "a report was entered twice"
    reports = rig.tell("backend", "reports")["reports"]
    assert not reports["incident"], "power that was lost and came back is no incident"
    final = [told for told in reports["desiredstatefeedback"] if told["payload"].get("state")]
    ends = [told["payload"]["state"] for told in final].count("completed")
    assert ends == 1, f"completed was told {ends} times"
    (recall,) = rig.tell("backend", "state")["recalls"].values()
    assert (recall["completed"], recall["failed"]) == (1, 0)
