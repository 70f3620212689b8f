"""The car as a whole, its time handed in: what it sends and what it answers when told things."""

from __future__ import annotations

import errno
from pathlib import Path

import can
import cantools
import pytest

from hil_rig.car import Car, CarConfig, Sender, main
from hil_rig.residual_bus import CyclicFrame, E2EProtection

DBC = Path(__file__).parents[2] / "dbc"
VEHICLE = cantools.database.load_file(DBC / "vehicle.dbc")
ADAS = cantools.database.load_file(DBC / "adas.dbc")
REQUEST = ADAS.get_message_by_name("OTA_DriveInhibit")


class Ride:
    """A car and its clock; `told` is what each signal said last."""

    def __init__(self, **options) -> None:
        config = CarConfig(vehicle_dbc="", adas_dbc="", control="", **options)
        self.now = 100.0
        self.car = Car(config, VEHICLE, ADAS, self.now)
        self.told: dict = {}
        self.names: set[str] = set()
        self._counter = 0

    def go(self, seconds: float) -> None:
        end = self.now + seconds
        while self.car.next_due_at <= end:
            self.now = self.car.next_due_at
            for frame in self.car.step(self.now):
                database = ADAS if frame.name == "DU_InhibitStatus" else VEHICLE
                message = database.get_message_by_name(frame.name)
                self.told |= message.decode_simple(frame.data)
                self.names.add(frame.name)
        self.now = end

    def ask(self, do: str, **arguments) -> dict:
        return self.car.control(do, {"do": do, **arguments}, self.now)

    def request(self, command: int) -> None:
        data = bytes([0, self._counter, command, command, 0, 0, 0, 0])
        self._counter = (self._counter + 1) % 15
        protected = E2EProtection.of(REQUEST).protect(data)
        self.car.receive(REQUEST.frame_id, protected, self.now)

    def inhibit(self) -> None:
        for _ in range(2):
            self.request(1)
            self.go(0.05)


def test_all_messages_of_the_vehicle_and_the_inhibit_status_are_sent() -> None:
    ride = Ride()
    ride.go(0.5)
    assert ride.names == {m.name for m in VEHICLE.messages} | {"DU_InhibitStatus"}
    assert ride.told["DU_Gear"] == "D"
    assert ride.told["DU_VehicleSpeed"] == pytest.approx(50, abs=0.5)


def test_a_car_that_is_to_park_by_itself_does_so() -> None:
    ride = Ride(park_after_s=5.0)
    ride.go(4.9)
    assert ride.ask("state")["manoeuvre"] == "driving"
    ride.go(0.2)
    assert ride.ask("state")["manoeuvre"] == "parking"
    ride.go(20)
    assert ride.ask("state")["manoeuvre"] == "parked"
    assert ride.told["BCM_PowerMode"] == "ACCESSORY"


def test_a_scenario_drives_off_and_parks_after_its_time() -> None:
    ride = Ride(driving=False)
    ride.ask("scenario", park_after_s=15)
    ride.go(14)
    assert ride.ask("state")["manoeuvre"] == "driving"
    ride.go(20)
    assert ride.ask("state")["manoeuvre"] == "parked"


def test_drive_and_park_are_obeyed() -> None:
    ride = Ride()
    assert ride.ask("park")["manoeuvre"] == "parking"
    ride.go(20)
    assert ride.ask("drive")["manoeuvre"] == "starting"
    ride.go(20)
    assert ride.told["DU_Gear"] == "D"


def test_set_values_and_faults_show_on_the_bus_until_cleared() -> None:
    ride = Ride(driving=False)
    ride.ask("set", gear="R", driver="OCCUPIED")
    ride.ask("fault", message="EPB_Status", kind="not_available")
    ride.go(0.5)
    told = (ride.told["DU_Gear"], ride.told["OCC_Driver"], ride.told["EPB_State"])
    assert told == ("R", "OCCUPIED", "NOT_AVAILABLE")
    assert ride.ask("state")["set"] == {"gear": "R", "driver": "OCCUPIED"}
    assert list(ride.ask("state")["faults"]) == ["EPB_Status"]
    ride.ask("clear", message="EPB_Status")
    ride.go(0.5)
    assert (ride.told["DU_Gear"], ride.told["EPB_State"]) == ("R", "APPLIED")
    ride.ask("clear")
    ride.go(0.5)
    assert (ride.told["DU_Gear"], ride.told["OCC_Driver"]) == ("P", "EMPTY")


@pytest.mark.requirement("D3")
def test_while_inhibited_neither_gear_nor_readiness_is_let_through() -> None:
    ride = Ride(driving=False)
    ride.inhibit()
    assert ride.told["DU_Inhibited"] == "YES"
    for do, arguments in (("ready", {}), ("gear", {"gear": "D"}), ("gear", {"gear": "N"})):
        answer = ride.ask(do, **arguments)
        assert answer == {"granted": False, "reason": "drive inhibited"}
    ride.go(9.8)
    assert ride.told["DU_Inhibited"] == "YES"
    ride.go(0.4)
    assert ride.told["DU_Inhibited"] == "NO"
    assert ride.ask("ready")["granted"] is True
    assert ride.ask("gear", gear="D")["granted"] is True


