"""The UDS client: timing, repetition, stray answers, keep-alive, abort. Time is virtual."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.flashing_bench import MemoryTransport, MiniServer, profile, run
from vehicle_agent.flashing import requests
from vehicle_agent.flashing.uds import BUSY_REPEATS, REPEATS, UdsClient
from vehicle_agent.refusals import Code, Refused

TIMING = profile().session
VERSION = requests.read(0xF189)


def ask(request, twist, **options):
    """The response, what was sent when; or the refusal instead of a response."""

    async def work():
        server = MiniServer()
        server.twist = twist
        transport = MemoryTransport(server)
        client = UdsClient(transport, TIMING)
        try:
            outcome = await client.request(request, **options)
        except Refused as refused:
            outcome = refused.refusal.code
        elapsed = asyncio.get_running_loop().time()
        await client.close()
        return outcome, transport, elapsed

    return run(work())


@pytest.mark.parametrize(
    "stray",
    [
        b"",
        b"\x7e\x00",
        b"\x7f",
        b"\x7f\x3e\x12",
        b"\x7f\x31\x78",
        b"\x62\xf1\x91old",
        b"\x62",
        b"\x71\x01\xff\x00\x00",
        b"\xff\xff",
    ],
)
def test_stray_and_late_answers_are_passed_over(stray):
    outcome, _, _ = ask(VERSION, lambda _: [stray, stray, b"\x62\xf1\x89new"])
    assert outcome.positive
    assert bytes(outcome.data) == b"\xf1\x89new"


def test_a_second_answer_to_one_request_does_not_answer_the_next():
    async def work():
        server = MiniServer()
        answers = [[b"\x62\xf1\x89old"] * 2, [b"\x62\xf1\x89new"]]
        server.twist = lambda _: answers.pop(0)
        client = UdsClient(MemoryTransport(server), TIMING)
        assert (await client.request(VERSION)).data.endswith(b"old")
        assert (await client.request(VERSION)).data.endswith(b"new")
        await client.close()

    run(work())


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (requests.transfer(7, b"x"), b"\x76\x06"),
        (requests.routine(0xFF00), b"\x71\x01\xff\x01\x00"),
        (requests.routine(0xFF00), b"\x71\x03\xff\x00\x00"),
        (requests.session(3), b"\x50\x01\x00\x32\x01\xf4"),
        (requests.security(1), b"\x67\x02"),
        (requests.write(0xF15A, b"x"), b"\x6e\xf1\x5b"),
    ],
)
def test_a_wrong_echo_is_no_answer(request_, answer):
    outcome, _, _ = ask(request_, lambda _: [answer])
    assert outcome is Code.CONTROLLER_SILENT


@pytest.mark.parametrize(
    ("request_", "times"),
    [
        (VERSION, REPEATS + 1),
        (requests.transfer(7, b"x"), REPEATS + 1),
        (requests.security(1), REPEATS + 1),
        (requests.security(2, b"key"), 1),
        (requests.download(0, 1), 1),
        (requests.transfer_exit(), 1),
        (requests.hard_reset(), 1),
    ],
)
def test_silence_is_asked_again_only_where_the_service_allows(request_, times):
    outcome, transport, elapsed = ask(request_, lambda _: [])
    assert outcome is Code.CONTROLLER_SILENT
    assert transport.sent == [request_.get_payload()] * times
    assert elapsed == pytest.approx(times * TIMING.p2_s)


def test_once_means_once():
    _, transport, _ = ask(VERSION, lambda _: [], once=True)
    assert len(transport.sent) == 1


def test_busy_is_repeated_with_growing_waits_and_then_told():
    outcome, transport, _ = ask(VERSION, lambda _: [b"\x7f\x22\x21"])
    assert outcome.code == 0x21
    waits = [
        later - sooner for sooner, later in zip(transport.times, transport.times[1:], strict=False)
    ]
    assert waits == pytest.approx([TIMING.busy_backoff_s * 2**n for n in range(BUSY_REPEATS)])


def test_pending_answers_stretch_the_wait_to_p2_star_each_up_to_the_cap():
    erase = requests.routine(0xFF00)

    async def work():
        transport = SlowTransport(pending_every=5.0, answer_at=100.0)
        client = UdsClient(transport, TIMING)
        response = await client.request(erase)
        assert response.positive
        assert len(transport.sent) == 1
        slower = SlowTransport(pending_every=5.0, answer_at=1000.0)
        begin = asyncio.get_running_loop().time()
        with pytest.raises(Refused) as refused:
            await UdsClient(slower, TIMING).request(erase)
        assert refused.value.refusal.code is Code.CONTROLLER_SILENT
        assert len(slower.sent) == 1
        waited = asyncio.get_running_loop().time() - begin
        assert TIMING.pending_cap_s <= waited <= TIMING.pending_cap_s + TIMING.p2_star_s

    run(work())


class SlowTransport(MemoryTransport):
    """Answers an erase with 0x78 at once and again and again until `answer_at` seconds."""

    def __init__(self, *, pending_every: float, answer_at: float) -> None:
        super().__init__(MiniServer())
        self._every, self._left = pending_every, answer_at
        self._due = 0.0

    async def receive(self, timeout: float) -> bytes:
        async with asyncio.timeout(timeout):
            await asyncio.sleep(self._due)
        self._left -= self._due
        self._due = self._every
        return b"\x7f\x31\x78" if self._left > 0 else b"\x71\x01\xff\x00\x00"


def test_a_session_is_kept_while_nothing_is_asked_and_let_go_with_it():
    async def work():
        transport = MemoryTransport(MiniServer())
        client = UdsClient(transport, TIMING)
        await client.request(requests.session(3))
        await asyncio.sleep(60)
        sent = transport.sent[1:]
        assert set(sent) == {b"\x3e\x80"}
        gaps = [b - a for a, b in zip(transport.times, transport.times[1:], strict=False)]
        assert max(gaps) <= TIMING.s3_s / 2
        await client.request(requests.session(1))
        count = len(transport.sent)
        await asyncio.sleep(60)
        assert len(transport.sent) == count
        await client.close()

    run(work())


def test_the_timing_that_the_server_announces_widens_ours():
    async def work():
        server = MiniServer()
        server.twist = lambda pdu: [b"\x50\x03\x03\xe8\x07\xd0"] if pdu[0] == 0x10 else []
        transport = MemoryTransport(server)
        client = UdsClient(transport, TIMING)
        await client.request(requests.session(3))
        begin = asyncio.get_running_loop().time()
        with pytest.raises(Refused):
            await client.request(VERSION, once=True)
        assert asyncio.get_running_loop().time() - begin == pytest.approx(1.05)
        await client.close()

    run(work())


@pytest.mark.requirement("C3")
@pytest.mark.parametrize("answers", [[], [b"\x7f\x22\x21"], [b"\x7f\x22\x78"]])
def test_an_abort_ends_waiting_backing_off_and_keeping_the_session(answers):
    async def work():
        server = MiniServer()
        server.twist = lambda pdu: answers if pdu[0] == 0x22 else None
        transport = MemoryTransport(server)
        client = UdsClient(transport, TIMING)
        await client.request(requests.session(3))
        asking = asyncio.create_task(client.request(VERSION))
        await asyncio.sleep(TIMING.p2_s / 2)
        count = len(transport.sent)
        client.abort()
        with pytest.raises(Refused) as refused:
            await asking
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
        await asyncio.sleep(60)
        assert len(transport.sent) == count
        server.twist = lambda _: None
        assert (await client.request(VERSION)).positive
        await client.close()
        assert transport.closed

    run(work())
