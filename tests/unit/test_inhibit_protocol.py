"""The drive inhibit as a protocol: what is asked, what counts as an answer, when it is lost."""

from __future__ import annotations

from pathlib import Path

import cantools
import e2e
import msgspec
import pytest

from vehicle_agent.bus import Frame
from vehicle_agent.parking.inhibit_protocol import (
    InhibitConfig,
    InhibitProtocol,
    RequestConfig,
    State,
    StatusConfig,
)
from vehicle_agent.refusals import Code, Refused

DBC = Path(__file__).parents[2] / "dbc" / "adas.dbc"
CONFIG = InhibitConfig(
    bus="vehicle",
    dbc=(str(DBC),),
    request=RequestConfig(
        message="OTA_DriveInhibit",
        inhibit={"OTA_InhibitRequest": "INHIBIT"},
        release={"OTA_InhibitRequest": "RELEASE"},
        reason_signal="OTA_InhibitReason",
    ),
    status=StatusConfig(message="DU_InhibitStatus", signal="DU_Inhibited", acknowledged="YES"),
)
DATABASE = cantools.database.load_file(DBC)


class Answers:
    """Status frames of a drive unit, protected by the library."""

    def __init__(self):
        self._count = 0

    def frame(self, state: str, *, good: bool = True) -> Frame:
        message = DATABASE.get_message_by_name("DU_InhibitStatus")
        values = {signal.name: 0 for signal in message.signals} | {"DU_Inhibited": state}
        data = bytearray(message.encode(values))
        data[1] = data[1] & 0xF0 | self._count % 15
        self._count += 1
        data_id = message.dbc.attributes["E2EDataId"].value
        e2e.p01.e2e_p01_protect(data, data_id, increment_counter=False)
        if not good:
            data[7] ^= 1
        return Frame(message.frame_id, bytes(data))


def held() -> tuple[InhibitProtocol, Answers]:
    protocol, answers = InhibitProtocol(CONFIG), Answers()
    protocol.receive(answers.frame("NO"), 0.0)
    protocol.acquire("UPDATE", 0.0)
    protocol.receive(answers.frame("YES"), 0.05)
    assert protocol.state is State.HELD
    return protocol, answers


def decode(frame: Frame) -> dict[str, str]:
    return {k: str(v) for k, v in DATABASE.decode_message(frame.arbitration_id, frame.data).items()}


@pytest.mark.parametrize("reason", ["UPDATE", "RECOVERY"])
def test_each_request_is_counted_and_protected(reason):
    protocol = InhibitProtocol(CONFIG)
    assert not protocol.sending
    protocol.acquire(reason, 0.0)
    message = DATABASE.get_message_by_name("OTA_DriveInhibit")
    for count in range(40):
        frame = protocol.next_frame()
        said = decode(frame)
        assert (said["OTA_InhibitRequest"], said["OTA_InhibitReason"]) == ("INHIBIT", reason)
        assert int(said["OTA_DriveInhibit_CNT"]) == count % 15
        data_id = message.dbc.attributes["E2EDataId"].value
        assert e2e.p01.e2e_p01_check(bytearray(frame.data), data_id)


@pytest.mark.parametrize(
    ("answer", "good", "expected"),
    [
        ("YES", True, State.HELD),
        ("YES", False, State.REQUESTING),
        ("NO", True, State.REQUESTING),
        ("REFUSED", True, State.REQUESTING),
        ("NOT_AVAILABLE", True, State.REQUESTING),
    ],
)
def test_only_a_protected_yes_is_an_acknowledgement(answer, good, expected):
    protocol, answers = InhibitProtocol(CONFIG), Answers()
    protocol.receive(answers.frame("NO"), 0.0)
    protocol.acquire("UPDATE", 0.0)
    protocol.receive(answers.frame(answer, good=good), 0.05)
    assert protocol.state is expected


def test_a_yes_of_before_the_request_does_not_count():
    protocol, answers = InhibitProtocol(CONFIG), Answers()
    protocol.receive(answers.frame("YES"), 0.0)
    protocol.receive(answers.frame("YES"), 0.05)
    protocol.acquire("UPDATE", 0.05)
    protocol.elapse(0.06)
    protocol.receive(answers.frame("YES", good=False), 0.1)
    assert protocol.state is State.REQUESTING
    protocol.receive(answers.frame("YES"), 0.15)
    assert protocol.state is State.HELD


