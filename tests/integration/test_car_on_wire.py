"""The car as a process on the software wire, seen by any python-can program."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import can
import cantools
import pytest

from hil_rig import control
from hil_rig.car import main
from hil_rig.residual_bus import E2EProtection

DBC = Path(__file__).parents[2] / "dbc"
DATABASE = cantools.database.Database()
for _name in ("vehicle.dbc", "adas.dbc"):
    DATABASE.add_dbc_file(DBC / _name)
SENT = [m for m in DATABASE.messages if m.name not in {"ADAS_Status", "OTA_DriveInhibit"}]
RUN = "from hil_rig.cli import main; raise SystemExit(main())"


@contextmanager
def part(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A part of the rig that has said it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


@contextmanager
def wire(folder: Path, *options: str) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    socket = folder / "hub.sock"
    with part("wire", "--socket", str(socket), *options) as process:
        yield socket, process


def configuration(folder: Path, hub: Path, *settings: str) -> Path:
    file = folder / "car.toml"
    lines = [
        "[bus]",
        "interface = 'wire'",
        f"channel = '{hub}'",
        "[car]",
        f"vehicle_dbc = '{DBC}/vehicle.dbc'",
        f"adas_dbc = '{DBC}/adas.dbc'",
        f"control = '{folder}/car.sock'",
        *settings,
    ]
    file.write_text("\n".join(lines))
    return file


@contextmanager
def car(folder: Path, hub: Path, *settings: str) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    with part("car", "--config", str(configuration(folder, hub, *settings))) as process:
        yield folder / "car.sock", process


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("car")
    with wire(folder) as (hub, _), car(folder, hub, "pace = 20.0") as (socket, _):
        yield hub, socket


@pytest.fixture
def bus(bench) -> Iterator[can.BusABC]:
    with can.Bus(interface="wire", channel=str(bench[0])) as bus:
        yield bus


def receive(bus: can.BusABC) -> can.Message:
    message = bus.recv(10.0)
    assert message is not None, "the bus is silent"
    return message


def until(bus: can.BusABC, reached: Callable[[dict], bool]) -> dict:
    """What the signals say when `reached` holds of them."""
    told: dict = {}
    while not reached(told):
        message = receive(bus)
        told |= DATABASE.decode_message(message.arbitration_id, message.data)
    return told


def test_every_message_keeps_its_cycle_by_the_timestamps_of_the_trace(bench, bus) -> None:
    trace: dict[int, list[can.Message]] = {message.frame_id: [] for message in SENT}
    while len(trace[0x0A0]) < 100:
        message = receive(bus)
        trace[message.arbitration_id].append(message)
    missed = control.call(bench[1], "state")["missed"]
    for message in SENT:
        frames = trace[message.frame_id]
        cycle_s = message.cycle_time / 1000
        cycles = (frames[-1].timestamp - frames[0].timestamp) / cycle_s
        # A frame is late by less than a cycle, or its deadline counts as missed.
        assert len(frames) - 1 <= cycles + 2
        assert cycles - 2 <= len(frames) - 1 + missed[message.name]
        counters = [frame.data[1] & 0x0F for frame in frames]
        assert counters == [(counters[0] + k) % 15 for k in range(len(counters))]
        protection = E2EProtection.of(message)
        assert all(protection.check(bytes(frame.data)) for frame in frames)


def test_the_car_drives_then_parks_when_told(bench, bus) -> None:
    control.call(bench[1], "drive")
    until(bus, lambda told: told.get("DU_VehicleSpeed", 0) > 10 and told.get("DU_Gear") == "D")
    control.call(bench[1], "park")
    parked = until(
        bus,
        lambda told: (
            told.get("OCC_Driver") == "EMPTY"
            and told.get("BCM_DoorFrontLeft") == "CLOSED"
            and told.get("ESP_Standstill") == "YES"
        ),
    )
    assert (parked["DU_Gear"], parked["EPB_State"], parked["DU_Ready"]) == ("P", "APPLIED", "NO")
    assert (parked["ESP_VehicleSpeed"], parked["DU_VehicleSpeed"]) == (0, 0)


@pytest.mark.requirement("D3")
def test_the_drive_unit_answers_requests_over_the_bus(bench, bus) -> None:
    control.call(bench[1], "park")
    until(bus, lambda told: told.get("ESP_Standstill") == "YES" and told.get("DU_Gear") == "P")
    message = DATABASE.get_message_by_name("OTA_DriveInhibit")

    def ask(command: str, answer: str) -> None:
        for counter in range(60):
            content = {
                "OTA_DriveInhibit_CRC": 0,
                "OTA_DriveInhibit_CNT": counter % 15,
                "OTA_InhibitRequest": command,
                "OTA_InhibitReason": "UPDATE",
            }
            data = E2EProtection.of(message).protect(message.encode(content))
            bus.send(can.Message(arbitration_id=message.frame_id, is_extended_id=False, data=data))
            if until(bus, lambda told: "DU_Inhibited" in told)["DU_Inhibited"] == answer:
                return
        pytest.fail(f"never {answer}")

    ask("INHIBIT", "YES")
    assert control.call(bench[1], "gear", gear="D")["granted"] is False
    ask("RELEASE", "NO")
    assert control.call(bench[1], "ready")["granted"] is True


def test_a_bus_without_room_does_not_stop_the_car(tmp_path) -> None:
    with (
        wire(tmp_path, "--bitrate", "10000", "--queue", "1") as (hub, _),
        car(tmp_path, hub) as (socket, process),
        can.Bus(interface="wire", channel=str(hub)) as bus,
    ):
        for _ in range(20):
            receive(bus)
        state = control.call(socket, "state")
        assert state["refused"] > 0
        assert sum(state["dropped"].values()) > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not socket.exists()


def test_a_car_whose_wire_goes_ends_with_one_line_and_code_1(tmp_path) -> None:
    with wire(tmp_path) as (hub, hub_process), car(tmp_path, hub) as (_, process):
        hub_process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 1
        assert "gone" in process.stderr.read()


def test_a_car_without_a_wire_says_so_and_ends_with_code_1(tmp_path, caplog) -> None:
    file = configuration(tmp_path, tmp_path / "none.sock")
    assert main(["--config", str(file)]) == 1
    (record,) = caplog.records
    assert "none.sock" in record.getMessage()
