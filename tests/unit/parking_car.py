"""A car in memory for tests of the park gate: frames from any DBC, protected by other code.

P01 and P02 come from the autosar-e2e library, the byte sum from three lines here, so that the
agent's own implementation is never its own witness.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cantools
import e2e

from vehicle_agent.bus import Frame
from vehicle_agent.parking.gate import Gate
from vehicle_agent.parking.park_config import ParkConfig, resolve

BUS = "vehicle"
STEP_S = 0.05

PROJECT = ParkConfig(condition_set="project")
PROJECT_PARKED: dict[str, str | float] = {
    "ESP_Speed.ESP_VehicleSpeed": 0,
    "ESP_Speed.ESP_Standstill": "YES",
    "DU_Motion.DU_VehicleSpeed": 0,
    "DU_Motion.DU_Gear": "P",
    "DU_Motion.DU_Ready": "NO",
    "EPB_Status.EPB_State": "APPLIED",
    "EPB_Status.EPB_RollDetected": "NO",
    "BRK_Pedal.BRK_PedalPressed": "NO",
    "BCM_Power.BCM_PowerMode": "ON",
    "BCM_Power.BCM_LvVoltage": 12.6,
    "BCM_Power.BCM_LvState": "GOOD",
    "HVB_Status.HVB_Charge": 60,
    "HVB_Status.HVB_Charging": "NOT_PLUGGED",
    "BCM_Doors.BCM_DoorFrontLeft": "CLOSED",
    "BCM_Doors.BCM_DoorFrontRight": "OPEN",
    "BCM_Doors.BCM_DoorRearLeft": "CLOSED",
    "BCM_Doors.BCM_DoorRearRight": "CLOSED",
    "BCM_Doors.BCM_Hood": "CLOSED",
    "BCM_Doors.BCM_Trunk": "CLOSED",
    "OCC_Presence.OCC_Driver": "OCCUPIED",
    "BCM_Hazard.BCM_HazardLights": "OFF",
    "BCM_Hazard.TEL_ECall": "IDLE",
}


@functools.cache
def _database(file: str) -> cantools.database.Database:
    return cantools.database.load_file(file, strict=False)


class Raw(int):
    """A raw value, where a test wants what no physical value gives."""


class SilentCar:
    """Sends the frames of a condition set, each with its counter and checksum."""

    def __init__(self, config: ParkConfig, values: dict[str, str | float]) -> None:
        config = resolve(config, Path())
        self._configs = config.frames
        databases = [_database(file) for file in config.dbc]
        self._messages = {m.name: m for db in databases for m in db.messages}
        self.names = sorted({path.partition(".")[0] for path in values})
        self._raw = {n: {s.name: 0 for s in self._messages[n].signals} for n in self.names}
        self._counter = dict.fromkeys(self.names, 0)
        for path, value in values.items():
            self.set(path, value)

    def set(self, path: str, value: str | float) -> None:
        name, _, signal_name = path.partition(".")
        signal = self._messages[name].get_signal_by_name(signal_name)
        if isinstance(value, str):
            raw = signal.choice_to_number(value)
        else:
            raw = value if isinstance(value, Raw) else signal.scaled_to_raw(value)
        self._raw[name][signal_name] = int(raw)

    def frame(self, name: str, *, counts: bool = True) -> Frame:
        """The next frame of message `name`; with `counts` false it repeats the counter."""
        message = self._messages[name]
        payload = bytearray(message.encode(self._raw[name], scaling=False, strict=False))
        counter = self._counter[name]
        if counts:
            self._counter[name] = counter + 1
        return Frame(message.frame_id, self._protect(name, payload, counter))

    def key(self, name: str) -> tuple[int, bool]:
        return self._messages[name].frame_id, False

    def _protect(self, name: str, data: bytearray, counter: int) -> bytes:
        config = self._configs.get(name)
        kind = config.protection if config else "e2e-p01"
        if kind == "none":
            return bytes(data)
        offset = config.counter_offset if config else 8
        at, shift = divmod(offset, 8)
        modulus = 15 if kind == "e2e-p01" else 16
        data[at] = data[at] & ~(0xF << shift) & 0xFF | (counter % modulus) << shift
        if kind == "e2e-p01":
            data_id = self._messages[name].dbc.attributes["E2EDataId"].value
            e2e.p01.e2e_p01_protect(data, data_id, increment_counter=False)
        elif kind == "e2e-p02":
            ids = bytes.fromhex(config.data_id_list)
            e2e.p02.e2e_p02_protect(
                data, ids if len(ids) == 16 else ids * 16, increment_counter=False
            )
        elif kind == "sum":
            crc_at = config.crc_offset // 8
            data[crc_at] = 0
            identifier = self._messages[name].frame_id
            data[crc_at] = (sum(data) + identifier % 256 + identifier // 256) % 256
        return bytes(data)


def run(
    gate: Gate, car: SilentCar, now: float, seconds: float, *, without: frozenset[str] = frozenset()
) -> float:
    """Send every message but those `without` each 50 ms for `seconds`; the time of the last."""
    for _ in range(round(seconds / STEP_S)):
        now += STEP_S
        for name in car.names:
            if name not in without:
                gate.feed(car.frame(name), BUS, now)
    return now
