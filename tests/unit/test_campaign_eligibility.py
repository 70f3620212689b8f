"""Which cars get a release: each condition alone, each pair in its order, the recalls' edges."""

import itertools
from datetime import date

import msgspec
import pytest

from hil_rig.backend.campaign import RECALLS
from tests.unit.release_maker import make_release
from tests.unit.trust_world import IDENTITY, PROFILE
from vehicle_agent import campaign
from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.refusals import Code, Refused

TEXTS = make_release().campaign.texts
EMPTY = msgspec.structs.replace(TEXTS["zh-CN"], unavailable=" ")

# In the order in which they are decided: facts, campaign, installed version, profile.
WRONG = {
    Code.VIN_MISMATCH: {"campaign": {"vin": "LXMA7AEB1R0000043"}},
    Code.CAMPAIGN_HALTED: {"campaign": {"halted": True}},
    Code.MODEL_NOT_AFFECTED: {"campaign": {"models": ("XMA7000MBEVR5",)}},
    Code.BUILD_DATE_NOT_AFFECTED: {"built": date(2024, 2, 5)},
    Code.FILING_MISSING: {"campaign": {"filing": " "}},
    Code.TEXTS_MISSING: {"campaign": {"texts": TEXTS | {"zh-CN": EMPTY}}},
    Code.PROFILE_MISMATCH: {"profile": "cd" * 32},
    Code.NEEDS_TECHNICIAN: {"facts": {"needs_technician": True}},
    Code.ALREADY_INSTALLED: {"installed": "2.4.0"},
    Code.BASE_VERSION_MISMATCH: {"facts": {"base_versions": ("1.0.0",)}},
}


def check(*changes, languages=("zh-CN", "en")):
    merged = {"facts": {}, "campaign": {}}
    for change in changes:
        for name, value in change.items():
            merged[name] = merged[name] | value if isinstance(value, dict) else value
    release = make_release(facts=merged["facts"], campaign=merged["campaign"])
    built = merged.get("built", IDENTITY.production_date)
    campaign.check(
        release,
        msgspec.structs.replace(IDENTITY, production_date=built),
        installed_version=merged.get("installed", "2.3.1"),
        languages=languages,
        profile_sha256=merged.get("profile", PROFILE),
    )


def code_of(*changes):
    with pytest.raises(Refused) as caught:
        check(*changes)
    return caught.value.refusal.code


@pytest.mark.requirement("B4")
def test_affected_car_is_let_through():
    check()


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("code", WRONG)
def test_each_condition_refuses_alone(code):
    assert code_of(WRONG[code]) is code


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(WRONG, 2)])
def test_of_two_reasons_the_first_is_named(first, second):
    assert code_of(WRONG[second], WRONG[first]) is first


def test_base_version_is_left_open_until_the_controller_was_asked():
    check({"installed": None}, WRONG[Code.BASE_VERSION_MISMATCH])
    assert code_of({"installed": None}, WRONG[Code.NEEDS_TECHNICIAN]) is Code.NEEDS_TECHNICIAN


@pytest.mark.parametrize(
    ("built", "affected"),
    [
        (date(2024, 2, 5), False),
        (date(2024, 2, 6), True),
        (date(2025, 8, 30), True),
        (date(2025, 8, 31), False),
    ],
)
def test_production_window_includes_both_its_days(built, affected):
    if affected:
        check({"built": built})
    else:
        assert code_of({"built": built}) is Code.BUILD_DATE_NOT_AFFECTED


@pytest.mark.requirement("B4")
@pytest.mark.parametrize("number", RECALLS)
def test_each_recall_takes_its_own_models_only(number):
    models = {model for recall in RECALLS.values() for model in recall.models}
    for model in models:
        change = {"campaign": {"models": RECALLS[number].models}}
        identity = msgspec.structs.replace(IDENTITY, model=model)
        release = make_release(**change)
        affected = model in RECALLS[number].models
        try:
            campaign.check(
                release,
                identity,
                installed_version="2.3.1",
                languages=("en",),
                profile_sha256=PROFILE,
            )
        except Refused as refused:
            code = refused.refusal.code
        else:
            code = None
        assert code is (None if affected else Code.MODEL_NOT_AFFECTED)


@pytest.mark.requirement("D1")
def test_texts_are_needed_in_every_configured_language():
    check(languages=("en",))
    with pytest.raises(Refused) as caught:
        check(languages=("en", "fr"))
    assert caught.value.refusal.code is Code.TEXTS_MISSING
    assert "'fr'" in caught.value.refusal.detail


IDENTITY_TABLE = msgspec.to_builtins(IDENTITY)


@pytest.mark.parametrize(
    "change",
    [
        {"vin": "LXMA7AEB1R000004"},
        {"vin": "LXMA7AEB1R00000421"},
        {"vin": "LXMA7AEB1R000004O"},
        {"vin": "LXMA7AEB1R000004I"},
        {"vin": "lxma7aeb1r0000042"},
        {"ecus": []},
        {"ecus": [*IDENTITY_TABLE["ecus"]] * 2},
        {"ecus": [IDENTITY_TABLE["ecus"][0] | {"serial": " "}]},
        {"production_date": "2024-02-30"},
        {"colour": "red"},
    ],
)
def test_identity_that_cannot_be_a_cars_is_refused(change):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(IDENTITY_TABLE | change, VehicleIdentity)
