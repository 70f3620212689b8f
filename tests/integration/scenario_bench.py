"""One bench for a family of scenarios, and what every clear refusal has in common."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.publish
import pytest
from paho.mqtt.client import MQTTv5, MQTTv311

from hil_rig.bench_files import Bench
from hil_rig.launch import POLL_S, Rig, RigTimeout
from vehicle_agent.console.status import Status

BUSES = {"wire": "wire", "vcan": "vcan0"}
LIMIT_S = 60.0


@contextmanager
def running_rig(folder: Path, *, broker: Any = None, **options: Any) -> Iterator[Rig]:
    """Run a bench with a small image and hurried parts, on the bus that the run was asked for.

    Its daemon must still be the same process at the end: nothing that a family of scenarios sends
    may end or restart it (`Rig.agent` restarted by the test itself aside).
    """
    bus = BUSES[os.environ.get("HIL_RIG_BUS", "wire")]
    quick = {"bus": bus, "image_size": 1 << 15, "pace": 6.0, "reset_s": 0.2, "erase_s": 0.002}
    with Rig(Bench(**{**quick, **options}), folder / "bench", broker=broker) as rig:
        yield rig
        assert rig.agent.exit_code is None, f"the daemon ended: {rig.agent.log}"


def family(**options: Any) -> Callable[..., Iterator[Rig]]:
    """Make a module's fixture `rig`: one bench for all its scenarios, `options` as for `Bench`."""

    @pytest.fixture(scope="module", name="rig")
    def one_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
        with running_rig(tmp_path_factory.mktemp("family"), **options) as rig:
            yield rig

    return one_bench


def reports(rig: Rig, topic: str = "desiredstatefeedback") -> list[dict[str, Any]]:
    """Every envelope that the backend has received on one topic, in order of arrival."""
    found = rig.tell("backend", "reports", report=topic)["reports"][topic]
    return list(found)


def told(rig: Rig, activity: str, *, limit_s: float = LIMIT_S, **wanted: Any) -> dict[str, Any]:
    """Wait until the backend has feedback for `activity` with these payload fields; returns it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        mine = [r["payload"] for r in reports(rig) if r["activityId"] == activity]
        for payload in mine:
            if all(payload.get(name) == value for name, value in wanted.items()):
                return dict(payload)
        time.sleep(POLL_S)
    raise RigTimeout(f"no feedback {wanted} for {activity!r}; there is {mine}")


def codes(rig: Rig, activity: str) -> list[str]:
    """The refusal codes that the backend was told for `activity`, in order."""
    mine = [r["payload"] for r in reports(rig) if r["activityId"] == activity]
    return [payload["code"] for payload in mine if "code" in payload]


def audit(rig: Rig) -> list[dict[str, Any]]:
    """Every entry of the daemon's audit chain."""
    path = rig.folder / "state" / "journal.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT entry FROM audit ORDER BY seq").fetchall()
    return [json.loads(entry) for (entry,) in rows]


def untouched(rig: Rig) -> None:
    """Assert that not one byte of the controller's flash was erased or written."""
    state = rig.tell("controller", "state")
    assert (state["writes"], state["erases"], state["programs"]) == (0, 0, 0)


def update_refused(rig: Rig, activity: str, state: str, code: str) -> Status:
    """Wait until the update stands refused: in the status and in what the backend was told."""
    status = rig.wait(
        lambda s: (
            s.activity_id == activity
            and s.state == state
            and s.refusal is not None
            and s.refusal.code == code
        ),
        f"{state} with {code} for {activity}",
        limit_s=LIMIT_S,
    )
    assert status.refusal is not None
    assert status.refusal.detail
    assert status.refusal.lifted_by
    payload = told(rig, activity, code=code)
    assert code in payload["message"]
    return status


def message_refused(rig: Rig, code: str) -> Status:
    """Wait until the status shows this code for the last message that became no update."""
    return rig.wait(
        lambda s: s.message_refused is not None and s.message_refused.code == code,
        f"a message refused with {code}",
        limit_s=LIMIT_S,
    )


def update_in(rig: Rig, activity: str, *states: str) -> Status:
    """Wait until the update of `activity` is in one of `states`."""
    return rig.wait(
        lambda s: s.activity_id == activity and s.state in states,
        f"{' or '.join(states)} for {activity}",
        limit_s=LIMIT_S,
    )


def question_shown(rig: Rig, activity: str) -> None:
    """Wait until the driver's display shows the question of `activity`."""

    def shown(_: Status) -> bool:
        showing = rig.tell("hmi", "state")["showing"]
        return showing is not None and showing["activityId"] == activity

    rig.wait(shown, f"the question of {activity} on the display", limit_s=LIMIT_S)


def publish(rig: Rig, topic: str, message: Mapping[str, Any] | bytes) -> None:
    """Publish on one of the car's topics as anybody could who reaches the broker."""
    assert rig.broker is not None
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    paho.mqtt.publish.single(
        f"vehicles/{rig.bench.vin}/adasupdate/{topic}",
        payload,
        qos=1,
        hostname="127.0.0.1",
        port=rig.broker.port,
        protocol=MQTTv5 if rig.broker.version == 5 else MQTTv311,
    )
