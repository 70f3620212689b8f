"""The car drives, parks and is left alone as owners do, however often it is stepped."""

from __future__ import annotations

import random
from pathlib import Path

import cantools
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.residual_bus import CyclicMessage
from hil_rig.vehicle import CarState, Vehicle

DATABASE = cantools.database.load_file(Path(__file__).parents[2] / "dbc" / "vehicle.dbc")


def car(**options) -> Vehicle:
    return Vehicle(0.0, noise=random.Random(1), **options)


def run(vehicle: Vehicle, start: float, end: float, step: float = 0.05, **options):
    """The states from `start` to `end`."""
    states = []
    for k in range(int((end - start) / step) + 1):
        vehicle.step(start + k * step, **options)
        states.append((vehicle.state, vehicle.standstill))
    return states


def test_a_parked_car_is_parked_in_every_signal() -> None:
    signals = car(driving=False).signals()
    assert signals == {
        "ESP_VehicleSpeed": 0.0,
        "ESP_Standstill": "YES",
        "DU_VehicleSpeed": 0.0,
        "DU_Gear": "P",
        "DU_Ready": "NO",
        "EPB_State": "APPLIED",
        "EPB_RollDetected": "NO",
        "BRK_PedalPressed": "NO",
        "BCM_PowerMode": "ACCESSORY",
        "BCM_LvVoltage": 12.6,
        "BCM_LvState": "GOOD",
        "HVB_Charge": 62.0,
        "HVB_Energy": 37200.0,
        "HVB_Charging": "NOT_PLUGGED",
        "BCM_DoorFrontLeft": "CLOSED",
        "BCM_DoorFrontRight": "CLOSED",
        "BCM_DoorRearLeft": "CLOSED",
        "BCM_DoorRearRight": "CLOSED",
        "BCM_Hood": "CLOSED",
        "BCM_Trunk": "CLOSED",
        "OCC_Driver": "EMPTY",
        "OCC_Passengers": "EMPTY",
        "BCM_HazardLights": "OFF",
        "TEL_ECall": "IDLE",
    }


def test_parking_ends_in_the_state_of_a_parked_car() -> None:
    vehicle = car()
    run(vehicle, 0, 10)
    vehicle.park()
    run(vehicle, 10, 30)
    assert vehicle.manoeuvre == "parked"
    assert vehicle.state == car(driving=False).state
    assert vehicle.signals() == car(driving=False).signals()


def test_parking_goes_through_the_steps_of_an_owner_in_their_order() -> None:
    vehicle = car()
    vehicle.park()
    states = [state for state, _ in run(vehicle, 0, 20)]
    order = [
        lambda s: s.brake == "YES" and s.speed > 0,
        lambda s: s.speed == 0,
        lambda s: s.gear == "P",
        lambda s: s.epb == "MOVING",
        lambda s: s.epb == "APPLIED",
        lambda s: s.ready == "NO" and s.power_mode == "ACCESSORY",
        lambda s: s.door_front_left == "OPEN",
        lambda s: s.driver == "EMPTY",
        lambda s: s.driver == "EMPTY" and s.door_front_left == "CLOSED",
    ]
    firsts = [next(k for k, state in enumerate(states) if test(state)) for test in order]
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == len(firsts)


@given(st.floats(0.5, 100), st.floats(0.25, 8))
def test_in_any_traffic_p_and_the_brake_are_never_applied_while_rolling(park_at, pace) -> None:
    vehicle = car(pace=pace)
    run(vehicle, 0, park_at, step=0.5)
    vehicle.park()
    for state, standstill in run(vehicle, park_at, park_at + 20 / pace + 10, step=0.1):
        assert state.speed == 0 or (state.gear, state.epb, standstill) == ("D", "RELEASED", False)
        assert state.driver == "OCCUPIED" or state.epb == "APPLIED"


@given(
    st.lists(st.floats(0.001, 5), min_size=1, max_size=40),
    st.lists(st.floats(0.001, 5), min_size=1, max_size=40),
)
def test_the_car_does_the_same_however_often_it_is_stepped(one, other) -> None:
    ends = []
    for waits in (one, other):
        vehicle = car()
        now = 0.0
        for wait in waits:
            vehicle.step(min(now := now + wait, 95.0))
        vehicle.step(95.0)
        vehicle.park()
        vehicle.step(96.0)
        ends.append(vehicle.state)
    assert ends[0] == ends[1]


def test_traffic_has_stops_in_d_that_are_not_parking() -> None:
    states = run(car(), 0, 120, step=0.5)
    stops = [state for state, standstill in states if standstill]
    assert stops
    assert {(s.gear, s.ready, s.driver, s.brake) for s in stops} == {
        ("D", "YES", "OCCUPIED", "YES")
    }
    assert max(state.speed for state, _ in states) == 50.0


def test_standstill_is_told_half_a_second_after_the_wheels_stop() -> None:
    vehicle = car()
    vehicle.park()
    states = run(vehicle, 0, 10, step=0.01)
    stopped = next(k for k, (state, _) in enumerate(states) if state.speed == 0)
    told = next(k for k, (_, standstill) in enumerate(states) if standstill)
    assert told - stopped == pytest.approx(50, abs=1)


