"""`hil-rig car --config FILE`: the moving car as a process on a CAN bus.

It sends every message of the vehicle's DBC and the drive unit's `DU_InhibitStatus`, and obeys
`OTA_DriveInhibit`. The configuration:

    [bus]
    interface = "wire"              # python-can interface; "socketcan" for vcan0
    channel = "/run/rig/hub.sock"
    fd = false                      # the bus carries CAN FD too; the car's own frames stay classic
    [bus.options]                   # further keywords of that interface
    [car]
    vehicle_dbc = "dbc/vehicle.dbc"
    adas_dbc = "dbc/adas.dbc"
    control = "/run/rig/car.sock"   # control socket
    driving = true                  # false: it begins parked
    park_after_s = 20.0             # leave out: it drives on until told
    cruise_kmh = 50.0
    pace = 1.0                      # 2: manoeuvres take half their time
    inhibit_hold_s = 10.0
    seed = 1                        # of the noise in the two speeds

Requests on the control socket: `state`; `set` with keys of `vehicle.CarState` (null takes one
back); `drive`; `park`; `scenario` (`park_after_s`); `fault` (`message` and the fields of
`residual_bus.Fault`); `clear` (the faults of `message`, or without it all faults and set values);
`gear` (`gear`) and `ready`, as a driver asks for them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import can
import cantools
import msgspec
from cantools.database.can import Database

from hil_rig import control
from hil_rig.drive_unit import DriveUnit
from hil_rig.residual_bus import CyclicFrame, Fault, ResidualBus
from hil_rig.vehicle import CarState, Gear, Vehicle

RETRY_S = 0.001

log = logging.getLogger("hil-rig car")

_Positive = Annotated[float, msgspec.Meta(gt=0)]


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A python-can bus."""

    interface: str
    channel: str
    fd: bool = False
    options: dict[str, str | int | float | bool] = {}


class CarConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[car]`; files are relative to the working directory."""

    vehicle_dbc: str
    adas_dbc: str
    control: str
    driving: bool = True
    park_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    cruise_kmh: Annotated[float, msgspec.Meta(gt=0, le=200)] = 50.0
    pace: _Positive = 1.0
    inhibit_hold_s: _Positive = 10.0
    seed: int = 1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    bus: BusConfig
    car: CarConfig


class Car:
    """Vehicle, drive unit and residual bus together; no I/O, times are handed in."""

    def __init__(self, config: CarConfig, vehicle: Database, adas: Database, now: float) -> None:
        """Raises KeyError or ValueError if the DBC files lack what the car needs."""
        self._vehicle = Vehicle(
            now,
            driving=config.driving,
            cruise_kmh=config.cruise_kmh,
            pace=config.pace,
            noise=random.Random(config.seed),
        )
        request = adas.get_message_by_name("OTA_DriveInhibit")
        self.inhibit_id = request.frame_id
        self._drive_unit = DriveUnit(request, hold_s=config.inhibit_hold_s)
        status = adas.get_message_by_name("DU_InhibitStatus")
        self._residual_bus = ResidualBus([*vehicle.messages, status], start=now)
        self._park_at = None if config.park_after_s is None else now + config.park_after_s
        self._now = now

    @property
    def next_due_at(self) -> float:
        """When `step` will have a frame to send."""
        return self._residual_bus.next_due_at

    def step(self, now: float) -> list[CyclicFrame]:
        """Go on to `now`; the frames to send."""
        if self._park_at is not None and self._park_at <= now:
            self._advance(self._park_at)
            self._vehicle.park()
            self._park_at = None
        self._advance(now)
        inhibit = self._drive_unit.status(now, gear=self._vehicle.state.gear)
        return self._residual_bus.due(now, self._vehicle.signals() | inhibit.signals())

    def receive(self, arbitration_id: int, data: bytes, now: float) -> None:
        """A frame came in from the bus."""
        if arbitration_id == self.inhibit_id:
            self._advance(now)
            gear, standstill = self._vehicle.state.gear, self._vehicle.standstill
            self._drive_unit.receive(data, now, gear=gear, standstill=standstill)

    def control(self, do: str, request: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Carry out a request of the control socket; raises ValueError or KeyError."""
        arguments = {key: value for key, value in request.items() if key != "do"}
        self._advance(now)
        match do:
            case "state":
                pass
            case "set":
                self._vehicle.override(arguments)
            case "drive":
                self._park_at = None
                self._vehicle.drive()
            case "park":
                self._park_at = None
                self._vehicle.park()
            case "scenario":
                self._park_at = now + msgspec.convert(arguments["park_after_s"], float)
                self._vehicle.drive()
            case "fault":
                message = msgspec.convert(arguments.pop("message"), str)
                self._residual_bus.set_fault(message, msgspec.convert(arguments, Fault))
            case "clear":
                only = msgspec.convert(arguments.get("message"), str | None)
                self._residual_bus.clear_faults(only)
                if only is None:
                    self._vehicle.clear_overrides()
            case "gear":
                gear = msgspec.convert(arguments["gear"], Gear)
                return self._driver_got(
                    self._vehicle.request_gear(gear, inhibited=self._inhibited(now))
                )
            case "ready":
                return self._driver_got(self._vehicle.request_ready(inhibited=self._inhibited(now)))
            case _:
                raise ValueError(f"{do!r} is not a request of the car")
        return self._report(now)

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)
        self._vehicle.step(self._now, inhibited=self._inhibited(self._now))

    def _inhibited(self, now: float) -> bool:
        return self._drive_unit.inhibits(now, gear=self._vehicle.state.gear)

    def _driver_got(self, refusal: str | None) -> dict[str, Any]:
        return {"granted": refusal is None, "reason": refusal}

    def _report(self, now: float) -> dict[str, Any]:
        state = self._vehicle.state
        inhibit = self._drive_unit.status(now, gear=state.gear)
        truth = {key: getattr(state, key) for key in CarState.__struct_fields__}
        return {
            "state": truth | {"energy": self._vehicle.energy_wh},
            "manoeuvre": self._vehicle.manoeuvre,
            "standstill": self._vehicle.standstill,
            "set": self._vehicle.overrides,
            "inhibited": inhibit.inhibited,
            "inhibit_hold_s": round(inhibit.hold_s, 3),
            "invalid_requests": self._drive_unit.invalid_requests,
            "faults": msgspec.to_builtins(self._residual_bus.faults),
            "missed": self._residual_bus.missed,
        }


class Sender:
    """Frames on their way to a bus that may be full: the newest of each message waits its turn."""

    def __init__(self, bus: can.BusABC) -> None:
        self._bus = bus
        self._waiting: dict[str, CyclicFrame] = {}
        self.sent: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.refused = 0

    @property
    def waiting(self) -> bool:
        """Whether frames wait for room."""
        return bool(self._waiting)

    def send(self, frames: Iterable[CyclicFrame]) -> None:
        """Send what the bus takes; a frame that still waits gives way to a newer one."""
        for frame in frames:
            if frame.name in self._waiting:
                self.dropped[frame.name] += 1
            self._waiting[frame.name] = frame
        for frame in list(self._waiting.values()):
            try:
                self._bus.send(
                    can.Message(
                        arbitration_id=frame.arbitration_id,
                        is_extended_id=frame.extended,
                        data=frame.data,
                    )
                )
            except can.CanOperationError as error:
                if not self.refused:
                    log.warning("bus takes no frame at the moment: %s", error)
                self.refused += 1
                return
            del self._waiting[frame.name]
            self.sent[frame.name] += 1


async def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the exit code (1: the bus is gone)."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not stop.done():
            stop.set_result(code)

    vehicle = cantools.database.load_file(config.car.vehicle_dbc)
    adas = cantools.database.load_file(config.car.adas_dbc)
    if not isinstance(vehicle, Database) or not isinstance(adas, Database):
        raise ValueError("vehicle_dbc and adas_dbc must be CAN databases")
    car = Car(config.car, vehicle, adas, loop.time())
    keywords: dict[str, Any] = {**config.bus.options, **({"fd": True} if config.bus.fd else {})}
    with can.Bus(
        interface=config.bus.interface,
        channel=config.bus.channel,
        can_filters=[{"can_id": car.inhibit_id, "can_mask": 0x7FF, "extended": False}],
        **keywords,
    ) as bus:
        sender = Sender(bus)

        def receive() -> None:
            try:
                while message := bus.recv(0):
                    car.receive(message.arbitration_id, bytes(message.data), loop.time())
            except can.CanError as error:
                log.error("bus %s is gone: %s", config.bus.channel, error)
                end(1)

        async def answer(do: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
            counts = {"sent": sender.sent, "dropped": sender.dropped, "refused": sender.refused}
            return car.control(do, request, loop.time()) | counts

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, 0)
        loop.add_reader(bus.fileno(), receive)
        server = await control.serve(Path(config.car.control), answer)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        try:
            while not stop.done():
                sender.send(car.step(loop.time()))
                wake = loop.time() + RETRY_S if sender.waiting else car.next_due_at
                await asyncio.wait([stop], timeout=max(0.0, wake - loop.time()))
        finally:
            loop.remove_reader(bus.fileno())
            server.close()
            Path(config.car.control).unlink(missing_ok=True)
    return stop.result()


def main(argv: list[str]) -> int:
    """0 after SIGTERM, 1 if the bus is away or gone, 2 for a bad configuration."""
    parser = argparse.ArgumentParser(
        prog="hil-rig car", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    options = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    try:
        config = msgspec.toml.decode(options.config.read_bytes(), type=Config)
        return asyncio.run(run(config))
    except can.CanError as error:
        log.error("bus: %s", error)
        return 1
    except (OSError, ValueError, KeyError, cantools.Error) as error:
        log.error("%s: %s", options.config, error)
        return 2
