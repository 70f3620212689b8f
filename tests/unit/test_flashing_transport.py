"""ISO-TP on a CAN port: what goes on the bus, when it stops, and what is told."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.can_double import BusDouble
from vehicle_agent import bus
from vehicle_agent.bus import WINDOW, BusConfig
from vehicle_agent.flashing.profile import Addressing, IsoTpParameters
from vehicle_agent.flashing.transport import IsoTpTransport
from vehicle_agent.refusals import Code, Refused

ADDRESSES = Addressing(request=0x7A0, response=0x7A8, functional=0x7DF)


class Bench:
    """A transport on a bus double; `confirm` gives back what is not yet confirmed."""

    def __init__(self, monkeypatch, **parameters) -> None:
        self.bus = BusDouble()
        monkeypatch.setattr(bus.can, "Bus", lambda **_: self.bus)
        self.transport = IsoTpTransport(
            BusConfig(interface="wire", channel="c"), ADDRESSES, IsoTpParameters(**parameters)
        )
        self._confirmed = 0

    async def confirm(self) -> None:
        while self._confirmed < len(self.bus.sent):
            self.bus.give_back(self._confirmed)
            self._confirmed += 1
            await settled()

    async def say(self, *frames: bytes) -> None:
        for frame in frames:
            self.bus.say(0x7A8, frame)
        await settled()

    def sent(self) -> list[tuple[int, bytes]]:
        return [(message.arbitration_id, bytes(message.data)) for message in self.bus.sent]


async def settled() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


@pytest.fixture
def bench(monkeypatch):
    return lambda **parameters: Bench(monkeypatch, **parameters)


async def test_a_message_is_sent_once_its_last_frame_is_confirmed(bench):
    b = bench()
    sending = asyncio.create_task(b.transport.send(bytes(40)))
    await settled()
    assert [data[0] for _, data in b.sent()] == [0x10]
    await b.confirm()
    await b.say(b"\x30\0\0")
    assert [data[0] for _, data in b.sent()[1:]] == [0x21, 0x22, 0x23, 0x24, 0x25]
    assert not sending.done()
    await b.confirm()
    await sending
    b.transport.close()


async def test_a_block_never_has_more_than_the_window_with_the_bus(bench):
    b = bench()
    sending = asyncio.create_task(b.transport.send(bytes(4095)))
    await settled()
    await b.confirm()
    await b.say(b"\x30\0\0")
    assert len(b.sent()) == 1 + WINDOW
    await b.confirm()
    await sending
    assert len(b.sent()) == 586
    b.transport.close()


async def test_a_functional_request_is_one_frame_to_the_functional_identifier(bench):
    b = bench(padding=0xCC)
    sending = asyncio.create_task(b.transport.send(b"\x3e\x80", functional=True))
    await settled()
    assert b.sent() == [(0x7DF, b"\x02\x3e\x80" + b"\xcc" * 5)]
    await b.confirm()
    await sending
    with pytest.raises(ValueError, match="one frame"):
        await b.transport.send(bytes(8), functional=True)
    b.transport.close()


async def send_one(b: Bench) -> None:
    sending = asyncio.create_task(b.transport.send(b"\x22\xf1\x89"))
    await settled()
    await b.confirm()
    await sending


async def test_a_response_of_several_frames_is_waited_for_beyond_the_timeout(bench):
    b = bench()
    await send_one(b)
    receiving = asyncio.create_task(b.transport.receive(0.02))
    await b.say(b"\x10\x0aabcdef")
    await asyncio.sleep(0.03)
    await b.say(b"\x21ghij")
    assert await receiving == b"abcdefghij"
    assert b.sent()[-1][1][0] == 0x30
    b.transport.close()


async def test_no_response_is_a_timeout_and_a_broken_one_too(bench):
    b = bench(n_cr_s=0.01)
    await send_one(b)
    with pytest.raises(TimeoutError):
        await b.transport.receive(0.001)
    receiving = asyncio.create_task(b.transport.receive(0.01))
    await b.say(b"\x10\x0aabcdef", b"\x23ghij")
    with pytest.raises(TimeoutError):
        await receiving
    b.transport.close()


@pytest.mark.requirement("C3")
async def test_after_an_abort_not_even_flow_control_goes_out(bench):
    b = bench()
    sending = asyncio.create_task(b.transport.send(bytes(4095)))
    await settled()
    await b.confirm()
    await b.say(b"\x30\0\0")
    b.transport.abort()
    with pytest.raises(Refused) as refused:
        await sending
    assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
    count = len(b.sent())
    await b.confirm()
    await b.say(b"\x30\0\0", b"\x10\x0aabcdef", b"\x02\x7e\0")
    assert len(b.sent()) == count
    await send_one(b)
    await b.say(b"\x10\x0aabcdef")
    assert b.sent()[-1][1][0] == 0x30
    b.transport.close()


async def test_a_receiver_that_waits_is_told_of_abort_and_of_a_failing_bus(bench):
    b = bench()
    await send_one(b)
    receiving = asyncio.create_task(b.transport.receive(9))
    await settled()
    b.transport.abort()
    with pytest.raises(Refused):
        await receiving
    await send_one(b)
    receiving = asyncio.create_task(b.transport.receive(9))
    await settled()
    b.bus.broken = True
    await b.say(b"")
    with pytest.raises(Refused) as refused:
        await receiving
    assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
    with pytest.raises(Refused):
        await b.transport.send(b"\x3e\0")
    b.transport.close()


@pytest.mark.parametrize(
    ("control", "code"),
    [(b"\x32\0\0", Code.CONTROLLER_SILENT), (b"\x3f\0\0", Code.CONTROLLER_SILENT)],
)
async def test_a_receiver_that_refuses_the_block_is_told(bench, control, code):
    b = bench()
    sending = asyncio.create_task(b.transport.send(bytes(40)))
    await settled()
    await b.confirm()
    await b.say(control)
    with pytest.raises(Refused) as refused:
        await sending
    assert refused.value.refusal.code is code
    b.transport.close()


async def test_a_controller_without_flow_control_is_silent_after_n_bs(bench):
    b = bench(n_bs_s=0.01)
    sending = asyncio.create_task(b.transport.send(bytes(40)))
    await settled()
    await b.confirm()
    with pytest.raises(Refused) as refused:
        await sending
    assert refused.value.refusal.code is Code.CONTROLLER_SILENT
    b.transport.close()


@pytest.mark.parametrize("functional", [False, True])
async def test_a_frame_that_no_node_acknowledges_is_the_bus_not_the_controller(bench, functional):
    b = bench(n_as_s=0.01)
    with pytest.raises(Refused) as refused:
        await b.transport.send(b"\x3e\0", functional=functional)
    assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
    assert b.bus.flushes == 1
    b.transport.close()


async def test_long_frames_need_a_bus_that_may_carry_them(bench):
    with pytest.raises(Refused, match="fd = false") as refused:
        bench(tx_data_length=64)
    assert refused.value.refusal.code is Code.CONFIG_INVALID
