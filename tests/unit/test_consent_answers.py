"""The driver's answer counts for one question only, and only with the display's signature."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.backend.consent_answer import Policy, answer, shown_texts
from tests.unit.release_maker import make_release
from vehicle_agent.consent import build_request, check_answer
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
RELEASE = make_release()
REQUEST = build_request(RELEASE, "activity-1", "bb" * 16, 25)


def say(policy, request=REQUEST, **more):
    said = answer(
        request, policy, key=KEY, locale="en", now=NOW, randomness=lambda n: b"\x07" * n, **more
    )
    return json.dumps(said).encode()


def forged(**changes):
    """An answer with other fields, signed by the display's own key."""
    said = json.loads(say(Policy.APPROVE)) | changes
    signed = {name: value for name, value in said.items() if name != "signature"}
    return json.dumps(signed | {"signature": KEY.sign(canonical(signed)).hex()}).encode()


def is_refused(payload, request=REQUEST):
    with pytest.raises(Refused) as caught:
        check_answer(payload, request, KEY.public_key())
    assert caught.value.refusal.code is Code.CONSENT_INVALID


@pytest.mark.requirement("D1")
def test_request_has_what_the_driver_must_be_told_and_what_binds_the_answer():
    assert REQUEST["manifestSha256"] == RELEASE.manifest_sha256
    assert (REQUEST["recall"], REQUEST["minutes"]) == ("S2025M0149I", 25)
    for locale in ("zh-CN", "en"):
        assert len(shown_texts(REQUEST, locale)) == 5


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    ("policy", "status", "not_before"),
    [
        (Policy.APPROVE, "APPROVED", None),
        (Policy.DENY, "DENIED", None),
        (Policy.POSTPONE, "POSTPONED", "2026-03-01T20:00:00Z"),
    ],
)
@pytest.mark.parametrize("in_envelope", [False, True])
def test_signed_answer_is_taken(policy, status, not_before, in_envelope):
    payload = say(policy)
    if in_envelope:
        payload = json.dumps({"activityId": "activity-1", "payload": json.loads(payload)}).encode()
    got = check_answer(payload, REQUEST, KEY.public_key())
    assert (got.status, got.locale, got.not_before) == (status, "en", not_before)


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("policy", [Policy.FORGED_KEY, Policy.FORGED_MANIFEST, Policy.REPLAY])
def test_forged_answer_is_refused(policy):
    is_refused(say(policy))


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activityId", "activity-2"),
        ("manifestSha256", "cc" * 32),
        ("textsSha256", "cc" * 32),
        ("challenge", "cc" * 16),
    ],
)
def test_answer_to_another_question_is_refused_although_signed(field, value):
    is_refused(forged(**{field: value}))
    is_refused(say(Policy.APPROVE), REQUEST | {field: value})


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    "changes",
    [
        {"status": "MAYBE"},
        {"status": "approved"},
        {"locale": "fr"},
        {"locale": 7},
        {"notBefore": "tomorrow"},
        {"notBefore": "2026-03-01T20:00:00"},
        {"more": 1},
    ],
)
def test_answer_of_wrong_shape_is_refused_although_signed(changes):
    is_refused(forged(**changes))


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("field", json.loads(say(Policy.APPROVE)))
def test_answer_without_one_of_its_fields_is_refused(field):
    said = json.loads(say(Policy.APPROVE))
    del said[field]
    is_refused(json.dumps(said).encode())


@pytest.mark.requirement("D2")
@given(st.data())
def test_changed_byte_never_makes_another_answer(data):
    payload = bytearray(say(Policy.DENY))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = check_answer(bytes(payload), REQUEST, KEY.public_key())
    except Refused as refused:
        code = refused.refusal.code
    else:
        code = None
        assert (got.status, got.not_before) == ("DENIED", None)
    assert code in (None, Code.CONSENT_INVALID)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(payload):
    is_refused(payload)
