"""Our ISO 15765-2 against can-isotp, and against the standard where can-isotp is silent."""

from __future__ import annotations

from collections import deque

import isotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle_agent.flashing.isotp import IsoTp, Received, Result, Sent, st_min_s
from vehicle_agent.flashing.profile import IsoTpParameters

TX, RX = 0x7A0, 0x7A8
FD_LENGTHS = (8, 12, 16, 20, 24, 32, 48, 64)


class Oracle:
    """can-isotp's logic, stepped in memory; `inbox` and `outbox` hold frame data."""

    def __init__(self, *, tx_data_length=8, padding=None, block_size=0, st_min=0) -> None:
        self.inbox: deque[bytes] = deque()
        self.outbox: deque[bytes] = deque()
        self.errors: list[Exception] = []
        self._fd = tx_data_length > 8
        address = isotp.Address(isotp.AddressingMode.Normal_11bits, txid=RX, rxid=TX)
        self.logic = isotp.TransportLayerLogic(
            rxfn=self._take,
            txfn=lambda message: self.outbox.append(bytes(message.data)),
            address=address,
            error_handler=self.errors.append,
            params={
                "tx_data_length": tx_data_length,
                "can_fd": self._fd,
                "tx_padding": padding,
                "blocksize": block_size,
                "stmin": st_min,
                "max_frame_size": 1 << 24,
                "override_receiver_stmin": 0.0,
            },
        )

    def _take(self, timeout=0.0):
        if not self.inbox:
            return None
        data = self.inbox.popleft()
        return isotp.CanMessage(arbitration_id=TX, data=data, is_fd=self._fd)


def confirmed_frames(engine: IsoTp, now: float, room: int = 8) -> list[bytes]:
    frames = engine.frames(now, room)
    for _ in frames:
        engine.confirmed(now)
    return frames


def converse(engine: IsoTp, oracle: Oracle, rounds: int = 20_000) -> list[object]:
    """Frames to and fro, each confirmed at once, until both sides are quiet; our events."""
    events: list[object] = []
    now, quiet = 0.0, 0
    for _ in range(rounds):
        frames = confirmed_frames(engine, now)
        oracle.inbox.extend(frames)
        oracle.logic.process()
        answers, oracle.outbox = oracle.outbox, deque()
        for data in answers:
            engine.received(data, now)
        events += engine.events()
        quiet = 0 if frames or answers else quiet + 1
        if quiet > 1 and not engine.sending and not engine.receiving:
            return events
        now += 0.2  # longer than any STmin
    raise AssertionError("the conversation does not end")


payloads = st.one_of(
    st.integers(1, 70), st.integers(71, 600), st.sampled_from([4094, 4095, 4096, 5000])
).map(lambda length: bytes(index * 7 & 0xFF for index in range(length)))


@settings(max_examples=120, deadline=None)
@given(
    pdu=payloads,
    size=st.sampled_from(FD_LENGTHS),
    padding=st.sampled_from([None, 0x00, 0xCC]),
    block_size=st.sampled_from([0, 1, 2, 8, 15, 255]),
    st_min=st.sampled_from([0x00, 0x01, 0x7F, 0xF1, 0xF9]),
)
def test_can_isotp_reads_what_we_send(pdu, size, padding, block_size, st_min):
    engine = IsoTp(IsoTpParameters(tx_data_length=size, padding=padding))
    oracle = Oracle(tx_data_length=size, block_size=block_size, st_min=st_min)
    engine.send(pdu)
    assert converse(engine, oracle) == [Sent(Result.OK)]
    assert bytes(oracle.logic.recv() or b"") == pdu
    assert oracle.errors == []


@settings(max_examples=120, deadline=None)
@given(
    pdu=payloads,
    size=st.sampled_from(FD_LENGTHS),
    padding=st.sampled_from([None, 0x00, 0xAA]),
    block_size=st.sampled_from([0, 1, 3, 8, 255]),
)
def test_we_read_what_can_isotp_sends(pdu, size, padding, block_size):
    engine = IsoTp(IsoTpParameters(tx_data_length=size, block_size=block_size))
    oracle = Oracle(tx_data_length=size, padding=padding)
    oracle.logic.send(pdu)
    assert converse(engine, oracle) == [Received(pdu, Result.OK)]
    assert oracle.errors == []


CTS = b"\x30\x00\x00"


def classic(**changes) -> IsoTp:
    return IsoTp(IsoTpParameters(padding=0xCC, **changes))


def sending(length: int, control: bytes = CTS, now: float = 0.0, **changes) -> IsoTp:
    """An engine whose first frame of `length` bytes has been answered with `control`."""
    engine = classic(**changes)
    engine.send(bytes(length))
    assert confirmed_frames(engine, now)[0][0] >> 4 == 1
    engine.received(control, now)
    return engine


@pytest.mark.parametrize("code", [0x01, 0x05, 0x7F, 0xF1, 0xF5, 0xF9, 0x80, 0xF0, 0xFA, 0xFF])
def test_consecutive_frames_keep_st_min_from_the_confirmation(code):
    gap = st_min_s(code)
    engine = sending(60, bytes((0x30, 0, code)))
    now, confirmations = 10.0, []
    while engine.sending:
        (frame,) = engine.frames(now, 8)
        assert frame[0] >> 4 == 2
        if confirmations:
            assert now >= confirmations[-1] + gap
        now += 0.5  # the frame waits for the bus: nothing may follow it meanwhile
        assert engine.frames(now, 8) == []
        engine.confirmed(now)
        confirmations.append(now)
        if engine.sending:
            assert engine.frames(now + gap * 0.99, 8) == []
            assert engine.deadline == now + gap
            now += gap
    assert len(confirmations) == 8


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        (0x00, 0.0),
        (0x7F, 0.127),
        (0xF1, 0.0001),
        (0xF9, 0.0009),
        (0x80, 0.127),
        (0xF0, 0.127),
        (0xFA, 0.127),
    ],
)
def test_st_min_codes_are_those_of_the_standard(code, seconds):
    assert st_min_s(code) == pytest.approx(seconds)


