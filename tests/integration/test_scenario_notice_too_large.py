"""A notice of 10 MB: refused by name, or, where the protocol has a limit, never delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_rig.backend.broker import find_mosquitto
from tests.integration.scenario_bench import (
    message_refused,
    publish,
    running_rig,
    told,
    untouched,
    update_in,
)

pytestmark = pytest.mark.scenario

TEN_MB = 10 << 20


def huge(activity: str) -> bytes:
    return f'{{"activityId": "{activity}", "payload": {{}}}}'.encode().ljust(TEN_MB)


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_over_mqtt_3_it_is_refused_and_the_next_notice_taken(tmp_path: Path, broker: str) -> None:
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    version = (("version = 5", "version = 4"),) if broker == "mosquitto" else ()
    with running_rig(
        tmp_path, broker=broker, driving=False, consent="silence", agent_changes=version
    ) as rig:
        pid = rig.agent.pid
        publish(rig, "desiredstate", huge("too-large"))
        assert "NoticeTooLarge" in told(rig, "too-large", code="NoticeTooLarge")["message"]
        refusal = message_refused(rig, "NoticeTooLarge").message_refused
        assert refusal is not None
        assert "262144 bytes" in refusal.detail
        untouched(rig)
        update_in(rig, rig.notify(), "ready")
        assert rig.agent.pid == pid


def test_over_mqtt_5_the_broker_keeps_it_away(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed, and the embedded broker speaks MQTT 3.1.1 only")
    with running_rig(tmp_path, broker="mosquitto", driving=False, consent="silence") as rig:
        pid = rig.agent.pid
        publish(rig, "desiredstate", huge("too-large"))
        status = update_in(rig, rig.notify(), "ready")
        assert status.message_refused is None
        assert rig.agent.pid == pid
        untouched(rig)
