"""The project's own DBC files say what the contracts say, and every tool can load them."""

from __future__ import annotations

from pathlib import Path

import cantools
import pytest

FOLDER = Path(__file__).parents[2] / "dbc"
FILES = ("vehicle.dbc", "adas.dbc")
DATABASES = {name: cantools.database.load_file(FOLDER / name, strict=True) for name in FILES}
MESSAGES = [message for database in DATABASES.values() for message in database.messages]
SIGNALS = [
    pytest.param(message, signal, id=signal.name)
    for message in MESSAGES
    for signal in message.signals
]

IDS_AND_CYCLES_MS = {
    "ESP_Speed": (0x0A0, 20),
    "DU_Motion": (0x0A4, 20),
    "EPB_Status": (0x0B0, 50),
    "BRK_Pedal": (0x0B4, 20),
    "BCM_Power": (0x100, 100),
    "HVB_Status": (0x110, 100),
    "BCM_Doors": (0x120, 100),
    "OCC_Presence": (0x124, 200),
    "BCM_Hazard": (0x128, 200),
    "ADAS_Status": (0x300, 100),
    "OTA_DriveInhibit": (0x310, 50),
    "DU_InhibitStatus": (0x314, 50),
}
RAW_CHOICES = {
    "DU_Gear": {0: "P", 1: "R", 2: "N", 3: "D", 15: "NOT_AVAILABLE"},
    "EPB_State": {0: "RELEASED", 1: "APPLIED", 2: "MOVING", 3: "FAULT", 7: "NOT_AVAILABLE"},
    "BCM_PowerMode": {0: "OFF", 1: "ACCESSORY", 2: "ON", 3: "READY", 7: "NOT_AVAILABLE"},
    "BCM_LvState": {0: "GOOD", 1: "WEAK", 2: "CRITICAL", 3: "NOT_AVAILABLE"},
    "HVB_Charging": {
        0: "NOT_PLUGGED",
        1: "PLUGGED",
        2: "CHARGING",
        3: "FAULT",
        7: "NOT_AVAILABLE",
    },
    "ADAS_HpaState": {
        0: "OFF",
        1: "STANDBY",
        2: "ACTIVE",
        3: "FAULT",
        4: "UPDATING",
        7: "NOT_AVAILABLE",
    },
    "ADAS_SelfTest": {0: "PASSED", 1: "RUNNING", 2: "FAILED", 3: "NOT_AVAILABLE"},
    "ADAS_ActiveBank": {0: "A", 1: "B"},
    "OTA_InhibitRequest": {0: "RELEASE", 1: "INHIBIT"},
    "OTA_InhibitReason": {0: "NONE", 1: "UPDATE", 2: "RECOVERY"},
    "DU_Inhibited": {0: "NO", 1: "YES", 2: "REFUSED", 3: "NOT_AVAILABLE"},
    "TEL_ECall": {0: "IDLE", 1: "ACTIVE", 3: "NOT_AVAILABLE"},
    "OCC_Driver": {0: "EMPTY", 1: "OCCUPIED", 3: "NOT_AVAILABLE"},
}
SCALES = {
    "ESP_VehicleSpeed": (0.01, 16, "km/h"),
    "DU_VehicleSpeed": (0.01, 16, "km/h"),
    "BCM_LvVoltage": (0.01, 16, "V"),
    "HVB_Charge": (0.5, 8, "%"),
    "HVB_Energy": (2, 16, "Wh"),
    "DU_InhibitHold": (0.1, 16, "s"),
}


def test_messages_have_the_ids_and_cycles_of_the_contract() -> None:
    assert {m.name: (m.frame_id, m.cycle_time) for m in MESSAGES} == IDS_AND_CYCLES_MS


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_every_message_is_eight_classic_bytes_with_comment_and_sender(message) -> None:
    assert (message.length, message.is_extended_frame, message.is_fd) == (8, False, False)
    assert message.comment
    assert message.senders != ["Vector__XXX"]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_every_message_declares_profile_1_with_its_header_in_place(message) -> None:
    assert message.dbc.attributes["E2EProfile"].value == "P01"
    crc = message.get_signal_by_name(f"{message.name}_CRC")
    counter = message.get_signal_by_name(f"{message.name}_CNT")
    assert (crc.start, crc.length) == (0, 8)
    assert (counter.start, counter.length, counter.maximum) == (8, 4, 14)


def test_no_two_messages_share_an_id_or_a_data_id() -> None:
    data_ids = {m.dbc.attributes["E2EDataId"].value for m in MESSAGES}
    assert len(data_ids) == len({m.frame_id for m in MESSAGES}) == len(MESSAGES)
    assert all(0 < data_id <= 0xFFFF for data_id in data_ids)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_no_two_signals_of_a_message_overlap(message) -> None:
    taken = [bit for s in message.signals for bit in range(s.start, s.start + s.length)]
    assert len(taken) == len(set(taken))
    assert max(taken) < 64


@pytest.mark.parametrize(("message", "signal"), SIGNALS)
def test_signals_are_little_endian_within_bytes_or_byte_aligned(message, signal) -> None:
    assert signal.byte_order == "little_endian"
    assert not signal.is_signed
    assert signal.start % 8 == 0 or signal.start // 8 == (signal.start + signal.length - 1) // 8


@pytest.mark.parametrize(("message", "signal"), SIGNALS)
def test_not_available_lies_outside_the_range_and_every_other_choice_within(
    message, signal
) -> None:
    for raw, name in (signal.choices or {}).items():
        physical = signal.raw_to_scaled(raw, decode_choices=False)
        inside = signal.minimum <= physical <= signal.maximum
        assert inside is (str(name) != "NOT_AVAILABLE")
        assert raw < 1 << signal.length


@pytest.mark.parametrize(("message", "signal"), SIGNALS)
def test_choices_of_an_enumeration_fill_its_range(message, signal) -> None:
    named = [raw for raw, name in (signal.choices or {}).items() if str(name) != "NOT_AVAILABLE"]
    if named:
        assert sorted(named) == list(range(int(signal.maximum) + 1))


@pytest.mark.parametrize(("name", "choices"), RAW_CHOICES.items())
def test_raw_values_are_those_of_the_contract(name, choices) -> None:
    signal = next(p.values[1] for p in SIGNALS if p.id == name)
    assert {raw: str(text) for raw, text in signal.choices.items()} == choices


@pytest.mark.parametrize(("name", "scale"), SCALES.items())
def test_scales_lengths_and_units_are_those_of_the_contract(name, scale) -> None:
    signal = next(p.values[1] for p in SIGNALS if p.id == name)
    assert (signal.scale, signal.length, signal.unit) == scale
    assert signal.choices[(1 << signal.length) - 1] == "NOT_AVAILABLE"


def test_both_files_can_be_loaded_into_one_database() -> None:
    database = cantools.database.Database()
    for name in FILES:
        database.add_dbc_file(FOLDER / name)
    assert {m.name for m in database.messages} == set(IDS_AND_CYCLES_MS)