def test_no_more_frames_than_there_is_room_for():
    engine = sending(100)
    assert len(engine.frames(0.0, 3)) == 3
    assert engine.frames(0.0, 0) == []
    assert len(engine.frames(0.0, 100)) == 11


def test_a_block_ends_with_a_wait_for_flow_control():
    engine = sending(100, b"\x30\x02\x00")
    assert [frame[0] for frame in confirmed_frames(engine, 0.0)] == [0x21, 0x22]
    assert engine.frames(9.0, 8) == []
    engine.received(b"\x30\x00\x00", 0.5)
    assert len(confirmed_frames(engine, 0.5, 99)) == 12
    assert engine.events() == [Sent(Result.OK)]


def test_silence_after_the_first_frame_is_n_bs():
    engine = classic(n_bs_s=1.0)
    engine.send(bytes(20))
    engine.frames(0.0, 8)
    engine.confirmed(0.25)
    assert engine.deadline == 1.25
    engine.expire(1.2499)
    assert engine.events() == []
    engine.expire(1.25)
    assert engine.events() == [Sent(Result.TIMEOUT_BS)]
    assert engine.frames(1.25, 8) == []


def test_a_frame_that_the_bus_never_takes_is_n_as():
    engine = classic(n_as_s=1.0)
    engine.send(b"\x3e\x00")
    engine.frames(0.0, 8)
    engine.expire(1.0)
    assert engine.events() == [Sent(Result.TIMEOUT_A)]


def test_wait_frames_are_bounded_and_each_restarts_n_bs():
    engine = classic(max_wait_frames=2, n_bs_s=1.0)
    engine.send(bytes(20))
    confirmed_frames(engine, 0.0)
    for now in (0.9, 1.8):
        engine.received(b"\x31\x00\x00", now)
        assert engine.deadline == now + 1.0
        assert engine.events() == []
    engine.received(b"\x31\x00\x00", 2.7)
    assert engine.events() == [Sent(Result.WFT_OVRN)]


@pytest.mark.parametrize(
    ("status", "result"),
    [(2, Result.BUFFER_OVFLW), *[(bad, Result.INVALID_FS) for bad in range(3, 16)]],
)
def test_flow_status_other_than_go_and_wait_ends_the_sending(status, result):
    engine = sending(20, bytes((0x30 | status, 0, 0)))
    assert engine.events() == [Sent(result)]
    assert engine.frames(0.0, 8) == []


def test_flow_control_that_nobody_waits_for_changes_nothing():
    engine = sending(100)
    engine.frames(0.0, 2)
    engine.received(b"\x32\x00\x00", 0.0)
    assert engine.events() == []
    assert len(engine.frames(0.0, 99)) == 12


FIRST = bytes((0x10, 20, *range(6)))


def receiving(**changes) -> IsoTp:
    engine = classic(**changes)
    engine.received(FIRST, 0.0)
    assert confirmed_frames(engine, 0.0) == [CTS.ljust(8, b"\xcc")]
    return engine


def test_a_wrong_sequence_number_drops_the_reception():
    engine = receiving()
    engine.received(bytes((0x22, *range(7))), 0.1)
    assert engine.events() == [Received(b"", Result.WRONG_SN)]
    assert not engine.receiving


def test_silence_of_the_sender_is_n_cr():
    engine = receiving(n_cr_s=1.0)
    engine.received(bytes((0x21, *range(7))), 0.5)
    assert engine.deadline == 1.5
    engine.expire(1.5)
    assert engine.events() == [Received(b"", Result.TIMEOUT_CR)]


@pytest.mark.parametrize("newcomer", [b"\x02\x7e\x00", FIRST])
def test_a_new_message_ends_the_one_under_way(newcomer):
    engine = receiving()
    engine.received(newcomer, 0.1)
    assert engine.events()[0] == Received(b"", Result.UNEXP_PDU)


def test_a_message_beyond_max_length_is_answered_with_overflow():
    engine = classic(max_length=4095)
    engine.received(b"\x10\x00" + (1 << 31).to_bytes(4) + b"ab", 0.0)
    assert [frame[0] for frame in engine.frames(0.0, 8)] == [0x32]
    assert not engine.receiving


def test_lengths_beyond_4095_use_the_32_bit_form():
    engine = classic()
    engine.send(bytes(4096))
    assert engine.frames(0.0, 1) == [b"\x10\x00\x00\x00\x10\x00\x00\x00"]


@settings(max_examples=300, deadline=None)
@given(frames=st.lists(st.binary(max_size=64), max_size=30), size=st.sampled_from(FD_LENGTHS))
def test_no_frame_of_a_peer_breaks_us(frames, size):
    engine = IsoTp(IsoTpParameters(tx_data_length=size, max_length=64))
    engine.send(bytes(300))
    for index, data in enumerate(frames):
        engine.received(data, index * 0.1)
        confirmed_frames(engine, index * 0.1)
        engine.expire(index * 0.1)
    assert all(len(e.pdu) <= 64 for e in engine.events() if isinstance(e, Received))


def test_one_message_at_a_time():
    engine = sending(20)
    with pytest.raises(ValueError, match="under way"):
        engine.send(b"\x3e\x00")
