"""The drive inhibit on a live bus: asked in cycles, awaited, watched, released."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.unit.jumping_loop import JumpingLoop
from tests.unit.test_inhibit_protocol import CONFIG, Answers, decode
from vehicle_agent.bus import BusConfig
from vehicle_agent.parking import inhibit as inhibit_module
from vehicle_agent.parking.inhibit import DriveInhibit
from vehicle_agent.refusals import Code, Refused

BUSES = {"vehicle": BusConfig("fake", "x")}


class DriveUnit:
    """Stands where a CAN port stands: takes requests, answers each with `says`."""

    def __init__(self):
        self.says: str | None = "YES"
        self.sent: list[tuple[float, dict[str, str]]] = []
        self.stuck = self.broken = False
        self.opened = 0
        self._answers = Answers()

    def open(self, config, *, receive, on_frame, transmit=(), on_error=None):
        if self.broken:
            raise Refused(Code.BUS_UNAVAILABLE, "no such bus")
        assert (list(receive), list(transmit)) == ([(0x314, False)], [(0x310, False)])
        self.opened += 1
        self.on_frame, self.on_error = on_frame, on_error
        return self

    async def send(self, frame):
        now = asyncio.get_running_loop().time()
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append((now, decode(frame)))
        self.answer()
        return now

    def answer(self, says=None):
        if says or self.says:
            now = asyncio.get_running_loop().time()
            self.on_frame(self._answers.frame(says or self.says), now)

    def requests(self):
        return [said["OTA_InhibitRequest"] for _, said in self.sent]

    def close(self):
        pass


@pytest.fixture
def unit(monkeypatch):
    unit = DriveUnit()
    monkeypatch.setattr(inhibit_module, "CanPort", unit)
    return unit


def play(story):
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(story())


def test_acquire_returns_with_the_acknowledgement_and_the_request_goes_on_in_its_cycle(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        assert not inhibit.held
        await inhibit.acquire("UPDATE")
        assert inhibit.held
        await asyncio.sleep(1.0)
        assert inhibit.held
        times = [at for at, _ in unit.sent]
        steps = [b - a for a, b in pairwise(times)]
        assert steps == pytest.approx([CONFIG.cycle_s] * len(steps))
        assert len(steps) >= 19
        inhibit.close()

    play(story)


def test_nothing_is_sent_before_it_is_asked_for(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await asyncio.sleep(1.0)
        assert unit.sent == []
        inhibit.close()

    play(story)


@pytest.mark.parametrize("answer", ["NO", "REFUSED", None])
@pytest.mark.requirement("D3")
def test_without_an_acknowledgement_acquire_is_refused_after_a_release(unit, answer):
    async def story():
        unit.says = answer
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        with pytest.raises(Refused) as caught:
            await inhibit.acquire("UPDATE")
        assert caught.value.refusal.code is Code.INHIBIT_NOT_ACKNOWLEDGED
        requests = unit.requests()
        assert requests[-5:] == ["RELEASE"] * 5
        assert set(requests[:-5]) == {"INHIBIT"}
        await asyncio.sleep(1.0)
        assert unit.requests() == requests
        inhibit.close()

    play(story)


@pytest.mark.requirement("D3")
def test_the_guard_is_called_from_within_the_frame_that_takes_the_yes_back(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.acquire("UPDATE")
        lost = []
        inhibit.guard(lost.append)
        inhibit.guard(lost.append)()
        unit.answer("REFUSED")
        assert lost == ["DU_InhibitStatus.DU_Inhibited REFUSED"]
        assert not inhibit.held
        await asyncio.sleep(1.0)
        assert len(lost) == 1
        assert unit.requests()[-1] == "INHIBIT"
        inhibit.close()

    play(story)


@pytest.mark.requirement("D3")
def test_the_guard_is_called_by_the_timer_when_the_drive_unit_falls_silent(unit):
    async def story():
        loop = asyncio.get_running_loop()
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.acquire("UPDATE")
        await asyncio.sleep(0.5)
        unit.says = None
        last, lost = loop.time(), []
        inhibit.guard(lambda why: lost.append((loop.time(), why)))
        await asyncio.sleep(3.0)
        [(at, why)] = lost
        assert at - last <= 0.25 + 1e-6
        assert "stale" in why
        inhibit.close()

    play(story)


def test_a_guard_on_what_is_not_held_is_called_at_once(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        lost = []
        inhibit.guard(lost.append)
        assert lost == ["the drive inhibit is not held"]
        inhibit.close()

    play(story)


def test_release_says_so_calls_no_guard_and_stops(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.acquire("UPDATE")
        lost = []
        inhibit.guard(lost.append)
        await inhibit.release()
        assert unit.requests()[-5:] == ["RELEASE"] * 5
        assert not inhibit.held
        sent = len(unit.sent)
        unit.answer("NO")
        await asyncio.sleep(3.0)
        assert len(unit.sent) == sent
        await inhibit.acquire("RECOVERY")
        unit.answer("NO")
        assert lost == []
        inhibit.close()

    play(story)


def test_release_without_acquire_says_release_too(unit):
    """After a restart the drive unit may still hold for the daemon that died."""

    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.release()
        assert unit.requests() == ["RELEASE"] * 5
        inhibit.close()

    play(story)


def test_close_says_nothing_on_the_bus(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.acquire("UPDATE")
        inhibit.close()
        requests = unit.requests()
        await asyncio.sleep(3.0)
        assert unit.requests() == requests
        assert set(requests) == {"INHIBIT"}

    play(story)


def test_a_cancelled_acquire_leaves_the_request_standing(unit):
    async def story():
        unit.says = None
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        asking = asyncio.create_task(inhibit.acquire("UPDATE"))
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.sleep(0.5)
        assert asking.cancelled()
        assert set(unit.requests()) == {"INHIBIT"}
        assert len(unit.sent) > 15
        inhibit.close()

    play(story)


def test_a_stuck_bus_does_not_keep_release_waiting_forever(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        await inhibit.acquire("UPDATE")
        unit.stuck = True
        await asyncio.sleep(1.0)
        assert not inhibit.held
        await inhibit.release()
        inhibit.close()

    play(story)


def test_a_bus_that_came_back_is_opened_again_by_the_next_request(unit):
    async def story():
        inhibit = DriveInhibit.open(CONFIG, BUSES)
        unit.broken = True
        unit.on_error(Refused(Code.BUS_UNAVAILABLE, "unplugged"))
        with pytest.raises(Refused, match="no valid frame yet"):
            await inhibit.acquire("UPDATE")
        unit.broken = False
        await inhibit.acquire("UPDATE")
        assert unit.opened == 2
        inhibit.close()

    play(story)


def test_a_bus_that_is_not_configured_is_refused(unit):
    async def story():
        with pytest.raises(Refused, match="'vehicle' is not configured"):
            DriveInhibit.open(CONFIG, {})

    play(story)
