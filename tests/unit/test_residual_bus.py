"""Frames come at their cycles, protected, and with exactly the fault that was asked for."""

from __future__ import annotations

from pathlib import Path

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.residual_bus import CyclicMessage, E2EProtection, Fault, ResidualBus

DATABASE = cantools.database.load_file(Path(__file__).parents[2] / "dbc" / "vehicle.dbc")
SPEED = DATABASE.get_message_by_name("ESP_Speed")
VALUES = {
    signal.name: 0
    for message in DATABASE.messages
    for signal in message.signals
    if not signal.name.endswith(("_CRC", "_CNT"))
}


def p01_crc(data_id: int, data: bytes) -> int:
    """Profile 1 by hand, bit by bit: polynomial 0x1D, start and final value 0."""
    crc = 0
    for byte in (data_id & 0xFF, data_id >> 8, *data[1:]):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x1D if crc & 0x80 else crc << 1) & 0xFF
    return crc


def speed(data: bytes) -> dict:
    return SPEED.decode_simple(data)


def emitted(message: CyclicMessage, count: int, values=VALUES, cycle_s: float = 0.02):
    return [message.emit(k * cycle_s + 0.001, values) for k in range(count)]


@pytest.mark.parametrize(
    ("counter", "expected"), [(0, "cc00000000000000"), (1, "9101000000000000")]
)
def test_profile_1_gives_the_known_bytes(counter: int, expected: str) -> None:
    data = bytes([0, counter, 0, 0, 0, 0, 0, 0])
    protection = E2EProtection(0x123)
    assert protection.protect(data).hex() == expected
    assert protection.check(bytes.fromhex(expected))
    assert p01_crc(0x123, data) == bytes.fromhex(expected)[0]


@pytest.mark.parametrize("message", DATABASE.messages, ids=lambda m: m.name)
def test_every_frame_of_every_message_verifies_and_counts_0_to_14(message) -> None:
    sender = CyclicMessage(message, start=0.0)
    cycle_s = message.cycle_time / 1000
    frames = emitted(sender, 32, cycle_s=cycle_s)
    data_id = message.dbc.attributes["E2EDataId"].value
    assert [frame.data[1] & 0x0F for frame in frames] == [k % 15 for k in range(32)]
    assert all(frame.data[0] == p01_crc(data_id, frame.data) for frame in frames)
    assert all(E2EProtection(data_id).check(frame.data) for frame in frames)
    assert not any(E2EProtection(data_id ^ 1).check(frame.data) for frame in frames)


@given(st.floats(0, 400), st.sampled_from(["YES", "NO"]))
def test_values_arrive_as_they_were_sent(kmh: float, standstill: str) -> None:
    values = VALUES | {"ESP_VehicleSpeed": kmh, "ESP_Standstill": standstill}
    frame = CyclicMessage(SPEED, start=0.0).emit(0.0, values)
    assert frame is not None
    assert speed(frame.data)["ESP_VehicleSpeed"] == pytest.approx(kmh, abs=0.00501)
    assert speed(frame.data)["ESP_Standstill"] == standstill


@given(
    start=st.floats(0, 1e6),
    waits=st.lists(st.floats(0, 0.5), min_size=1, max_size=60),
)
def test_deadlines_stay_on_the_grid_however_late_the_sender_is(start, waits) -> None:
    message = CyclicMessage(SPEED, start=start)
    now, sent = start, 0
    for wait in waits:
        now += wait
        frame = message.emit(now, VALUES)
        sent += frame is not None
        steps = (message.due_at - start) / 0.02
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert now < message.due_at <= now + 0.02 + 1e-6
        assert sent + message.missed == round(steps)
        assert message.emit(now, VALUES) is None


@given(lateness=st.lists(st.floats(0, 0.0199), min_size=1, max_size=100))
def test_a_sender_late_by_less_than_a_cycle_misses_nothing(lateness) -> None:
    message = CyclicMessage(SPEED, start=100.0)
    for late in lateness:
        assert message.emit(message.due_at + late, VALUES) is not None
    assert message.missed == 0


def test_messages_start_staggered_and_keep_their_own_cycles() -> None:
    bus = ResidualBus(DATABASE.messages, start=10.0)
    times: dict[str, list[float]] = {}
    while (now := bus.next_due_at) < 11.1:
        for frame in bus.due(now, VALUES):
            times.setdefault(frame.name, []).append(now)
    assert len({first for first, *_ in times.values()}) == len(DATABASE.messages)
    for message in DATABASE.messages:
        cycle_s = message.cycle_time / 1000
        first, *rest = times[message.name]
        assert rest == pytest.approx([first + (k + 1) * cycle_s for k in range(len(rest))])
        assert len(rest) == pytest.approx(1.1 / cycle_s - 1, abs=1)


