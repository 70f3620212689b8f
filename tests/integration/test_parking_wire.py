"""The agent's park gate and drive inhibit beside the simulated car, on the software wire."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from hil_rig import control
from vehicle_agent.bus import BusConfig
from vehicle_agent.parking.gate import Verdict
from vehicle_agent.parking.inhibit import DriveInhibit, InhibitConfig
from vehicle_agent.parking.inhibit_protocol import RequestConfig, StatusConfig
from vehicle_agent.parking.monitor import ParkMonitor
from vehicle_agent.parking.park_config import ParkConfig, resolve
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refused

DBC = Path(__file__).parents[2] / "dbc"
PROJECT = resolve(ParkConfig(condition_set="project"), Path())
QUICK = msgspec.structs.replace(
    PROJECT, conditions=tuple(msgspec.structs.replace(c, hold_s=0.1) for c in PROJECT.conditions)
)
RUN = "from hil_rig.cli import main; raise SystemExit(main())"
INHIBIT = InhibitConfig(
    bus="vehicle",
    dbc=(str(DBC / "adas.dbc"),),
    request=RequestConfig(
        message="OTA_DriveInhibit",
        inhibit={"OTA_InhibitRequest": "INHIBIT"},
        release={"OTA_InhibitRequest": "RELEASE"},
        reason_signal="OTA_InhibitReason",
    ),
    status=StatusConfig(message="DU_InhibitStatus", signal="DU_Inhibited", acknowledged="YES"),
)


@contextmanager
def part(*arguments: str) -> Iterator[None]:
    """A part of the rig that has said it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Path]:
    """A wire and a parked car on it; the folder has hub.sock and car.sock."""
    folder = tmp_path_factory.mktemp("parking")
    (folder / "car.toml").write_text(
        f"[bus]\ninterface = 'wire'\nchannel = '{folder}/hub.sock'\n"
        f"[car]\nvehicle_dbc = '{DBC}/vehicle.dbc'\nadas_dbc = '{DBC}/adas.dbc'\n"
        f"control = '{folder}/car.sock'\ndriving = false\npace = 20.0\n"
    )
    with (
        part("wire", "--socket", f"{folder}/hub.sock"),
        part("car", "--config", f"{folder}/car.toml"),
    ):
        yield folder


class Agent:
    """Gate and inhibit as the daemon opens them, and the way to tell the car something."""

    def __init__(self, folder: Path) -> None:
        buses = {"vehicle": BusConfig("wire", str(folder / "hub.sock"))}
        self._car = folder / "car.sock"
        self.park = ParkMonitor.open(QUICK, buses)
        self.inhibit = DriveInhibit.open(INHIBIT, buses)

    async def tell(self, do: str, **arguments: object) -> dict[str, object]:
        return await asyncio.to_thread(control.call, self._car, do, **arguments)

    async def lost(self) -> Verdict:
        """The verdict that a guard is called with."""
        loss: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.park.guard(lambda verdict: loss.done() or loss.set_result(verdict))
        return await loss

    async def lost_by(self, do: str, **arguments: object) -> Verdict:
        losing = asyncio.create_task(self.lost())
        await asyncio.sleep(0)
        await self.tell(do, **arguments)
        return await losing


@pytest_asyncio.fixture
async def agent(bench) -> AsyncIterator[Agent]:
    agent = Agent(bench)
    try:
        async with asyncio.timeout(30):
            await agent.park.parked()
            yield agent
    finally:
        agent.park.close()
        agent.inhibit.close()
        for do in ("clear", "drive", "park"):
            await agent.tell(do)


@pytest.mark.requirement("C4")
async def test_the_parked_car_is_seen_to_be_parked(agent):
    verdict = agent.park.verdict()
    assert verdict.is_parked
    assert verdict.complete
    assert verdict.reasons() == ""


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"speed": 4.0}, "VehicleSpeed"),
        ({"gear": "D"}, "DU_Gear D"),
        ({"epb": "RELEASED"}, "EPB_State RELEASED"),
        ({"roll": "YES"}, "EPB_RollDetected YES"),
        ({"brake": "YES"}, "BRK_PedalPressed YES"),
        ({"ready": "YES"}, "DU_Ready YES"),
        ({"power_mode": "READY"}, "BCM_PowerMode READY"),
        ({"lv_voltage": 11.0}, "BCM_LvVoltage 11 V"),
        ({"charge": 12.0}, "HVB_Charge 12 %"),
        ({"charging": "CHARGING"}, "HVB_Charging CHARGING"),
        ({"ecall": "ACTIVE"}, "TEL_ECall ACTIVE"),
    ],
)
@pytest.mark.requirement("C3", "C4")
async def test_the_guard_cries_when_the_car_says_it_is_not_parked(agent, setting, named):
    verdict = await agent.lost_by("set", **setting)
    assert verdict.parked is Ternary.FALSE
    assert named in verdict.reasons()


@pytest.mark.parametrize("kind", ["stop", "freeze", "bad_crc", "counter_frozen", "not_available"])
@pytest.mark.requirement("C3")
async def test_the_guard_cries_when_a_frame_is_no_longer_to_be_trusted(agent, kind):
    verdict = await agent.lost_by("fault", message="ESP_Speed", kind=kind)
    assert verdict.parked is Ternary.UNKNOWN
    words = "not available" if kind == "not_available" else "stale"
    assert f"ESP_VehicleSpeed {words}" in verdict.reasons()


@pytest.mark.requirement("D3")
async def test_an_inhibited_car_cannot_be_driven_and_a_released_one_can(agent):
    await agent.inhibit.acquire("UPDATE")
    assert agent.inhibit.held
    assert (await agent.tell("gear", gear="D"))["granted"] is False
    assert (await agent.tell("ready"))["granted"] is False
    await agent.inhibit.release()
    assert (await agent.tell("ready"))["granted"] is True


@pytest.mark.requirement("D3")
async def test_the_inhibit_outlives_an_agent_that_dies_and_is_taken_up_by_the_next(agent, bench):
    await agent.inhibit.acquire("UPDATE")
    agent.inhibit.close()
    assert (await agent.tell("ready"))["granted"] is False
    successor = Agent(bench)
    try:
        await successor.inhibit.acquire("RECOVERY")
        assert (await agent.tell("ready"))["granted"] is False
        await successor.inhibit.release()
    finally:
        successor.park.close()
        successor.inhibit.close()


async def test_a_drive_unit_that_cannot_inhibit_is_a_refusal(agent):
    await agent.tell("set", gear="N")
    with pytest.raises(Refused) as caught:
        await agent.inhibit.acquire("UPDATE")
    assert caught.value.refusal.code is Code.INHIBIT_NOT_ACKNOWLEDGED
    assert "REFUSED" in caught.value.refusal.detail


@pytest.mark.requirement("D3")
async def test_an_inhibit_whose_acknowledgement_cannot_be_trusted_is_lost(agent):
    await agent.inhibit.acquire("UPDATE")
    loss: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    agent.inhibit.guard(loss.set_result)
    await agent.tell("fault", message="DU_InhibitStatus", kind="bad_crc")
    assert "stale" in await loss
    await agent.tell("clear")
    await agent.inhibit.release()
