"""What a received frame costs on its way to the park gate's verdict, against bare decoding."""

from __future__ import annotations

import time
from pathlib import Path

import cantools

from tests.bench.figures import Figures
from tests.unit.parking_car import BUS, PROJECT, PROJECT_PARKED, SilentCar
from vehicle_agent.parking.gate import Gate

RUNS = 5
_ROUNDS = 400
_STEP_S = 0.05


def measure(figures: Figures) -> None:
    """Decode plus E2E plus gate, to cantools' decode of the same frames."""
    database = cantools.database.load_file(Path("dbc") / "vehicle.dbc")
    ratios, ours_us, bare_us = [], [], []
    for _ in range(RUNS):
        gate, car = Gate(PROJECT), SilentCar(PROJECT, PROJECT_PARKED)
        frames = [
            ((turn + 1) * _STEP_S, car.frame(name)) for turn in range(_ROUNDS) for name in car.names
        ]
        begin = time.process_time()
        for now, frame in frames:
            gate.feed(frame, BUS, now)
            gate.parked(now)
        ours = time.process_time() - begin
        if str(gate.verdict(frames[-1][0]).parked) != "true":
            raise AssertionError(gate.verdict(frames[-1][0]).reasons())
        messages = [(database.get_message_by_frame_id(f.arbitration_id), f.data) for _, f in frames]
        begin = time.process_time()
        for message, data in messages:
            message.decode(data)
        bare = time.process_time() - begin
        ratios.append(ours / bare)
        ours_us.append(ours / len(frames) * 1e6)
        bare_us.append(bare / len(frames) * 1e6)
    detail = (
        f"a frame: decode + E2E + gate {' '.join(f'{us:.1f}' for us in ours_us)} us, "
        f"cantools decode {' '.join(f'{us:.1f}' for us in bare_us)} us CPU"
    )
    figures.add("park.decode_ratio", ratios, limit="<= 2", detail=detail)
