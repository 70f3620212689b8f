"""Notices read or refused in one line; reports as the Unified Update Agent API has them."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle_agent.notices import kanto, messages
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.update import State

LIMIT = 262_144
COMPONENT = {
    "id": "adas-controller",
    "version": "2.4.0",
    "config": [
        {"key": "uptane.director_url", "value": "https://localhost:1/director/VIN"},
        {"key": "uptane.image_url", "value": "https://localhost:1/image"},
    ],
}


def notice(component=COMPONENT, *, activity="activity-1", domain="adas", count=1, **more):
    domains = [{"id": domain, "components": [component] * count}]
    message = {"activityId": activity, "timestamp": 1, "payload": {"domains": domains}} | more
    return json.dumps(message).encode()


def parse(payload, limit=LIMIT):
    return messages.parse_notice(payload, limit, ["adas-controller"])


def refusal_of(payload, limit=LIMIT):
    with pytest.raises(Refused) as caught:
        parse(payload, limit)
    assert "\n" not in caught.value.refusal.detail
    assert len(caught.value.refusal.detail) < 400
    return caught.value.refusal.code


def test_notice_says_which_release_and_where_to_look():
    payload = notice()
    assert parse(payload) == messages.Notice(
        activity_id="activity-1",
        component="adas-controller",
        version="2.4.0",
        director_url="https://localhost:1/director/VIN",
        image_url="https://localhost:1/image",
        raw_sha256=hashlib.sha256(payload).hexdigest(),
    )


@pytest.mark.requirement("A4")
def test_notice_of_ten_megabytes_is_refused_unread():
    payload = notice(padding="x" * 10_000_000)
    assert refusal_of(payload) is Code.NOTICE_TOO_LARGE
    assert messages.salvage_activity_id(payload) == "activity-1"


def test_limit_itself_is_allowed():
    payload = notice()
    parse(payload, len(payload))
    assert refusal_of(payload, len(payload) - 1) is Code.NOTICE_TOO_LARGE


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"\xff\xfe", b"[1]", b"null", notice()[:-1], b'{"a": 1, "a": 2}']
)
def test_what_is_not_one_json_object_is_refused(payload):
    assert refusal_of(payload) is Code.NOTICE_NOT_JSON


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        notice(activity=7),
        notice(activity=""),
        notice(activity="a" * 129),
        notice(activity="a\nb"),
        notice(payload=[]),
        notice(payload={}),
        notice(payload={"domains": {}}),
        notice(count=0),
        notice(count=2),
        notice({"id": "adas-controller"}),
        notice(COMPONENT | {"version": ""}),
        notice(COMPONENT | {"version": "9" * 65}),
        notice(COMPONENT | {"version": "2.4\n0"}),
        notice(COMPONENT | {"version": 2}),
        notice(COMPONENT | {"config": []}),
        notice(COMPONENT | {"config": COMPONENT["config"][:1]}),
        notice(COMPONENT | {"config": [{"key": "uptane.director_url"}]}),
    ],
)
def test_notice_of_wrong_shape_is_refused(payload):
    assert refusal_of(payload) is Code.NOTICE_SHAPE


def test_notice_for_what_this_car_does_not_have_is_refused():
    assert refusal_of(notice(COMPONENT | {"id": "radio"})) is Code.UNKNOWN_COMPONENT
    assert refusal_of(notice(domain="infotainment")) is Code.UNKNOWN_COMPONENT


@pytest.mark.parametrize(
    ("payload", "activity"),
    [
        (b'{"activityId": "abc", "payload": ', "abc"),
        (b'{"activityId" : "abc"', "abc"),
        (b'{"activityId": 7}', None),
        (b'{"activityId": "a\nb"}', None),
        (b'{"activityId": "a\\"b"}', None),
        (b"x" * 5000 + b'{"activityId": "abc"}', None),
        (b"", None),
    ],
)
def test_activity_is_salvaged_from_what_cannot_be_read(payload, activity):
    assert messages.salvage_activity_id(payload) == activity


@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["activityId", "payload", "domains", "id", "components", "config"]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_input_is_refused_by_a_notice_code(payload):
    assert refusal_of(payload).startswith(("Notice", "Unknown"))
    messages.salvage_activity_id(payload)


def test_envelope_carries_what_lets_a_message_be_counted_once():
    sent = messages.envelope(
        {"x": 1}, activity_id="a", message_id="m-1", timestamp_ms=1_700_000_000_000
    )
    assert sent == {
        "activityId": "a",
        "timestamp": 1_700_000_000_000,
        "messageId": "m-1",
        "payload": {"x": 1},
    }


def test_feedback_names_component_and_progress():
    said = messages.feedback(
        status="RUNNING",
        message="half way",
        component="adas-controller",
        version="2.4.0",
        action_status="UPDATING",
        progress=50,
    )
    assert said["status"] == "RUNNING"
    assert said["actions"] == [
        {
            "component": {"id": "adas-controller", "version": "2.4.0"},
            "status": "UPDATING",
            "progress": 50,
            "message": "half way",
        }
    ]


def test_current_state_joins_hardware_and_software():
    node = messages.SoftwareNode(
        component="adas-controller", version="2.3.1", serial="S", hardware_id="H"
    )
    said = messages.current_state([node])
    (link,) = said["associations"]
    assert link["sourceId"] == said["hardwareNodes"][0]["id"] == "S"
    assert link["targetId"] == said["softwareNodes"][0]["id"]
    assert said["softwareNodes"][0]["version"] == "2.3.1"


KANTO_STATUS = {
    "IDENTIFYING", "IDENTIFIED", "IDENTIFICATION_FAILED", "RUNNING", "COMPLETED", "INCOMPLETE",
    "INCOMPLETE_INCONSISTENT", "SUPERSEDED",
}  # fmt: skip


@pytest.mark.parametrize("state", State)
def test_every_state_has_words(state):
    assert kanto.status_words(state).status in KANTO_STATUS


def test_completed_is_said_of_one_state_only():
    assert [s for s in State if kanto.status_words(s).status == "COMPLETED"] == [State.COMPLETED]


def test_failed_download_is_told_apart_from_a_failed_update():
    assert kanto.status_words("failed", "downloading").action == "DOWNLOAD_FAILURE"
    assert kanto.status_words("failed", "installing").action == "UPDATE_FAILURE"
