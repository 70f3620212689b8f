"""The ready-made condition sets: parked in one row, not parked for each single deviation."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests.unit.parking_car import BUS, PROJECT, PROJECT_PARKED, STEP_S, Raw, SilentCar, run
from vehicle_agent.parking import database
from vehicle_agent.parking.gate import Gate
from vehicle_agent.parking.park_config import ParkConfig
from vehicle_agent.parking.signals import FrameSource
from vehicle_agent.parking.ternary import Ternary

SHARED = Path(__file__).resolve().parents[3] / "shared" / "dbc"
VW = ParkConfig(condition_set="vw_mqb", dbc=(str(SHARED / "vw_mqb.dbc"),))
TESLA = ParkConfig(condition_set="tesla_model3", dbc=(str(SHARED / "tesla_model3_party.dbc"),))
SETTLED_S = 3.0

VW_PARKED: dict[str, str | float] = {
    "ESP_21.ESP_v_Signal": 0,
    "ESP_21.ESP_QBit_v_Signal": 0,
    "ESP_19.ESP_HL_Radgeschw_02": 0,
    "ESP_19.ESP_HR_Radgeschw_02": 0,
    "ESP_19.ESP_VL_Radgeschw_02": 0,
    "ESP_19.ESP_VR_Radgeschw_02": 0,
    "ESP_02.ESP_Stillstandsflag": 1,
    "Getriebe_11.GE_Fahrstufe": "P",
    "Gateway_73.GE_Fahrstufe": "P",
    "Gateway_73.EPB_Status": "geschlossen_Parken",
    "Kombi_01.KBI_Handbremse": 1,
    "Motor_14.MO_Motor_laeuft": 0,
    "Motor_14.MO_HYB_Fahrbereitschaft": 0,
    "Klemmen_Status_01.ZAS_Kl_15": 1,
    "Klemmen_Status_01.ZAS_Kl_50": 0,
    "ESP_05.ESP_Fahrer_bremst": 0,
    "ESP_05.ESP_QBit_Fahrer_bremst": 0,
    "DC_Hybrid_01.DC_HYB_uAktLV": 12.6,
    "BEM_05.BEM_01_Abschaltstufen": 0,
    "Gateway_72.ZV_FT_offen": 0,
    "ESP_08.ESP_Tuerkontakt_Fahrertuer": 0,
    "Airbag_02.AB_Gurtschloss_FA": 2,
    "Airbag_01.AB_Gurtwarn_VF": 0,
    "Airbag_01.AB_Crash_Int": 0,
    "Blinkmodi_02.Hazard_Switch": 0,
    "BCM_01.BCM1_Warnblink_Taster": 0,
}
TESLA_PARKED: dict[str, str | float] = {
    "DI_speed.DI_vehicleSpeed": 0,
    "ESP_B.ESP_vehicleSpeed": 0,
    "ESP_B.ESP_vehicleStandstillSts": "STANDSTILL",
    "ESP_B.ESP_wheelSpeedsQF": "ALL_WSS_VALID",
    "DI_systemStatus.DI_gear": "DI_GEAR_P",
    "DI_systemStatus.DI_systemState": "DI_SYS_STANDBY",
    "DI_systemStatus.DI_brakePedalState": "OFF",
    "DI_systemStatus.DI_proximity": 0,
    "DI_state.DI_parkBrakeState": "APPLIED",
    "VCFRONT_LVPowerState.VCFRONT_vehiclePowerState": "VEHICLE_POWER_STATE_ACCESSORY",
    "VCFRONT_LVPowerState.VCFRONT_espLVState": "LV_ON",
    "VCFRONT_LVPowerState.VCFRONT_parkLVState": "LV_ON",
    "IBST_status.IBST_driverBrakeApply": "BRAKES_NOT_APPLIED",
    "UI_warning.anyDoorOpen": "CLOSED",
    "UI_warning.buckleStatus": "UNLATCHED",
    "UI_warning.leftBlinkerBlinking": "off",
    "UI_warning.rightBlinkerBlinking": "off",
    "DAS_status2.DAS_pmmObstacleSeverity": "PMM_NONE",
}
CARS = {
    "project": (PROJECT, PROJECT_PARKED),
    "vw_mqb": (VW, VW_PARKED),
    "tesla_model3": (TESLA, TESLA_PARKED),
}
UNSAFE: dict[str, dict[str, list[str | float]]] = {
    "project": {
        "ESP_Speed.ESP_VehicleSpeed": [0.5, 3, 400, Raw(0xFFFF), Raw(0x9C41)],
        "ESP_Speed.ESP_Standstill": ["NO", "NOT_AVAILABLE", Raw(2)],
        "DU_Motion.DU_VehicleSpeed": [0.5, 3, 400, Raw(0xFFFF)],
        "DU_Motion.DU_Gear": ["R", "N", "D", "NOT_AVAILABLE", Raw(7)],
        "DU_Motion.DU_Ready": ["YES", "NOT_AVAILABLE", Raw(2)],
        "EPB_Status.EPB_State": ["RELEASED", "MOVING", "FAULT", "NOT_AVAILABLE", Raw(5)],
        "EPB_Status.EPB_RollDetected": ["YES", "NOT_AVAILABLE"],
        "BRK_Pedal.BRK_PedalPressed": ["YES", "NOT_AVAILABLE"],
        "BCM_Power.BCM_PowerMode": ["READY", "NOT_AVAILABLE", Raw(5)],
        "BCM_Power.BCM_LvVoltage": [11.79, 0, Raw(0xFFFF)],
        "BCM_Power.BCM_LvState": ["WEAK", "CRITICAL", "NOT_AVAILABLE"],
        "HVB_Status.HVB_Charge": [19.5, 0, Raw(0xFF)],
        "HVB_Status.HVB_Charging": ["CHARGING", "FAULT", "NOT_AVAILABLE"],
        "BCM_Doors.BCM_DoorFrontLeft": ["NOT_AVAILABLE", Raw(2)],
        "BCM_Doors.BCM_DoorFrontRight": ["NOT_AVAILABLE"],
        "BCM_Doors.BCM_DoorRearLeft": ["NOT_AVAILABLE"],
        "BCM_Doors.BCM_DoorRearRight": ["NOT_AVAILABLE"],
        "BCM_Doors.BCM_Hood": ["NOT_AVAILABLE"],
        "BCM_Doors.BCM_Trunk": ["NOT_AVAILABLE"],
        "OCC_Presence.OCC_Driver": ["NOT_AVAILABLE", Raw(2)],
        "BCM_Hazard.BCM_HazardLights": ["NOT_AVAILABLE"],
        "BCM_Hazard.TEL_ECall": ["ACTIVE", "NOT_AVAILABLE"],
    },
    "vw_mqb": {
        "ESP_21.ESP_v_Signal": [0.5, 10, Raw(0xFFFF)],
        "ESP_21.ESP_QBit_v_Signal": [1],
        "ESP_19.ESP_HL_Radgeschw_02": [1, Raw(0xFFFF)],
        "ESP_19.ESP_HR_Radgeschw_02": [1],
        "ESP_19.ESP_VL_Radgeschw_02": [1],
        "ESP_19.ESP_VR_Radgeschw_02": [1],
        "ESP_02.ESP_Stillstandsflag": [0],
        "Getriebe_11.GE_Fahrstufe": ["R", "N", "D", "S", Raw(0), Raw(15)],
        "Gateway_73.GE_Fahrstufe": ["R", "N", "Fehler", "Zwischenstellung"],
        "Gateway_73.EPB_Status": ["offen", "teilgespannt_Halten", "im_Lauf_oeffnen", "unbekannt"],
        "Kombi_01.KBI_Handbremse": [0],
        "Motor_14.MO_Motor_laeuft": [1],
        "Motor_14.MO_HYB_Fahrbereitschaft": [1],
        "Klemmen_Status_01.ZAS_Kl_50": [1],
        "ESP_05.ESP_Fahrer_bremst": [1],
        "ESP_05.ESP_QBit_Fahrer_bremst": [1],
        "DC_Hybrid_01.DC_HYB_uAktLV": [11.7, Raw(255)],
        "BEM_05.BEM_01_Abschaltstufen": [1, 7],
        "Airbag_02.AB_Gurtschloss_FA": [Raw(0), Raw(1)],
        "Airbag_01.AB_Crash_Int": [1],
    },
    "tesla_model3": {
        "DI_speed.DI_vehicleSpeed": [0.56, -3, 120, Raw(4095)],
        "ESP_B.ESP_vehicleSpeed": [0.5, Raw(1023)],
        "ESP_B.ESP_vehicleStandstillSts": ["NOT_STANDSTILL"],
        "ESP_B.ESP_wheelSpeedsQF": ["ONE_OR_MORE_WSS_INVALID"],
        "DI_systemStatus.DI_gear": ["DI_GEAR_R", "DI_GEAR_D", "DI_GEAR_SNA", "DI_GEAR_INVALID"],
        "DI_systemStatus.DI_systemState": ["DI_SYS_ENABLE", "DI_SYS_FAULT"],
        "DI_systemStatus.DI_brakePedalState": ["ON", "INVALID"],
        "DI_systemStatus.DI_proximity": [1],
        "DI_state.DI_parkBrakeState": ["RELEASED", "RELEASING", "FAULTED", "SNA", Raw(9)],
        "VCFRONT_LVPowerState.VCFRONT_vehiclePowerState": ["VEHICLE_POWER_STATE_DRIVE"],
        "VCFRONT_LVPowerState.VCFRONT_espLVState": ["LV_GOING_DOWN", "LV_FAULT", "LV_OFF"],
        "IBST_status.IBST_driverBrakeApply": ["DRIVER_APPLYING_BRAKES", "FAULT"],
        "UI_warning.leftBlinkerBlinking": [Raw(3)],
        "DAS_status2.DAS_pmmObstacleSeverity": ["PMM_CRASH_FRONT", "PMM_SNA"],
    },
}


@pytest.fixture(scope="module", autouse=True)
def databases_read_once():
    """Reading a large database takes longer than a test; what is read never changes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(database, "_load", functools.cache(database._load))
    yield
    patch.undo()