def test_stop_sends_nothing_for_its_count_then_goes_on_counting() -> None:
    message = CyclicMessage(SPEED, start=0.0)
    assert emitted(message, 1)[0].data[1] == 0
    message.set_fault(Fault(kind="stop", count=2))
    later = [message.emit(0.02 * k + 0.001, VALUES) for k in range(1, 5)]
    assert later[:2] == [None, None]
    assert [frame.data[1] for frame in later[2:]] == [1, 2]
    assert message.missed == 0


def test_freeze_repeats_the_last_bytes_whatever_the_values() -> None:
    message = CyclicMessage(SPEED, start=0.0)
    first = message.emit(0.0, VALUES)
    message.set_fault(Fault(kind="freeze"))
    moving = VALUES | {"ESP_VehicleSpeed": 50.0}
    frozen = [message.emit(0.02 * k + 0.001, moving) for k in range(1, 6)]
    assert {frame.data for frame in frozen} == {first.data}
    message.clear_faults()
    assert speed(message.emit(0.2, moving).data)["ESP_VehicleSpeed"] == 50.0


def test_bad_crc_spoils_the_checksum_alone() -> None:
    good, bad = CyclicMessage(SPEED, start=0.0), CyclicMessage(SPEED, start=0.0)
    bad.set_fault(Fault(kind="bad_crc", count=3))
    pairs = list(zip(emitted(good, 5), emitted(bad, 5), strict=True))
    assert [g.data == b.data for g, b in pairs] == [False, False, False, True, True]
    assert all(g.data[1:] == b.data[1:] for g, b in pairs)


def test_counter_frozen_keeps_the_counter_under_a_right_checksum() -> None:
    message = CyclicMessage(SPEED, start=0.0)
    message.set_fault(Fault(kind="counter_frozen", count=3))
    frames = emitted(message, 5)
    assert [frame.data[1] & 0x0F for frame in frames] == [0, 0, 0, 0, 1]
    assert all(E2EProtection.of(SPEED).check(frame.data) for frame in frames)


def test_wrong_value_goes_out_well_protected_even_outside_its_range() -> None:
    message = CyclicMessage(SPEED, start=0.0)
    message.set_fault(Fault(kind="wrong_value", signal="ESP_VehicleSpeed", value=500.0))
    message.set_fault(Fault(kind="wrong_value", signal="ESP_Standstill", value="YES"))
    (frame,) = emitted(message, 1)
    assert speed(frame.data)["ESP_VehicleSpeed"] == 500.0
    assert speed(frame.data)["ESP_Standstill"] == "YES"
    assert E2EProtection.of(SPEED).check(frame.data)


@pytest.mark.parametrize("message", DATABASE.messages, ids=lambda m: m.name)
def test_not_available_makes_every_signal_of_the_message_say_so(message) -> None:
    sender = CyclicMessage(message, start=0.0)
    sender.set_fault(Fault(kind="not_available"))
    frame = sender.emit(0.0, VALUES)
    told = message.decode_simple(frame.data)
    payload = {k: str(v) for k, v in told.items() if not k.endswith(("_CRC", "_CNT"))}
    assert set(payload.values()) == {"NOT_AVAILABLE"}


def test_not_available_can_be_said_of_one_signal() -> None:
    message = CyclicMessage(SPEED, start=0.0)
    message.set_fault(Fault(kind="not_available", signal="ESP_Standstill"))
    told = speed(emitted(message, 1)[0].data)
    assert (told["ESP_VehicleSpeed"], told["ESP_Standstill"]) == (0, "NOT_AVAILABLE")


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("ESP_Sped", Fault(kind="stop"), "no message 'ESP_Sped'"),
        ("ESP_Speed", Fault(kind="not_available", signal="DU_Gear"), "no signal 'DU_Gear'"),
        ("ESP_Speed", Fault(kind="wrong_value", signal="ESP_VehicleSpeed"), "signal and value"),
        (
            "ESP_Speed",
            Fault(kind="wrong_value", signal="ESP_VehicleSpeed", value=700.0),
            "ESP_Speed.ESP_VehicleSpeed: 700.0",
        ),
        (
            "DU_Motion",
            Fault(kind="wrong_value", signal="DU_Gear", value="X"),
            "DU_Motion.DU_Gear: 'X'",
        ),
    ],
)
def test_a_fault_that_cannot_be_shown_is_refused_in_words(name, fault, words) -> None:
    bus = ResidualBus(DATABASE.messages, start=0.0)
    with pytest.raises(ValueError, match=words):
        bus.set_fault(name, fault)
    assert bus.faults == {}


def test_clear_takes_away_the_faults_of_one_message_or_of_all() -> None:
    bus = ResidualBus(DATABASE.messages, start=0.0)
    for name in ("ESP_Speed", "DU_Motion", "EPB_Status"):
        bus.set_fault(name, Fault(kind="stop"))
    bus.clear_faults("DU_Motion")
    assert set(bus.faults) == {"ESP_Speed", "EPB_Status"}
    bus.clear_faults()
    assert bus.faults == {}