@pytest.mark.requirement("D3")
def test_a_release_lets_the_driver_go_at_once() -> None:
    ride = Ride(driving=False)
    ride.inhibit()
    ride.request(0)
    assert ride.ask("ready")["granted"] is True


@pytest.mark.requirement("D3")
def test_an_owner_who_comes_back_during_the_inhibit_does_not_get_away() -> None:
    ride = Ride(driving=False)
    ride.inhibit()
    ride.ask("drive")
    for _ in range(200):
        ride.request(1)
        ride.go(0.05)
    assert ride.ask("state")["manoeuvre"] == "stranded"
    assert (ride.told["DU_Gear"], ride.told["DU_Ready"]) == ("P", "NO")
    assert ride.told["DU_Inhibited"] == "YES"


@pytest.mark.requirement("D3")
def test_a_moving_car_refuses_the_inhibit() -> None:
    ride = Ride()
    ride.inhibit()
    assert ride.told["DU_Inhibited"] == "REFUSED"


@pytest.mark.parametrize(
    ("do", "arguments", "words"),
    [
        ("fly", {}, "'fly' is not a request"),
        ("set", {"speed": "fast"}, "speed"),
        ("set", {"colour": "red"}, "'colour' is not one of"),
        ("fault", {"kind": "stop"}, "message"),
        ("fault", {"message": ["ESP_Speed"], "kind": "stop"}, "str"),
        ("fault", {"message": "ESP_Speed", "kind": "explode"}, "kind"),
        ("fault", {"message": "ESP_Speed", "kind": "stop", "count": 0}, "count"),
        ("fault", {"message": "ESP_Speed", "kind": "stop", "cout": 2}, "cout"),
        ("clear", {"message": "ESP"}, "no message 'ESP'"),
        ("gear", {"gear": "5"}, "5"),
        ("gear", {}, "gear"),
        ("scenario", {"park_after_s": "soon"}, "float"),
        ("scenario", {}, "park_after_s"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(do, arguments, words) -> None:
    ride = Ride(driving=False)
    with pytest.raises((ValueError, KeyError), match=words):
        ride.ask(do, **arguments)
    assert ride.ask("state")["set"] == ride.ask("state")["faults"] == {}


class FullBus:
    """Takes `room` frames, then none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[can.Message] = []

    def send(self, message: can.Message) -> None:
        if len(self.taken) >= self.room:
            raise can.CanOperationError("full", errno.ENOBUFS)
        self.taken.append(message)


def test_frames_that_find_no_room_wait_and_the_newest_of_a_message_wins() -> None:
    def frame(name: str, value: int) -> CyclicFrame:
        return CyclicFrame(name, ord(name), False, bytes([value]))

    bus = FullBus(room=1)
    sender = Sender(bus)
    sender.send([frame("a", 1), frame("b", 1)])
    sender.send([frame("b", 2), frame("c", 1)])
    assert sender.waiting
    bus.room = 10
    sender.send([])
    assert [(chr(m.arbitration_id), m.data[0]) for m in bus.taken] == [("a", 1), ("b", 2), ("c", 1)]
    assert not sender.waiting
    assert (sender.sent["b"], sender.dropped["b"], sender.refused) == (1, 1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("[bus", "table declaration"),
        ("[bus]\ninterface = 'wire'\nchannel = 'x'\n", "car"),
        ("[bus]\ninterface='wire'\nchannel='x'\nspeed=1\n", "speed"),
        (
            "[bus]\ninterface='wire'\nchannel='x'\n[car]\nvehicle_dbc='x'\nadas_dbc='x'\n"
            "control='x'\npace=0\n",
            "pace",
        ),
        (
            "[bus]\ninterface='wire'\nchannel='x'\n[car]\nvehicle_dbc='/nowhere.dbc'\n"
            "adas_dbc='x'\ncontrol='x'\n",
            "nowhere.dbc",
        ),
        (
            f"[bus]\ninterface='wire'\nchannel='x'\n[car]\nvehicle_dbc='{DBC}/vehicle.dbc'\n"
            f"adas_dbc='{DBC}/vehicle.dbc'\ncontrol='x'\n",
            "OTA_DriveInhibit",
        ),
    ],
)
def test_a_bad_configuration_ends_with_one_line_and_code_2(tmp_path, caplog, text, words) -> None:
    file = tmp_path / "car.toml"
    if text is not None:
        file.write_text(text)
    assert main(["--config", str(file)]) == 2
    (record,) = caplog.records
    assert words in record.getMessage()
    assert "\n" not in record.getMessage()