def test_the_two_speeds_agree_closely_but_are_not_the_same() -> None:
    vehicle = car()
    pairs = []
    for k in range(400):
        vehicle.step(k * 0.1)
        signals = vehicle.signals()
        pairs.append((signals["ESP_VehicleSpeed"], signals["DU_VehicleSpeed"], vehicle.state.speed))
    moving = [pair for pair in pairs if pair[2] > 0]
    assert all(abs(esp - du) < 0.6 for esp, du, _ in moving)
    assert all(esp > 0 and du > 0 for esp, du, _ in moving)
    assert sum(esp != du for esp, du, _ in moving) > len(moving) * 0.9
    assert all((esp, du) == (0, 0) for esp, du, speed in pairs if speed == 0)


def test_a_driver_who_comes_back_drives_off() -> None:
    vehicle = car(driving=False)
    vehicle.drive()
    states = [state for state, _ in run(vehicle, 0, 30)]
    assert vehicle.manoeuvre == "driving"
    assert vehicle.state.speed == 50.0
    assert any(state.door_front_left == "OPEN" for state in states)
    assert all(state.speed == 0 for state in states if state.epb != "RELEASED")


def test_a_driver_about_to_park_can_drive_on() -> None:
    vehicle = car()
    vehicle.park()
    run(vehicle, 0, 3)
    vehicle.drive()
    states = [state for state, _ in run(vehicle, 3, 30)]
    assert {state.gear for state in states} == {"D"}
    assert vehicle.manoeuvre == "driving"


@pytest.mark.requirement("D3")
def test_an_inhibited_car_leaves_its_driver_stranded_in_p() -> None:
    vehicle = car(driving=False)
    vehicle.drive()
    states = [state for state, _ in run(vehicle, 0, 30, inhibited=True)]
    assert vehicle.manoeuvre == "stranded"
    assert {(s.gear, s.ready, s.speed, s.epb) for s in states} == {("P", "NO", 0.0, "APPLIED")}
    vehicle.drive()
    run(vehicle, 30, 60)
    assert vehicle.manoeuvre == "driving"


@pytest.mark.requirement("D3")
def test_gear_and_readiness_are_the_drivers_only_without_inhibit() -> None:
    vehicle = car(driving=False)
    assert vehicle.request_gear("D", inhibited=False) == "not ready to drive"
    assert vehicle.request_ready(inhibited=True) == "drive inhibited"
    assert vehicle.request_ready(inhibited=False) is None
    for gear in ("D", "R", "N"):
        assert vehicle.request_gear(gear, inhibited=True) == "drive inhibited"
        assert vehicle.state.gear == "P"
    assert vehicle.request_gear("R", inhibited=False) is None
    assert vehicle.state.gear == "R"
    assert vehicle.request_gear("P", inhibited=True) is None


def test_p_is_not_engaged_while_rolling() -> None:
    vehicle = car()
    assert vehicle.request_gear("P", inhibited=False) == "P needs a standstill"
    assert vehicle.state.gear == "D"


def test_set_values_lie_on_top_until_they_are_taken_back() -> None:
    vehicle = car(driving=False)
    vehicle.override({"speed": 3.0, "doors": "OPEN", "charge": 19.5})
    vehicle.step(1.0)
    signals = vehicle.signals()
    assert signals["ESP_VehicleSpeed"] == pytest.approx(3.0, abs=0.1)
    assert signals["EPB_RollDetected"] == "YES"
    assert signals["HVB_Energy"] == 11_700
    assert {v for k, v in signals.items() if k.startswith("BCM_Door")} == {"OPEN"}
    vehicle.override({"speed": None, "charge": None})
    vehicle.step(2.0)
    assert (vehicle.state.speed, vehicle.state.charge) == (0.0, 62.0)
    assert vehicle.state.door_rear_left == "OPEN"
    vehicle.clear_overrides()
    assert vehicle.state == CarState()


def test_what_the_driver_is_granted_replaces_what_was_set() -> None:
    vehicle = car(driving=False)
    vehicle.override({"gear": "P", "ready": "YES"})
    assert vehicle.request_gear("D", inhibited=False) is None
    assert vehicle.state.gear == "D"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gears": "P"}, "'gears' is not one of doors, speed, gear"),
        ({"gear": "X"}, "gear"),
        ({"speed": -1}, "speed"),
        ({"charge": 101}, "charge"),
        ({"doors": "AJAR"}, "door"),
        ({"hood": "OPEN", "ecall": 1}, "ecall"),
    ],
)
def test_an_impossible_value_is_refused_and_nothing_changes(changes, words) -> None:
    vehicle = car(driving=False)
    with pytest.raises(ValueError, match=words):
        vehicle.override(changes)
    assert vehicle.state == CarState()
    assert vehicle.overrides == {}


def _choices() -> list[tuple[str, str]]:
    properties = msgspec.json.schema(CarState)["$defs"]["CarState"]["properties"]
    return [(key, each) for key, spec in properties.items() for each in spec.get("enum", ())]


@pytest.mark.parametrize(("key", "value"), _choices())
def test_every_value_the_car_can_have_can_be_told_on_the_bus(key: str, value: str) -> None:
    vehicle = car(driving=False)
    before = vehicle.signals()
    vehicle.override({key: value})
    after = vehicle.signals()
    for message in DATABASE.messages:
        frame = CyclicMessage(message, start=0.0).emit(0.0, after)
        told = message.decode_simple(frame.data)
        for name in told.keys() & after.keys():
            if isinstance(after[name], str):
                assert told[name] == after[name]
    assert before != after or getattr(CarState(), key) == value