@pytest.mark.parametrize("answer", ["NO", "REFUSED", None])
def test_no_acknowledgement_in_time_is_lost_with_a_reason(answer):
    protocol, answers = InhibitProtocol(CONFIG), Answers()
    protocol.acquire("UPDATE", 0.0)
    assert protocol.deadline() == 2.0
    for step in range(1, 40):
        if answer is not None:
            protocol.receive(answers.frame(answer), step * 0.05)
    assert protocol.state is State.REQUESTING
    protocol.elapse(2.0)
    assert protocol.state is State.LOST
    assert (answer or "no valid frame yet") in protocol.why


@pytest.mark.parametrize("answer", ["NO", "REFUSED", "NOT_AVAILABLE"])
@pytest.mark.requirement("D3")
def test_an_acknowledgement_that_is_taken_back_is_lost_at_once(answer):
    protocol, answers = held()
    protocol.receive(answers.frame(answer), 0.1)
    assert protocol.state is State.LOST
    assert protocol.sending  # the drive unit is asked on until somebody decides


@pytest.mark.requirement("D3")
def test_an_acknowledgement_that_goes_stale_is_lost():
    protocol, _ = held()
    assert protocol.deadline() == pytest.approx(0.05 + 5 * 0.05)
    protocol.elapse(protocol.deadline() - 1e-9)
    assert protocol.state is State.HELD
    protocol.elapse(protocol.deadline())
    assert protocol.state is State.LOST
    assert "stale" in protocol.why


def test_frames_that_do_not_count_do_not_keep_it_alive():
    protocol, answers = held()
    frozen = answers.frame("YES")
    for step in range(2, 12):
        protocol.receive(frozen, step * 0.05)
        protocol.receive(answers.frame("YES", good=False), step * 0.05)
        protocol.elapse(step * 0.05)
    assert protocol.state is State.LOST


def test_release_is_said_a_few_times_and_then_nothing():
    protocol, _ = held()
    protocol.next_frame()
    protocol.release()
    said = []
    while protocol.sending:
        said.append(decode(protocol.next_frame()))
    assert [s["OTA_InhibitRequest"] for s in said] == ["RELEASE"] * 5
    assert {s["OTA_InhibitReason"] for s in said} == {"NONE"}
    assert [int(s["OTA_DriveInhibit_CNT"]) for s in said] == [1, 2, 3, 4, 5]
    assert protocol.deadline() is None


def test_what_is_held_stays_held_when_it_is_asked_for_again():
    protocol, _ = held()
    protocol.acquire("RECOVERY", 0.1)
    assert protocol.state is State.HELD
    assert decode(protocol.next_frame())["OTA_InhibitReason"] == "RECOVERY"


def test_a_lost_inhibit_can_be_asked_for_anew():
    protocol, answers = held()
    protocol.receive(answers.frame("NO"), 0.1)
    protocol.acquire("RECOVERY", 0.2)
    protocol.receive(answers.frame("YES"), 0.25)
    assert protocol.state is State.HELD


def test_the_ids_are_those_of_the_database():
    protocol = InhibitProtocol(CONFIG)
    assert (protocol.receives, protocol.transmits) == ((0x314, False), (0x310, False))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cycle_s": 0.0}, "cycle_s"),
        ({"acknowledge_timeout_s": -1.0}, "acknowledge_timeout_s"),
        ({"release_frames": 0}, "release_frames"),
        (
            {"status": StatusConfig(message="DU_InhibitStatu", signal="x", acknowledged=1)},
            "near: DU_InhibitStatus",
        ),
        (
            {
                "status": StatusConfig(
                    message="DU_InhibitStatus", signal="DU_Inhibited", acknowledged="JA"
                )
            },
            "it has NOT_AVAILABLE, REFUSED, YES, NO",
        ),
        (
            {
                "status": StatusConfig(
                    message="DU_InhibitStatus",
                    signal="DU_Inhibited",
                    acknowledged="YES",
                    protection="none",
                )
            },
            "must be protected",
        ),
        (
            {"request": RequestConfig(message="OTA_DriveInhibit", inhibit={"X": 1}, release={})},
            "no signal 'X'",
        ),
    ],
)
def test_a_bad_configuration_is_refused(change, words):
    with pytest.raises(Refused, match=words) as caught:
        InhibitProtocol(msgspec.structs.replace(CONFIG, **change))
    assert caught.value.refusal.code is Code.CONFIG_INVALID


def test_an_unknown_reason_is_refused():
    with pytest.raises(Refused, match="it has RECOVERY, UPDATE, NONE"):
        InhibitProtocol(CONFIG).acquire("FUN", 0.0)
