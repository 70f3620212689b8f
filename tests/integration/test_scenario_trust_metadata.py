"""Releases that are not for this car, or not from whom they should be: refused before the erase.

The car stands parked and the driver agrees to everything, so that nothing but trust and campaign
stands between a wrong release and the controller.
"""

from __future__ import annotations

from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    codes,
    family,
    message_refused,
    reports,
    told,
    untouched,
    update_in,
    update_refused,
)

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="approve")

OTHER_VIN = "LNBXMA7R2RB999999"
LATER = {"ExpiredMetadata", "MetadataUnavailable"}
"""Refusals that another try may lift: the update stays noticed."""

METADATA = [
    ("director", "targets", "unsigned", "UnmetThreshold"),
    ("director", "targets", "unknown_key", "UnmetThreshold"),
    ("director", "targets", "bad_key_id", "UnmetThreshold"),
    ("director", "targets", "repeated_signature", "NonUniqueSignatures"),
    ("director", "targets", "expired", "ExpiredMetadata"),
    ("director", "targets", "older", "VersionMismatch"),
    ("director", "targets", "newer", "VersionMismatch"),
    ("director", "targets", "truncated", "MetadataMalformed"),
    ("director", "targets", "not_json", "MetadataMalformed"),
    ("director", "targets", "huge", "MetadataMalformed"),
    ("director", "targets", "missing", "MetadataUnavailable"),
    ("director", "snapshot", "unsigned", "UnmetThreshold"),
    ("director", "snapshot", "older", "VersionMismatch"),
    ("director", "timestamp", "unknown_key", "UnmetThreshold"),
    ("director", "timestamp", "expired", "ExpiredMetadata"),
    ("director", "timestamp", "older", "VersionMismatch"),
    ("image", "targets", "unsigned", "UnmetThreshold"),
    ("image", "targets", "unknown_key", "UnmetThreshold"),
    ("image", "targets", "expired", "ExpiredMetadata"),
    ("image", "targets", "older", "VersionMismatch"),
    ("image", "snapshot", "unknown_key", "UnmetThreshold"),
    ("image", "timestamp", "older", "VersionMismatch"),
    ("image", "timestamp", "huge", "MetadataMalformed"),
]

CONTENT: dict[str, tuple[dict[str, Any], str]] = {
    "another-vin": ({"campaign": {"vin": OTHER_VIN}}, "VinMismatch"),
    "another-model": ({"campaign": {"models": ["BJ7000MBEVR2"]}}, "ModelNotAffected"),
    "built-too-late": (
        {"campaign": {"productionWindow": {"from": "2024-02-06", "to": "2024-05-16"}}},
        "BuildDateNotAffected",
    ),
    "built-too-early": (
        {"campaign": {"productionWindow": {"from": "2024-05-18", "to": "2025-08-30"}}},
        "BuildDateNotAffected",
    ),
    "window-upside-down": (
        {"campaign": {"productionWindow": {"from": "2025-08-30", "to": "2024-02-06"}}},
        "BuildDateNotAffected",
    ),
    "another-ecu": ({"ecus": {"ADAS-99999999999": "adas-hw-3"}}, "BadEcuId"),
    "another-hardware": ({"ecus": {"ADAS-24051700149": "adas-hw-2"}}, "BadHardwareId"),
    "hardware-not-signed": ({"image": {"hardwareIds": ["adas-hw-2"]}}, "BadHardwareId"),
    "another-version": ({"image": {"version": "2.4.1"}}, "TargetMismatch"),
    "another-profile": ({"image": {"profileSha256": "0" * 64}}, "ProfileMismatch"),
    "needs-technician": ({"image": {"needsTechnician": True}}, "NeedsTechnician"),
    "no-filing": ({"campaign": {"filing": ""}}, "FilingMissing"),
    "blank-authority": ({"campaign": {"authority": " "}}, "FilingMissing"),
    "no-texts": ({"campaign": {"texts": {}}}, "TextsMissing"),
    "one-language": (
        {
            "campaign": {
                "texts": {
                    "en": dict.fromkeys(
                        ("purpose", "changes", "minutes", "unavailable", "instructions"), "words"
                    )
                }
            }
        },
        "TextsMissing",
    ),
    "halted": ({"campaign": {"halted": True}}, "CampaignHalted"),
    "models-is-text": ({"campaign": {"models": "XMA7000MBEVR2"}}, "MetadataMalformed"),
    "counter-is-text": ({"image": {"releaseCounter": "7"}}, "MetadataMalformed"),
}


