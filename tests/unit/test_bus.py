"""The CAN port: window, confirmations, full buffers, abort, failure."""

from __future__ import annotations

import asyncio

import can
import pytest

from tests.unit.can_double import BusDouble
from vehicle_agent import bus
from vehicle_agent.bus import WINDOW, BusConfig, CanPort, Frame
from vehicle_agent.refusals import Code, Refused

OURS, THEIRS = 0x7A0, 0x7A8


@pytest.fixture
def double(monkeypatch):
    made: list[BusDouble] = []

    def make(**options):
        made.append(BusDouble(**options))
        return made[-1]

    monkeypatch.setattr(bus.can, "Bus", make)
    return lambda: made[-1]


def open_port(interface="wire", **hooks) -> CanPort:
    return CanPort.open(
        BusConfig(interface=interface, channel="c", options={"extra": 1}),
        receive=[(THEIRS, False)],
        transmit=[(OURS, False)],
        on_frame=hooks.pop("on_frame", lambda *_: None),
        **hooks,
    )


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_filters_let_own_identifiers_through_for_their_confirmation(double):
    port = open_port()
    options = double().options
    assert {f["can_id"] for f in options["can_filters"]} == {OURS, THEIRS}
    assert options["receive_own_messages"] is True
    assert (options["interface"], options["channel"], options["extra"]) == ("wire", "c", 1)
    port.close()


async def test_at_most_eight_frames_are_outstanding_and_the_rest_keep_their_order(double):
    port = open_port()
    outcomes: list[int] = []
    for index in range(20):
        port.post(Frame(OURS, bytes((index,))), lambda _, i=index: outcomes.append(i))
    assert len(double().sent) == WINDOW
    for index in range(20):
        assert outcomes == list(range(index))
        double().give_back(index)
        await settled()
        assert len(double().sent) == min(20, index + 1 + WINDOW)
    assert [m.data[0] for m in double().sent] == list(range(20))
    assert outcomes == list(range(20))
    port.close()


async def test_a_send_returns_with_the_time_of_its_confirmation(double):
    port = open_port()
    sending = asyncio.create_task(port.send(Frame(OURS, b"a")))
    await settled()
    assert not sending.done()
    before = asyncio.get_running_loop().time()
    double().give_back(0)
    assert before <= await sending <= asyncio.get_running_loop().time()
    port.close()


async def test_frames_of_other_programs_on_this_host_confirm_nothing(double):
    """SocketCAN marks every frame of this host as not received, own or not."""
    heard: list[Frame] = []
    port = open_port(on_frame=lambda frame, _: heard.append(frame))
    sending = asyncio.create_task(port.send(Frame(OURS, b"a")))
    await settled()
    double().say(THEIRS, b"answer", rx=False)
    double().say(OURS, b"b", rx=False)
    await settled()
    assert not sending.done()
    assert heard == [Frame(THEIRS, b"answer")]
    double().give_back(0)
    await sending
    port.close()


async def test_a_full_transmit_buffer_is_tried_again_until_it_takes_the_frame(double):
    port = open_port()
    double().full = 3
    sending = asyncio.create_task(port.send(Frame(OURS, b"a")))
    await double().took.wait()
    double().give_back(0)
    await sending
    assert double().full == 0
    port.close()


@pytest.mark.requirement("C3")
async def test_an_abort_drops_everything_and_sends_nothing_more(double):
    port = open_port()
    senders = [asyncio.create_task(port.send(Frame(OURS, bytes((i,))))) for i in range(12)]
    await settled()
    double().full = 1
    assert port.abort() == 12
    assert double().flushes == 1
    for sender in senders:
        with pytest.raises(Refused) as refused:
            await sender
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
    for index in range(WINDOW):
        double().give_back(index)  # late: these were on the bus before the flush
    await asyncio.sleep(3 * bus._RETRY_S)
    assert len(double().sent) == WINDOW
    double().took.clear()
    again = asyncio.create_task(port.send(Frame(OURS, b"new")))
    await double().took.wait()
    double().give_back(WINDOW)
    await again
    port.close()


async def test_an_abort_while_the_buffer_is_full_ends_the_retries(double):
    port = open_port()
    double().full = 1
    sending = asyncio.create_task(port.send(Frame(OURS, b"a")))
    await settled()
    port.abort()
    with pytest.raises(Refused):
        await sending
    await asyncio.sleep(3 * bus._RETRY_S)
    assert double().sent == []
    port.close()


async def test_a_bus_that_fails_tells_every_sender_and_the_owner_once(double):
    told: list[Refused] = []
    port = open_port(on_error=told.append)
    senders = [asyncio.create_task(port.send(Frame(OURS, bytes((i,))))) for i in range(10)]
    await settled()
    double().broken = True
    double().say(THEIRS, b"")
    for sender in senders:
        with pytest.raises(Refused) as refused:
            await sender
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
    with pytest.raises(Refused):
        await port.send(Frame(OURS, b""))
    assert len(told) == 1
    assert double().shut
    port.close()


async def test_a_cancelled_sender_takes_its_waiting_frame_back(double):
    port = open_port()
    for index in range(WINDOW):
        port.post(Frame(OURS, bytes((index,))), lambda _: None)
    waiting = asyncio.create_task(port.send(Frame(OURS, b"late")))
    await settled()
    waiting.cancel()
    await settled()
    double().give_back(0)
    await settled()
    assert len(double().sent) == WINDOW
    port.close()


async def test_an_interface_without_echo_counts_the_handover(double):
    port = open_port("slcan")
    assert double().options["receive_own_messages"] is False
    await port.send(Frame(OURS, b"a"))
    port.close()


async def test_error_and_remote_frames_end_in_the_port(double):
    heard: list[Frame] = []
    port = open_port(on_frame=lambda frame, _: heard.append(frame))
    double().deliver(can.Message(arbitration_id=THEIRS, is_error_frame=True))
    double().deliver(can.Message(arbitration_id=THEIRS, is_extended_id=False, is_remote_frame=True))
    double().say(THEIRS, b"", extended=True)
    double().say(THEIRS, b"x")
    await settled()
    assert heard == [Frame(THEIRS, b"x")]
    port.close()


async def test_closing_twice_is_closing_once(double):
    port = open_port()
    port.close()
    port.close()
    with pytest.raises(Refused):
        await port.send(Frame(OURS, b""))


@pytest.mark.parametrize(
    "config",
    [
        BusConfig(interface="virtual", channel="x"),
        BusConfig(interface="nonsense", channel="x"),
        BusConfig(interface="socketcan", channel="no-such-can"),
    ],
)
async def test_an_interface_that_does_not_serve_is_one_refusal(config):
    with pytest.raises(Refused, match=config.channel) as refused:
        CanPort.open(config, receive=[], on_frame=lambda *_: None)
    assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
