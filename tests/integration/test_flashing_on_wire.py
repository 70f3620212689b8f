"""The agent's flashing room against the simulated controller, each a process on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import can
import pytest

from hil_rig import control
from hil_rig.firmware import make_image, memory_check_expected
from vehicle_agent.bus import BusConfig, CanPort, Frame
from vehicle_agent.flashing.images import load_image
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import MemoryCheck, Readback

PROFILE = Path(__file__).parents[2] / "vehicle_agent" / "flashing" / "adas.toml"
RUN = "from hil_rig.cli import main; raise SystemExit(main())"
KEY = bytes(range(16))
FINGERPRINT = bytes.fromhex("261122") + b"TESTER01"
SIZE = 64 * 1024


@contextlib.contextmanager
def part(*arguments):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


class Rig:
    """A wire with a controller on it, and what it takes to program it."""

    def __init__(self, folder: Path, fd: bool, hub: subprocess.Popen[str]) -> None:
        self.folder, self.fd, self.hub = folder, fd, hub
        self.bus = BusConfig(interface="wire", channel=str(folder / "hub.sock"), fd=fd)
        text = PROFILE.read_text()
        if fd:
            text = text.replace("tx_data_length = 8", "tx_data_length = 64\nbitrate_switch = true")
        (folder / "profile.toml").write_text(text)
        self.profile = load_profile(folder / "profile.toml")
        self.data = make_image("2.4.0", "RX2", "hw-3", SIZE, 7)
        (folder / "image.bin").write_bytes(self.data)
        self.image = load_image(folder / "image.bin", self.profile)
        self.memory_check = MemoryCheck(routine=0x0202, expected=memory_check_expected(self.data))

    @contextlib.asynccontextmanager
    async def programmer(self):
        programmer = Programmer.open(self.bus, self.profile, self.folder / "adas.key")
        try:
            yield programmer
        finally:
            await programmer.close()

    def control(self, do, **arguments):
        return control.call(self.folder / "adas.sock", do, **arguments)

    async def program(self, programmer, on_progress=lambda _: None, start_gate=lambda: None):
        await programmer.program(
            self.image,
            fingerprint=FINGERPRINT,
            memory_check=self.memory_check,
            on_progress=on_progress,
            start_gate=start_gate,
        )


both = pytest.mark.parametrize("rig", [False, True], ids=["classic", "fd"], indirect=True)


@pytest.fixture
def rig(request, tmp_path):
    """CAN FD unless a test asks for `both`."""
    fd = getattr(request, "param", True)
    (tmp_path / "adas.key").write_text(KEY.hex())
    (tmp_path / "adas.key").chmod(0o600)
    (tmp_path / "controller.toml").write_text(
        f"""
        control_socket = "adas.sock"
        bus = {{ interface = "wire", channel = "{tmp_path}/hub.sock", fd = {json.dumps(fd)} }}
        identity = {{ vin = "LXMA7000000000001", ecu_serial = "ADAS-1", hardware_id = "hw-3" }}
        security = {{ key_file = "adas.key" }}
        [memory]
        file = "adas.flash"
        bank_size = 0x40000
        version = "2.3.1"
        rxswin = "RX1"
        image_size = 0x2000
        [timing]
        reset_s = 0.05
        erase_s = 0.02
        """
    )
    options = ["--fd"] if fd else []
    with (
        part("wire", "--socket", str(tmp_path / "hub.sock"), *options) as hub,
        part("controller", "--config", str(tmp_path / "controller.toml")),
    ):
        yield Rig(tmp_path, fd, hub)


@both
@pytest.mark.requirement("B1")
async def test_a_release_is_programmed_activated_read_back_and_confirmed(rig, record_property):
    times: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    acknowledged = []

    def on_progress(progress):
        times.setdefault(progress.phase, loop.time())
        acknowledged.append(progress.done)

    async with rig.programmer() as programmer:
        before = await programmer.identify()
        assert before.vin == "LXMA7000000000001"
        assert (before.software_version, before.active_bank, before.trial) == ("2.3.1", 0, False)
        await rig.program(programmer, on_progress)
        speed = SIZE / (times["checking"] - times["programming"])
        record_property("bytes_per_s", round(speed))
        sys.stdout.write(f"\n{'fd' if rig.fd else 'classic'}: {speed:,.0f} bytes/s\n")
        assert acknowledged == sorted(acknowledged)
        assert acknowledged[-1] == SIZE
        await programmer.activate()
        after = await programmer.identify()
        assert (after.software_version, after.rxswin) == ("2.4.0", "RX2")
        assert (after.active_bank, after.trial, after.revertible) == (1, True, True)
        facts = [Readback(did=0xF189, equals="2.4.0"), Readback(did=0xF1EF, equals="RX2")]
        found = await programmer.read_back(facts, rig.memory_check, rig.image)
        assert found == {0xF189: "2.4.0", 0xF1EF: "RX2"}
        with pytest.raises(Refused) as refused:
            await programmer.read_back(
                [Readback(did=0xF189, equals="2.4.1")], rig.memory_check, rig.image
            )
        assert refused.value.refusal.code is Code.READBACK_MISMATCH
        health = await programmer.health()
        assert (health.dtcs, health.self_test_passed, health.trial) == ((), True, True)
        await programmer.confirm()
        await programmer.leave()
        assert not (await programmer.identify()).trial
    assert rig.control("state")["session"] == "default"


@pytest.mark.requirement("C1")
async def test_a_trial_is_reverted_to_the_software_before(rig):
    async with rig.programmer() as programmer:
        await rig.program(programmer)
        await programmer.activate()
        assert (await programmer.identify()).software_version == "2.4.0"
        await programmer.revert()
        await programmer.activate()
        after = await programmer.identify()
        await programmer.leave()
    assert (after.software_version, after.active_bank) == ("2.3.1", 0)


@both
@pytest.mark.requirement("C3")
async def test_after_an_abort_nothing_of_ours_is_on_the_bus(rig):
    """The abort comes with a block half sent; a second node on the wire sees what follows."""
    loop = asyncio.get_running_loop()
    spy = can.Bus(interface="wire", channel=rig.bus.channel)
    begun: asyncio.Future[None] = loop.create_future()
    ours: list[can.Message] = []

    def look():
        while (message := spy.recv(0)) is not None:
            if message.arbitration_id in {0x7A0, 0x7DF}:
                ours.append(message)

    def on_progress(progress):
        if progress.done and not begun.done():
            begun.set_result(None)

    loop.add_reader(spy.fileno(), look)
    try:
        async with rig.programmer() as programmer:
            programming = asyncio.create_task(rig.program(programmer, on_progress))
            await begun
            programmer.abort()
            with pytest.raises(Refused) as refused:
                await programming
            assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
            look()
            count = len(ours)
            other = CanPort.open(
                rig.bus, receive=[], transmit=[(0x123, False)], on_frame=lambda *_: None
            )
            for _ in range(200):  # the bus goes on: these come after anything left over
                await other.send(Frame(0x123, b""))
            other.close()
            look()
            assert len(ours) <= count + 1  # the one that was on the wire in that instant
            assert (await programmer.identify()).software_version == "2.3.1"
    finally:
        loop.remove_reader(spy.fileno())
        spy.shutdown()


@pytest.mark.requirement("C4")
async def test_a_gate_that_closes_stops_before_the_next_request(rig):
    asked = 0

    def start_gate():
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Refused(Code.PARK_LOST, "speed 4 km/h")

    async with rig.programmer() as programmer:
        with pytest.raises(Refused) as refused:
            await rig.program(programmer, start_gate=start_gate)
        assert refused.value.refusal.code is Code.PARK_LOST
        assert rig.control("state")["programs"] == 2  # erase, download, two blocks, no more
        await programmer.leave()
    assert rig.control("state")["session"] == "default"


async def test_a_wire_that_breaks_in_mid_transfer_is_a_refusal(rig):
    def on_progress(progress):
        if progress.done:
            rig.hub.kill()

    async with rig.programmer() as programmer:
        with pytest.raises(Refused) as refused:
            await rig.program(programmer, on_progress)
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE


async def test_a_busy_controller_and_lost_answers_do_not_stop_an_update(rig):
    rig.control("fault", kind="nrc", service=0x36, nrc=0x21)
    rig.control("fault", kind="drop_response", service=0x36, nth=3)
    rig.control("fault", kind="drop_response", service=0x37)
    async with rig.programmer() as programmer:
        await rig.program(programmer)
        await programmer.activate()
        assert (await programmer.identify()).software_version == "2.4.0"


async def test_a_controller_that_is_off_is_silent(rig):
    rig.control("power", to="off")
    async with rig.programmer() as programmer:
        with pytest.raises(Refused) as refused:
            await programmer.identify()
    assert refused.value.refusal.code is Code.CONTROLLER_SILENT


async def test_no_hub_is_bus_unavailable(tmp_path):
    config = BusConfig(interface="wire", channel=str(tmp_path / "none.sock"))
    with pytest.raises(Refused) as refused:
        CanPort.open(config, receive=[], on_frame=lambda *_: None)
    assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
