"""Notices that are none: refused by name, answered, and the next good one is taken."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    family,
    message_refused,
    publish,
    question_shown,
    reports,
    untouched,
    update_in,
)

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="silence")

GOOD_CONFIG = [
    {"key": "uptane.director_url", "value": "https://localhost:1/director"},
    {"key": "uptane.image_url", "value": "https://localhost:1/image"},
]


def component(**changes: Any) -> dict[str, Any]:
    return {"id": "adas-controller", "version": "2.4.0", "config": GOOD_CONFIG, **changes}


def notice(*components: Any, **changes: Any) -> dict[str, Any]:
    domain = {"id": "adas", "components": list(components)}
    payload = {"domains": [domain], "baselines": []}
    return {"activityId": "x", "timestamp": 1, "payload": payload, **changes}


SHAPES: dict[str, dict[str, Any]] = {
    "no-payload": {"activityId": "x", "timestamp": 1},
    "payload-is-text": notice(payload="2.4.0"),
    "payload-is-null": notice(payload=None),
    "no-domains": notice(payload={"baselines": []}),
    "domains-is-an-object": notice(payload={"domains": {}}),
    "no-component": notice(),
    "two-components": notice(component(), component()),
    "component-is-a-number": notice(7),
    "version-is-a-number": notice(component(version=24)),
    "version-is-empty": notice(component(version="")),
    "version-is-endless": notice(component(version="2" * 65)),
    "no-urls": notice(component(config=[])),
    "url-is-null": notice(component(config=[{"key": "uptane.director_url", "value": None}])),
}


def sent(rig: Rig, activity: str, code: str, message: Mapping[str, Any] | bytes) -> None:
    """Publish `message` as a notice and see it refused with `code`, answered to `activity`."""
    before = answers(rig, activity, code)
    publish(rig, "desiredstate", message)
    rig.wait(lambda _: len(answers(rig, activity, code)) > len(before), f"an answer {code}")
    payload = answers(rig, activity, code)[-1]
    assert payload["status"] == "IDENTIFICATION_FAILED"
    assert code in payload["message"]
    assert message_refused(rig, code).state == "idle"
    untouched(rig)


def answers(rig: Rig, activity: str, code: str) -> list[dict[str, Any]]:
    mine = [report["payload"] for report in reports(rig) if report["activityId"] == activity]
    return [payload for payload in mine if payload.get("code") == code]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b'{"activityId": "x", "payload": ',
        b'{"activityId": "x"} {"activityId": "y"}',
        b"\xff\xfe\x00binary",
        b"[" * 50_000,
        b'["activityId", "x"]',
        b'{"activityId": "x", "timestamp": NaN}',
    ],
    ids=["empty", "text", "cut", "two", "no-utf8", "deep", "array", "nan"],
)
def test_a_notice_that_is_no_json_object_is_refused(rig: Rig, raw: bytes) -> None:
    mark = f"j-{uuid.uuid4()}"
    message = raw.replace(b'"x"', f'"{mark}"'.encode())
    sent(rig, mark if b'"activityId": "' in raw else "", "NoticeNotJson", message)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_notice_of_wrong_shape_is_refused(rig: Rig, shape: str) -> None:
    mark = f"s-{uuid.uuid4()}"
    sent(rig, mark, "NoticeShape", {**SHAPES[shape], "activityId": mark})


@pytest.mark.parametrize("mark", ["", " ", "a b", "é", "x" * 129, 7, None])
def test_a_notice_without_a_usable_activity_id_is_refused(rig: Rig, mark: Any) -> None:
    sent(rig, "", "NoticeShape", {**notice(component()), "activityId": mark})


@pytest.mark.parametrize(
    ("domain", "identifier"), [("adas", "radio"), ("body", "adas-controller"), ("", "")]
)
def test_a_notice_for_an_unknown_component_is_refused(
    rig: Rig, domain: str, identifier: str
) -> None:
    mark = f"c-{uuid.uuid4()}"
    domains = [{"id": domain, "components": [component(id=identifier)]}]
    message = notice(activityId=mark, payload={"domains": domains})
    sent(rig, mark, "UnknownComponent", message)


def test_a_broken_message_on_any_other_topic_starts_nothing(rig: Rig) -> None:
    before = len(reports(rig, "currentstate"))
    for topic in ("ownerconsentfeedback", "time", "desiredstate/command"):
        publish(rig, topic, b"\xff not json")
    publish(rig, "currentstate/get", b"not json either")
    rig.wait(lambda _: len(reports(rig, "currentstate")) > before, "the current state")
    assert rig.wait(lambda s: s.outbox == 0, "an empty outbox").state == "idle"
    untouched(rig)


def test_after_all_of_these_a_good_notice_is_taken(rig: Rig) -> None:
    pid = rig.agent.pid
    activity = rig.notify()
    update_in(rig, activity, "ready")
    assert rig.agent.pid == pid
    question_shown(rig, activity)
    untouched(rig)