def bench(name: str) -> tuple[Gate, SilentCar]:
    config, values = CARS[name]
    if name != "project" and not SHARED.is_dir():
        pytest.skip("the databases of the two real cars are not here")
    return Gate(config), SilentCar(config, values)


def parked_car(name: str) -> tuple[Gate, SilentCar, float]:
    gate, car = bench(name)
    now = run(gate, car, 100.0, SETTLED_S)
    assert gate.verdict(now).reasons() == ""
    assert gate.parked(now) is Ternary.TRUE
    return gate, car, now


@pytest.mark.parametrize("name", list(CARS))
@pytest.mark.requirement("C4")
def test_a_car_that_says_so_in_every_frame_is_parked(name):
    gate, _, now = parked_car(name)
    verdict = gate.verdict(now)
    assert verdict.complete
    assert {c.value for c in verdict.conditions} == {Ternary.TRUE}
    assert verdict.refusal() is None


@pytest.mark.parametrize("name", list(CARS))
def test_nothing_is_parked_before_the_first_frames(name):
    gate, _ = bench(name)
    assert gate.parked(0.0) is Ternary.UNKNOWN


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [(n, p, v) for n, each in UNSAFE.items() for p, values in each.items() for v in values],
)
@pytest.mark.requirement("C3", "C4")
def test_one_deviation_is_enough(name, path, value):
    gate, car, now = parked_car(name)
    car.set(path, value)
    gate.feed(car.frame(path.partition(".")[0]), BUS, now + 0.01)
    assert gate.parked(now + 0.01) is not Ternary.TRUE
    assert path.partition(".")[2] in gate.verdict(now + 0.01).reasons()


