"""The campaign desk's book: each message counts once, and each recall's cars add up."""

import pytest

from hil_rig.backend.campaign import S2025M0149I, S2025M0150I
from hil_rig.backend.ledger import Ledger

ONE, TWO, OTHER = "VIN1", "VIN2", "VIN3"


@pytest.fixture
def ledger():
    return Ledger({ONE: S2025M0149I, TWO: S2025M0149I, OTHER: S2025M0150I})


def _feedback(identity, status):
    return {"messageId": identity, "seq": 1, "payload": {"status": status, "actions": []}}


@pytest.mark.requirement("E8")
def test_recall_is_counted_by_its_number(ledger):
    for vin in (ONE, TWO, OTHER):
        ledger.notified(vin)
        ledger.take(
            vin, "ownerconsentfeedback", {"payload": {"challenge": vin, "status": "APPROVED"}}
        )
    ledger.take(ONE, "desiredstatefeedback", _feedback("a", "COMPLETED"))
    ledger.take(TWO, "desiredstatefeedback", _feedback("b", "INCOMPLETE"))
    assert ledger.counts() == {
        "S2025M0149I": {
            "affected": 98_462,
            "open": 98_461,
            "notified": 2,
            "consented": 2,
            "declined": 0,
            "completed": 1,
            "failed": 1,
        },
        "S2025M0150I": {
            "affected": 18_425,
            "open": 18_425,
            "notified": 1,
            "consented": 1,
            "declined": 0,
            "completed": 0,
            "failed": 0,
        },
    }


@pytest.mark.requirement("D6")
def test_message_that_comes_twice_is_entered_once(ledger):
    assert ledger.take(ONE, "incident", {"messageId": "m", "payload": {}})
    assert not ledger.take(ONE, "incident", {"messageId": "m", "payload": {}})
    assert len(ledger.cars[ONE].reports["incident"]) == 1
    assert ledger.duplicates == 1


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    "status", ["IDENTIFICATION_FAILED", "INCOMPLETE", "INCOMPLETE_INCONSISTENT"]
)
def test_failed_remedy_leaves_the_recall_open_until_a_later_one_completes(ledger, status):
    ledger.take(ONE, "desiredstatefeedback", _feedback("a", status))
    assert ledger.cars[ONE].failed
    ledger.take(ONE, "desiredstatefeedback", _feedback("b", "COMPLETED"))
    assert not ledger.cars[ONE].failed
    assert ledger.counts()["S2025M0149I"]["completed"] == 1


@pytest.mark.requirement("E8")
def test_car_whose_turn_has_not_come_is_not_counted_as_failed(ledger):
    ledger.notified(ONE)
    not_yet = _feedback("a", "IDENTIFICATION_FAILED")
    not_yet["payload"]["code"] = "NoUpdate"
    ledger.take(ONE, "desiredstatefeedback", not_yet)
    assert ledger.counts()["S2025M0149I"]["failed"] == 0
    ledger.take(ONE, "desiredstatefeedback", _feedback("b", "INCOMPLETE"))
    assert ledger.counts()["S2025M0149I"]["failed"] == 1


def test_owner_who_declines_is_not_counted_as_a_failed_remedy(ledger):
    said = {"payload": {"challenge": "c", "status": "DENIED"}}
    ledger.take(ONE, "ownerconsentfeedback", said)
    ledger.take(ONE, "desiredstatefeedback", _feedback("a", "INCOMPLETE"))
    row = ledger.counts()["S2025M0149I"]
    assert (row["declined"], row["failed"], row["open"]) == (1, 0, 98_462)


def test_refusal_of_the_owner_is_no_consent(ledger):
    for number, status in enumerate(("DENIED", "POSTPONED")):
        payload = {"challenge": str(number), "status": status}
        ledger.take(ONE, "ownerconsentfeedback", {"payload": payload})
    assert not ledger.cars[ONE].consented


def test_car_unknown_here_is_not_counted(ledger):
    assert not ledger.take("VIN9", "incident", {"messageId": "m", "payload": {}})
    assert "VIN9" not in ledger.cars
