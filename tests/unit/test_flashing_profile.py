"""The controller profile: what it says, and one clear line for what it may not say."""

from __future__ import annotations

import hashlib
import tomllib

import pytest

from tests.unit.flashing_bench import PROFILE
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.refusals import Code, Refused

TEXT = PROFILE.read_text()


def load(tmp_path, text):
    path = tmp_path / "profile.toml"
    path.write_text(text)
    return load_profile(path)


def test_the_shipped_profile_is_that_of_the_contract():
    profile = load_profile(PROFILE)
    assert (profile.addressing.request, profile.addressing.response) == (0x7A0, 0x7A8)
    assert profile.addressing.functional == 0x7DF
    assert profile.identifiers.bank_status == 0xF1F0
    assert profile.routines.revert == 0x0210
    assert profile.memory[0].holds(0x0800_0000, 0x20_0000)
    assert profile.sha256 == hashlib.sha256(PROFILE.read_bytes()).hexdigest()


def test_one_changed_byte_is_another_profile(tmp_path):
    assert load(tmp_path, TEXT + "\n").sha256 != load(tmp_path, TEXT).sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('banks = "ab"', 'banks = "abc"', ["banks = 'abc'", "'ab', 'single'"]),
        ('banks = "ab"', "", ["banks"]),
        ("request = 0x7A0", "request = 0x800", ["request", "0x7FF"]),
        ("request = 0x7A0", 'request = "0x7A0"', ["addressing.request = '0x7A0'", "int"]),
        ("request = 0x7A0", "request = 0x7A8", ["response must differ"]),
        ("request = 0x7A0", "request = 0x7A0\nspeed = 1", ["speed"]),
        ("tx_data_length = 8", "tx_data_length = 9", ["isotp.tx_data_length = 9", "12, 16"]),
        ("p2_s = 0.15", "p2_s = 0", ["session.p2_s = 0"]),
        ("p2_s = 0.15", "p2_s = nan", ["p2_s"]),
        ("level = 1", "level = 2", ["odd"]),
        ('access = "seed-key"', 'access = "29"', ["security.access = '29'", "'seed-key'"]),
        ("length = 0x200000", "length = 0", ["memory[0].length = 0"]),
        ("start = 0x08000000", "start = 0xFFFFFFFF", ["start + length"]),
        ("padding = 0xCC", "padding = 256", ["isotp.padding = 256"]),
        ("max_block_length = 4095", "max_block_length = 2", ["max_block_length = 2"]),
        ('name = "adas"', 'name = "adas"\nsha256 = "0"', ["sha256"]),
        ('name = "adas"', "name = ", ["line"]),
    ],
)
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(tmp_path, old, new, said):
    assert old in TEXT
    with pytest.raises(Refused) as refused:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert refused.value.refusal.code is Code.CONFIG_INVALID
    for words in ["profile.toml", *said]:
        assert words in refused.value.refusal.detail


@pytest.mark.requirement("C3")
@pytest.mark.parametrize(("kind", "allowed"), [(0x01, False), (0xF1, False), (0x11, True)])
def test_silencing_all_controllers_of_the_bus_is_refused(tmp_path, kind, allowed):
    text = TEXT.replace('target = "physical"', 'target = "functional"')
    text = text.replace("type = 0x01", f"type = 0x{kind:02X}")
    if allowed:
        assert load(tmp_path, text).communication_control.type == kind
        return
    with pytest.raises(Refused, match="park gate"):
        load(tmp_path, text)


def test_a_file_that_is_not_there_not_text_or_too_large_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"none\.toml"):
        load_profile(tmp_path / "none.toml")
    for content in (b"\xff\xfe", b"#" * (1 << 17)):
        (tmp_path / "profile.toml").write_bytes(content)
        with pytest.raises(Refused) as refused:
            load_profile(tmp_path / "profile.toml")
        assert refused.value.refusal.code is Code.CONFIG_INVALID


def test_29_bit_identifiers_need_to_be_named_so(tmp_path):
    text = TEXT.replace("request = 0x7A0", "request = 0x18DA10F1\nextended = true")
    assert load(tmp_path, text).addressing.extended
    assert tomllib.loads(text)["addressing"]["extended"]