@pytest.mark.parametrize("name", list(CARS))
@pytest.mark.requirement("C3")
def test_each_frame_that_stays_away_ends_parked_when_it_is_stale(name):
    for missing in bench(name)[1].names:
        gate, car, now = parked_car(name)
        timeout_s = _source(gate, missing).timeout_s
        now = run(gate, car, now, timeout_s + 0.1, without=frozenset({missing}))
        assert gate.parked(now) is Ternary.UNKNOWN, missing
        assert "stale" in gate.verdict(now).reasons()


@pytest.mark.parametrize("name", list(CARS))
def test_each_frame_that_never_came_keeps_the_car_unparked(name):
    for missing in bench(name)[1].names:
        gate, car = bench(name)
        now = run(gate, car, 0.0, SETTLED_S, without=frozenset({missing}))
        assert gate.parked(now) is Ternary.UNKNOWN, missing


@pytest.mark.parametrize("name", list(CARS))
@pytest.mark.requirement("C3")
def test_each_protected_frame_that_freezes_or_is_forged_goes_stale(name):
    gate, car = bench(name)
    protected = [n for n in car.names if _source(gate, n).protected]
    for victim in protected:
        for forged in (True, False):
            gate, car, now = parked_car(name)
            frozen = car.frame(victim, counts=False)
            data = frozen.data[:-1] + bytes([frozen.data[-1] ^ 1]) if forged else frozen.data
            for _ in range(round(_source(gate, victim).timeout_s / STEP_S) + 3):
                now = run(gate, car, now, STEP_S, without=frozenset({victim}))
                gate.feed(frozen._replace(data=data), BUS, now)
            assert gate.parked(now) is not Ternary.TRUE, (victim, forged)


@pytest.mark.parametrize("name", list(CARS))
def test_a_frame_of_wrong_length_is_no_frame(name):
    gate, car, now = parked_car(name)
    victim = car.names[0]
    for _ in range(25):
        now = run(gate, car, now, STEP_S, without=frozenset({victim}))
        frame = car.frame(victim)
        gate.feed(frame._replace(data=frame.data + b"\x00"), BUS, now)
        gate.feed(frame._replace(data=frame.data[:-1]), BUS, now)
    assert gate.parked(now) is not Ternary.TRUE


def test_only_the_frames_of_the_conditions_are_received():
    gate, car = bench("project")
    assert gate.needs() == {BUS: frozenset(car.key(name) for name in car.names)}


def test_a_frame_of_another_bus_or_with_an_extended_id_is_not_ours():
    gate, car = bench("project")
    now = 0.0
    for _ in range(60):
        now += STEP_S
        for name in car.names:
            gate.feed(car.frame(name), "adas", now)
            gate.feed(car.frame(name)._replace(extended=True), BUS, now)
    assert gate.parked(now) is Ternary.UNKNOWN


def _source(gate: Gate, name: str) -> FrameSource:
    return next(s for s, _ in gate._frames.values() if s.message.name == name)
