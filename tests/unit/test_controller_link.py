"""The controller's edge: a bus whose buffer is full, frames of any content, ISO-TP both ways."""

import asyncio
import contextlib
import socket
from collections import deque

import can
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_rig.controller.config import Bus, ConfigError, Transfer
from hil_rig.controller.link import CanLink
from hil_rig.controller.transport import Transport

BUS = Bus(interface="virtual", channel="none")
FD = Bus(interface="virtual", channel="none", fd=True)


class FullBus:
    """A bus that refuses the first `refusals` frames that it is given."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.sent = []
        self.waiting = deque()
        self.failures = 0
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)

    def fileno(self):
        return self.near.fileno()

    def send(self, message):
        if self.refusals:
            self.refusals -= 1
            raise can.CanOperationError("no buffer space available")
        self.sent.append(bytes(message.data))

    def recv(self, _timeout):
        if self.failures:
            self.failures -= 1
            raise can.CanOperationError("network is down")
        with contextlib.suppress(BlockingIOError):
            self.near.recv(1)
        return self.waiting.popleft() if self.waiting else None

    def shutdown(self):
        self.near.close()
        self.far.close()


@pytest.fixture
def bus(monkeypatch):
    made = FullBus(0)
    monkeypatch.setattr(can, "Bus", lambda **_options: made)
    return made


async def test_a_full_transmit_buffer_delays_frames_and_keeps_their_order(bus):
    bus.refusals = 5
    link = CanLink(BUS, lambda _message: None, lambda: None)
    for number in range(10):
        link.send(0x7A8, bytes((number,)), fd=False)
    assert link.backed_up
    while link.backed_up:  # noqa: ASYNC110 - a link tells nobody when it is through
        await asyncio.sleep(0)
    link.close()
    assert bus.sent == [bytes((number,)) for number in range(10)]


async def test_a_buffer_that_stays_full_costs_the_frames_and_not_the_controller(bus, monkeypatch):
    monkeypatch.setattr("hil_rig.controller.link._GIVE_UP_S", 0.0)
    bus.refusals = 1
    link = CanLink(BUS, lambda _message: None, lambda: None)
    link.send(0x7A8, b"lost", fd=False)
    assert not link.backed_up
    link.send(0x7A8, b"next", fd=False)
    link.close()
    assert bus.sent == [b"next"]


async def test_a_bus_that_keeps_failing_is_reported_as_lost(bus, monkeypatch):
    monkeypatch.setattr("hil_rig.controller.link._LOOK_AGAIN_S", 0.0)
    lost = asyncio.Event()
    link = CanLink(BUS, lambda _message: None, lost.set)
    bus.failures = 1000
    bus.far.send(b"x")
    await asyncio.wait_for(lost.wait(), 10)
    link.close()


async def test_a_bus_that_fails_for_a_while_is_listened_to_again(bus, monkeypatch):
    monkeypatch.setattr("hil_rig.controller.link._LOOK_AGAIN_S", 0.0)
    got: asyncio.Future[can.Message] = asyncio.get_running_loop().create_future()
    link = CanLink(BUS, got.set_result, lambda: pytest.fail("lost"))
    bus.failures = 3
    bus.far.send(b"x")
    bus.waiting.append(can.Message(arbitration_id=0x7A0, data=b"y", is_extended_id=False))
    assert bytes((await asyncio.wait_for(got, 10)).data) == b"y"
    link.close()


async def test_a_bus_that_cannot_be_joined_is_a_matter_of_configuration():
    with pytest.raises(ConfigError, match="nosuch"):
        CanLink(Bus(interface="nosuch", channel="x"), lambda _message: None, lambda: None)


def frame(data, can_id=0x7A0, *, fd=False):
    return can.Message(arbitration_id=can_id, is_extended_id=False, data=data, is_fd=fd)


class Wire:
    """What a transport sends and hears."""

    def __init__(self, config, **transfer):
        self.sent, self.heard = [], []
        self.transport = Transport(
            config,
            Transfer(**transfer),
            lambda can_id, data: self.sent.append((can_id, data.hex())),
            lambda data, functional: self.heard.append((data, functional)),
        )


async def test_frames_on_a_classic_bus_are_padded_to_eight_bytes():
    wire = Wire(BUS)
    wire.transport.respond(b"\x7e\x00")
    assert wire.sent == [(0x7A8, "027e00cccccccccc")]


async def test_frames_on_an_fd_bus_are_as_long_as_they_need():
    wire = Wire(FD)
    wire.transport.respond(b"\x7e\x00")
    wire.transport.respond(bytes(20))
    assert [len(bytes.fromhex(data)) for _, data in wire.sent] == [8, 24]


async def test_flow_control_says_block_size_and_separation_time():
    wire = Wire(BUS, block_size=4, st_min=0xF5)
    wire.transport.receive(frame(bytes.fromhex("1014000000000000")))
    assert wire.sent == [(0x7A8, "3004f5cccccccccc")]
    wire.transport.close()


async def test_requests_are_told_apart_by_their_address():
    wire = Wire(BUS)
    wire.transport.receive(frame(b"\x02\x3e\x00"))
    wire.transport.receive(frame(b"\x02\x3e\x80", 0x7DF))
    assert wire.heard == [(b"\x3e\x00", False), (b"\x3e\x80", True)]


async def test_a_functional_request_of_many_frames_is_not_answered():
    wire = Wire(BUS)
    wire.transport.receive(frame(bytes.fromhex("1014000000000000"), 0x7DF))
    assert wire.sent == wire.heard == []


async def test_a_request_longer_than_allowed_is_answered_with_overflow():
    wire = Wire(BUS)
    wire.transport.receive(frame(bytes.fromhex("1000000010000000")))
    wire.transport.receive(frame(b"\x02\x3e\x00"))
    assert wire.heard == [(b"\x3e\x00", False)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([8, 12, 16, 20, 24, 32, 48, 64]).flatmap(
                    lambda size: st.binary(min_size=size, max_size=size)
                ),
            ),
            st.sampled_from([0x7A0, 0x7DF]),
        ),
        max_size=20,
    )
)
def test_frames_of_any_content_do_not_stop_the_transport(frames):
    async def feed():
        wire = Wire(FD)
        for data, can_id in frames:
            wire.transport.receive(frame(data, can_id, fd=True))
        wire.transport.reset()
        wire.heard.clear()
        wire.transport.receive(frame(b"\x02\x3e\x00"))
        assert wire.heard == [(b"\x3e\x00", False)]
        wire.transport.close()

    asyncio.run(feed())
