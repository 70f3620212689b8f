"""The campaign desk: what it enters, what it leaves, and what it knows after a restart."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.attestation import TimeServer
from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.consent_answer import Policy, answer
from hil_rig.backend.desk import Desk
from hil_rig.backend.ledger import Ledger
from hil_rig.backend.mqtt_link import MqttConfig

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VIN = "LXMA7000MBEV00001"
HMI = Ed25519PrivateKey.from_private_bytes(bytes(32))
QUESTION = {
    "activityId": "a1",
    "manifestSha256": "aa" * 32,
    "textsSha256": "bb" * 32,
    "challenge": "cc" * 16,
}


@pytest.fixture
def start(tmp_path):
    async def start():
        return Desk(
            MqttConfig(),
            Ledger({VIN: S2025M0149I}),
            folder=tmp_path,
            time_server=TimeServer(HMI, lambda: NOW),
            hmis={VIN: HMI.public_key()},
            clock=lambda: NOW,
        )

    return start


def _send(desk, report, payload, vin=VIN, **more):
    message = {"activityId": "a1", "timestamp": 1, "payload": payload} | more
    desk.receive(f"vehicles/{vin}/adasupdate/{report}", json.dumps(message).encode())


def _consent(policy):
    return answer(QUESTION, policy, key=HMI, locale="en", now=NOW, randomness=bytes)


@pytest.mark.requirement("D6")
async def test_desk_started_anew_knows_every_report_and_notice(start):
    desk = await start()
    desk.notify(VIN, {})
    _send(desk, "desiredstatefeedback", {"status": "COMPLETED"}, messageId="m1")
    again = await start()
    assert again.ledger.counts() == desk.ledger.counts()
    assert again.ledger.counts()["S2025M0149I"]["completed"] == 1
    _send(again, "desiredstatefeedback", {"status": "COMPLETED"}, messageId="m1")
    assert again.ledger.duplicates == 1


@pytest.mark.requirement("E5")
async def test_line_torn_by_a_power_failure_is_left_out_and_entered_when_sent_again(
    start, tmp_path
):
    desk = await start()
    _send(desk, "incident", {"number": 1}, messageId="m1")
    _send(desk, "incident", {"number": 2}, messageId="m2")
    book = tmp_path / "reports.jsonl"
    book.write_bytes(book.read_bytes()[:-20])
    desk = await start()
    _send(desk, "incident", {"number": 2}, messageId="m2")
    _send(desk, "incident", {"number": 3}, messageId="m3")
    entered = (await start()).ledger.cars[VIN].reports["incident"]
    assert [report["payload"]["number"] for report in entered] == [1, 2, 3]


@pytest.mark.requirement("D2")
async def test_only_answers_signed_by_the_display_count_as_consent(start):
    desk = await start()
    _send(desk, "ownerconsentfeedback", _consent(Policy.FORGED_KEY))
    assert not desk.ledger.cars[VIN].consented
    _send(desk, "ownerconsentfeedback", _consent(Policy.APPROVE))
    assert desk.ledger.cars[VIN].consented


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"null", b"{}", b'{"payload": 1}', b'{"messageId": [], "payload": {}}'],
)
@pytest.mark.parametrize("topic", ["desiredstatefeedback", "ownerconsentfeedback", "time/get"])
async def test_message_that_is_no_report_is_left(start, tmp_path, topic, payload):
    desk = await start()
    desk.receive(f"vehicles/{VIN}/adasupdate/{topic}", payload)
    assert not any(desk.ledger.cars[VIN].reports.values())
    assert not (tmp_path / "reports.jsonl").exists()


async def test_message_of_a_stranger_is_left(start):
    desk = await start()
    _send(desk, "incident", {}, vin="OTHER", messageId="m1")
    assert list(desk.ledger.cars) == [VIN]
