"""Values of frames: valid only if in range, known, available, fresh and of the right length."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vehicle_agent.parking.database import SignalDatabase
from vehicle_agent.parking.signals import FrameConfig, FrameSources
from vehicle_agent.refusals import Code, Refused

DBC = """VERSION ""
BU_: X
BO_ 256 Plain: 8 X
 SG_ Speed : 0|16@1+ (0.01,0) [0|300] "km/h" X
 SG_ Gear : 16|4@1+ (1,0) [0|15] "" X
 SG_ Odd : 24|8@1+ (0.5,-10) [0|0] "V" X
 SG_ Float : 32|32@1- (1,0) [0|0] "" X
BO_ 512 Multi: 8 X
 SG_ Index M : 0|8@1+ (1,0) [0|1] "" X
 SG_ First m0 : 8|8@1+ (1,0) [0|200] "" X
 SG_ Second m1 : 8|8@1+ (1,0) [0|200] "" X
 SG_ Always : 16|8@1+ (1,0) [0|200] "" X
BO_ 768 Broken: 8 X
 SG_ One : 0|8@1+ (1,0) [0|255] "" X
 SG_ Two : 4|8@1+ (1,0) [0|255] "" X
VAL_ 256 Gear 0 "P" 1 "R" 2 "N" 3 "D" 15 "NOT_AVAILABLE" ;
VAL_ 256 Odd 255 "SNA" ;
SIG_VALTYPE_ 256 Float : 1;
"""
PLAIN = FrameConfig(protection="none", timeout_s=0.1)


@pytest.fixture
def dbc(tmp_path) -> Path:
    path = tmp_path / "car.dbc"
    path.write_text(DBC)
    return path


@pytest.fixture
def sources(dbc) -> FrameSources:
    return FrameSources(SignalDatabase([dbc]), {"Plain": PLAIN, "Multi": PLAIN}, "vehicle")


def read(sources, path, data, *, at=0.0, now=None):
    signal = sources.signal(path)
    signal.frame.receive(data, at)
    return signal.read(at if now is None else now)


def plain(speed=0, gear=0, odd=0, value=b"\0\0\0\0"):
    return speed.to_bytes(2, "little") + bytes([gear, odd]) + value


def test_a_value_in_range_is_valid_and_in_its_unit(sources):
    reading = read(sources, "Plain.Speed", plain(1234))
    assert (reading.value, reading.fault) == (12.34, None)
    assert sources.signal("Plain.Speed").expires_at == 0.1


def test_a_choice_is_known_by_its_name(sources):
    assert read(sources, "Plain.Gear", plain(gear=3)).label == "D"


@pytest.mark.parametrize(
    ("path", "data", "fault"),
    [
        ("Plain.Speed", plain(0xFFFF), "out of range"),
        ("Plain.Speed", plain(30001), "out of range"),
        ("Plain.Gear", plain(gear=15), "not available"),
        ("Plain.Gear", plain(gear=4), "no known choice"),
        ("Plain.Odd", plain(odd=255), "not available"),
        ("Plain.Float", plain(value=b"\x00\x00\xc0\x7f"), "not a number"),
        ("Plain.Speed", plain()[:7], "error"),
        ("Plain.Speed", plain() + b"\0", "error"),
        ("Plain.Speed", b"", "error"),
    ],
)
def test_what_is_no_measurement_has_a_fault(sources, path, data, fault):
    assert fault in (read(sources, path, data).fault or "")


def test_raw_values_can_be_declared_not_available(dbc):
    config = FrameConfig(protection="none", timeout_s=0.1, not_available={"Speed": (7,)})
    sources = FrameSources(SignalDatabase([dbc]), {"Plain": config}, "vehicle")
    assert read(sources, "Plain.Speed", plain(7)).fault == "not available"
    assert read(sources, "Plain.Speed", plain(8)).fault is None


@pytest.mark.parametrize(("age", "fresh"), [(0.0, True), (0.099, True), (0.1, False), (9.0, False)])
def test_a_value_is_fresh_until_its_timeout(sources, age, fresh):
    reading = read(sources, "Plain.Speed", plain(1), now=age)
    assert (reading.fault is None) is fresh
    if not fresh:
        assert f"stale for {age:.2f} s" in reading.fault


def test_a_frame_that_does_not_count_changes_no_value(sources):
    read(sources, "Plain.Speed", plain(100))
    assert read(sources, "Plain.Speed", plain(200)[:7], at=0.05).value == 1.0
    assert "error" in read(sources, "Plain.Speed", plain(200)[:7], at=0.2).fault


def test_a_multiplexed_value_is_as_old_as_the_last_frame_that_had_it(sources):
    signals = {name: sources.signal(f"Multi.{name}") for name in ("First", "Second", "Always")}
    signals["First"].frame.receive(bytes([0, 11, 1, 0, 0, 0, 0, 0]), 0.0)
    signals["First"].frame.receive(bytes([1, 22, 2, 0, 0, 0, 0, 0]), 0.05)
    readings = {name: signal.read(0.12) for name, signal in signals.items()}
    assert "stale" in readings["First"].fault
    assert (readings["Second"].value, readings["Always"].value) == (22, 2)


def test_an_unknown_multiplexer_value_is_an_error(sources):
    reading = read(sources, "Multi.Always", bytes([9, 0, 5, 0, 0, 0, 0, 0]))
    assert "error" in reading.fault


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Plain.Sped", "message 'Plain' has no signal 'Sped'; near: Speed (car.dbc)"),
        ("Plane.Speed", "message 'Plane' does not exist; near: Plain (car.dbc)"),
        ("Plain", "not written Message.Signal"),
        ("Broken.One", "overlapping"),
    ],
)
def test_a_wrong_name_is_refused_with_file_and_near_matches(sources, path, words):
    with pytest.raises(Refused) as caught:
        sources.signal(path)
    assert caught.value.refusal.code is Code.CONFIG_INVALID
    assert words in caught.value.refusal.detail


def test_a_file_with_an_unsound_message_is_read_with_a_warning(dbc, caplog):
    with caplog.at_level(logging.WARNING):
        SignalDatabase([dbc]).message("Plain")
    assert "overlapping" in caplog.text
    assert "car.dbc" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [(DBC + "\nBO_ nonsense", "line"), (None, "No such file")],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path, text, words):
    path = tmp_path / "bad.dbc"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused, match=r"bad\.dbc") as caught:
        SignalDatabase([path])
    assert words in caught.value.refusal.detail


def test_a_message_of_two_files_is_ambiguous(dbc, tmp_path):
    twin = tmp_path / "twin.dbc"
    twin.write_text(DBC)
    with pytest.raises(Refused, match="in 2 files"):
        SignalDatabase([dbc, twin]).message("Plain")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FrameConfig(timeout_s=1), "protection is missing"),
        (FrameConfig(protection="none"), "timeout_s is missing"),
        (FrameConfig(protection="none", timeout_s=0), "timeout_s must be above 0"),
        (FrameConfig(protection="none", timeout_s=1, not_available={"X": (1,)}), "no signal 'X'"),
    ],
)
def test_a_frame_must_say_how_it_is_protected_and_when_it_is_stale(dbc, config, words):
    with pytest.raises(Refused, match=words):
        FrameSources(SignalDatabase([dbc]), {"Plain": config}, "vehicle").signal("Plain.Speed")


def test_protection_data_id_and_timeout_come_from_the_database_where_it_has_them():
    frame = FrameSources(SignalDatabase([Path("dbc/vehicle.dbc")]), {}, "vehicle").frame(
        "ESP_Speed"
    )
    assert frame.protected
    assert frame.timeout_s == 0.1