def refused(rig: Rig, code: str) -> None:
    activity = rig.notify()
    status = update_refused(rig, activity, "noticed" if code in LATER else "rejected", code)
    payload = told(rig, activity, code=code)
    word = "IDENTIFYING" if code in LATER else "IDENTIFICATION_FAILED"
    assert (payload["status"], payload["state"]) == (word, status.state)
    untouched(rig)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(("repository", "role", "how", "code"), METADATA)
def test_metadata_that_was_tampered_with_is_refused(
    rig: Rig, repository: str, role: str, how: str, code: str
) -> None:
    rig.tell("backend", "publish")
    if (role, how) == ("timestamp", "older"):
        let_the_car_see_it(rig)
        if role != "timestamp":
            rig.tell("backend", "publish")  # what it has already seen it would not fetch again
    rig.tell("backend", "tamper", repository=repository, role=role, how=how)
    refused(rig, code)


def let_the_car_see_it(rig: Rig) -> None:
    """Make the daemon fetch and keep what is published now, by a notice that comes to nothing."""
    update_refused(rig, rig.notify(version="9.9.9"), "rejected", "TargetMismatch")


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("case", CONTENT)
def test_a_release_that_is_not_for_this_car_is_refused(rig: Rig, case: str) -> None:
    content, code = CONTENT[case]
    rig.tell("backend", "assign", **content)
    refused(rig, code)


def test_a_halted_campaign_starts_nothing(rig: Rig) -> None:
    rig.tell("backend", "assign")
    rig.tell("backend", "halt")
    try:
        refused(rig, "CampaignHalted")
    finally:
        rig.tell("backend", "halt", halted=False)


@pytest.mark.parametrize("url", ["http://localhost:{}", "https://example.net:{}", "localhost:{}"])
def test_a_repository_that_is_not_on_the_list_is_not_asked(rig: Rig, url: str) -> None:
    rig.tell("backend", "assign")
    before = rig.tell("backend", "state")["requests"]
    port = rig.tell("backend", "info")["https_port"]
    activity = rig.notify(director_url=url.format(port) + f"/director/{rig.bench.vin}")
    update_refused(rig, activity, "rejected", "UrlNotAllowed")
    assert rig.tell("backend", "state")["requests"] == before
    untouched(rig)


def test_attacks_are_reported_as_incidents(rig: Rig) -> None:
    rig.tell("backend", "publish")
    rig.tell("backend", "tamper", repository="director", role="targets", how="unknown_key")
    activity = rig.notify()
    update_refused(rig, activity, "rejected", "UnmetThreshold")
    rig.wait(lambda s: s.outbox == 0, "all reports told")
    incident = next(r for r in reports(rig, "incident") if r["activityId"] == activity)
    assert (incident["payload"]["code"], incident["payload"]["attack"]) == ("UnmetThreshold", True)


def test_expired_metadata_is_tried_again_without_a_new_notice(rig: Rig) -> None:
    rig.tell("hmi", "policy", policy="silence")
    rig.tell("backend", "assign")
    rig.tell("backend", "tamper", repository="director", role="timestamp", how="expired")
    activity = rig.notify()
    update_refused(rig, activity, "noticed", "ExpiredMetadata")
    rig.tell("backend", "publish")
    update_in(rig, activity, "ready")


def test_a_bad_notice_leaves_a_verified_update_as_it_is(rig: Rig) -> None:
    rig.tell("backend", "assign")
    good = rig.notify()
    update_in(rig, good, "ready")
    rig.tell("backend", "assign", campaign={"vin": OTHER_VIN})
    bad = rig.notify()
    assert told(rig, bad, code="VinMismatch")["status"] == "IDENTIFICATION_FAILED"
    status = message_refused(rig, "VinMismatch")
    assert (status.activity_id, status.state, status.refusal) == (good, "ready", None)
    assert codes(rig, good) == []


def test_after_all_of_these_a_good_notice_is_carried_out(rig: Rig) -> None:
    pid = rig.agent.pid
    rig.tell("backend", "assign")
    rig.tell("hmi", "policy", policy="approve")
    done = update_in(rig, rig.notify(), "completed")
    assert (done.software_before, done.software_after) == ("2.3.1", "2.4.0")
    assert rig.agent.pid == pid
