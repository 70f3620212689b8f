"""Other people's programs: mosquitto_pub sends a notice, mosquitto_sub follows the feedback."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from hil_rig.backend.desk import desired_state
from hil_rig.launch import Rig
from tests.integration.scenario_bench import family, update_in

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(
        shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed"
    ),
]

bench = family(driving=False, consent="approve")


def test_mosquitto_pub_sends_a_notice_and_mosquitto_sub_follows_it_to_the_end(rig: Rig) -> None:
    assert rig.broker is not None
    info = rig.tell("backend", "info")
    topic = f"vehicles/{rig.bench.vin}/adasupdate"
    broker = ["-h", "127.0.0.1", "-p", str(rig.broker.port), "-q", "1"]
    notice = {
        "activityId": "by-hand",
        "timestamp": 1,
        "payload": desired_state(
            info["version"], info["cars"][rig.bench.vin]["director_url"], info["image_url"]
        ),
    }
    with subprocess.Popen(
        ["mosquitto_sub", *broker, "-t", f"{topic}/desiredstatefeedback", "-W", "100"],
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        subprocess.run(
            ["mosquitto_pub", *broker, "-t", f"{topic}/desiredstate", "-l"],
            input=json.dumps(notice) + "\n",
            text=True,
            check=True,
        )
        followed = []
        for line in follower.stdout:
            followed.append(json.loads(line))
            if followed[-1]["payload"]["status"] in {"COMPLETED", "INCOMPLETE"}:
                break
        follower.terminate()
    assert {message["activityId"] for message in followed} == {"by-hand"}
    assert [m["seq"] for m in followed] == sorted(m["seq"] for m in followed)
    assert followed[-1]["payload"]["status"] == "COMPLETED"
    assert update_in(rig, "by-hand", "completed").software_after == "2.4.0"
