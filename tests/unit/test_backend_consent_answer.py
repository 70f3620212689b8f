"""The display's answers: bound to the question, signed, and forged where a scenario asks."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.campaign import S2025M0149I
from hil_rig.backend.consent_answer import FIELDS, NotShown, Policy, answer, shown_texts
from hil_rig.backend.desk import approves
from hil_rig.backend.repository import canonical

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TEXTS = S2025M0149I.texts(25)
QUESTION = {
    "activityId": "activity-1",
    "manifestSha256": "aa" * 32,
    "textsSha256": hashlib.sha256(canonical(TEXTS)).hexdigest(),
    "challenge": "bb" * 16,
    "recall": "S2025M0149I",
    "minutes": 25,
    "texts": TEXTS,
}
BOUND = ("activityId", "manifestSha256", "textsSha256", "challenge")


def _answer(policy, **more):
    return answer(
        QUESTION, policy, key=KEY, locale="en", now=NOW, randomness=lambda n: b"\x07" * n, **more
    )


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    ("policy", "status", "not_before"),
    [
        (Policy.APPROVE, "APPROVED", None),
        (Policy.DENY, "DENIED", None),
        (Policy.POSTPONE, "POSTPONED", "2026-03-01T20:00:00Z"),
    ],
)
def test_honest_answer_is_bound_to_the_question_and_signed(policy, status, not_before):
    said = _answer(policy)
    assert (said["status"], said["notBefore"], said["locale"]) == (status, not_before, "en")
    assert {name: said[name] for name in BOUND} == {name: QUESTION[name] for name in BOUND}
    rest = {name: value for name, value in said.items() if name != "signature"}
    KEY.public_key().verify(bytes.fromhex(said["signature"]), canonical(rest))


def test_driver_may_name_the_time_to_ask_again():
    assert _answer(Policy.POSTPONE, not_before="2026-03-02T06:00:00Z")["notBefore"] == (
        "2026-03-02T06:00:00Z"
    )


@pytest.mark.requirement("D2")
def test_answer_forged_with_another_key_does_not_verify():
    said = _answer(Policy.FORGED_KEY)
    rest = {name: value for name, value in said.items() if name != "signature"}
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(bytes.fromhex(said["signature"]), canonical(rest))
    assert not approves(said, KEY.public_key())


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    ("policy", "wrong"), [(Policy.FORGED_MANIFEST, "manifestSha256"), (Policy.REPLAY, "challenge")]
)
def test_other_forgeries_are_well_signed_but_bound_to_something_else(policy, wrong):
    said = _answer(policy)
    assert approves(said, KEY.public_key())
    assert [name for name in BOUND if said[name] != QUESTION[name]] == [wrong]


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_all_fields_are_shown(locale):
    assert shown_texts(QUESTION, locale) == TEXTS[locale]


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_question_with_a_field_missing_is_not_shown(field, empty):
    words = {name: text for name, text in TEXTS["en"].items() if name != field}
    if empty is not None:
        words[field] = empty
    texts = {"en": words}
    question = QUESTION | {
        "texts": texts,
        "textsSha256": hashlib.sha256(canonical(texts)).hexdigest(),
    }
    with pytest.raises(NotShown, match=field):
        shown_texts(question, "en")


@pytest.mark.parametrize("change", [{"texts": {}}, {"texts": None}, {"textsSha256": "00" * 32}])
def test_question_without_our_words_or_with_other_words_is_not_shown(change):
    with pytest.raises(NotShown):
        shown_texts(QUESTION | change, "en")
