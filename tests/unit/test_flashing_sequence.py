"""The reprogramming sequence against a server in memory: order, every NRC at every request."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.unit.flashing_bench import START, MemoryTransport, MiniServer, profile, run
from vehicle_agent.flashing.images import Image, Segment
from vehicle_agent.flashing.nrc import POLICIES, Action, policy
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.flashing.security import AesCmac
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import MemoryCheck, Readback

PROFILE = profile()
IMAGE = Image((Segment(START, bytes(range(40))), Segment(START + 0x1_0000, bytes(range(20)))))
RECORDS = "".join("00" + hashlib.sha256(segment.data).hexdigest() for segment in IMAGE.segments)
CHECK = MemoryCheck(routine=0x0202, expected=RECORDS)
FINGERPRINT = bytes(11)


def programmer_for(server: MiniServer) -> tuple[Programmer, MemoryTransport]:
    transport = MemoryTransport(server)
    return Programmer(transport, PROFILE, AesCmac(bytes(16))), transport


def program(server: MiniServer, image=IMAGE, check=CHECK, **hooks) -> list[bytes]:
    """What was sent, apart from TesterPresent."""
    sent: list[bytes] = []

    async def work() -> None:
        programmer, transport = programmer_for(server)
        try:
            await programmer.program(
                image,
                fingerprint=FINGERPRINT,
                memory_check=check,
                on_progress=hooks.get("on_progress", lambda _: None),
                start_gate=hooks.get("start_gate", lambda: None),
            )
        finally:
            await programmer.close()
            sent.extend(pdu for pdu in transport.sent if pdu[0] != 0x3E)

    try:
        run(work())
    finally:
        hooks.get("sent", []).extend(sent)
    return sent


NOMINAL = program(MiniServer())


def test_the_order_is_that_of_the_contract():
    services = [
        pdu[:4].hex() if pdu[0] == 0x31 else pdu[: 1 if pdu[0] in {0x34, 0x37} else 2].hex()
        for pdu in NOMINAL
    ]
    assert services == [
        *("1003", "31010203", "8502", "2803", "1002", "2701", "2702", "2ef1"),
        *("3101ff00", "34", "3601", "3602", "3603", "37", "31010202"),
        *("3101ff00", "34", "3601", "3602", "37", "31010202"),
        "3101ff01",
    ]


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("nrc", [*POLICIES, 0x55])
@pytest.mark.parametrize("at", range(len(NOMINAL)), ids=[pdu[:4].hex() for pdu in NOMINAL])
def test_every_nrc_at_every_request_refuses_with_its_code(at, nrc):
    refused_request = NOMINAL[at]
    server = MiniServer()
    negative = bytes((0x7F, refused_request[0], nrc))
    server.twist = lambda pdu: [negative] * 3 if pdu[:4] == refused_request[:4] else None
    if refused_request[0] == 0x27:  # key and seed differ from call to call only in length
        server.twist = lambda pdu: [negative] if pdu[:2] == refused_request[:2] else None
    sent: list[bytes] = []
    with pytest.raises(Refused) as refused:
        program(server, sent=sent)
    assert refused.value.refusal.code is policy(nrc).code
    assert len(sent) <= 60
    if policy(nrc).action in {Action.STOP, Action.PARK_GATE, Action.ENERGY_GATE}:
        assert sum(pdu[:4] == refused_request[:4] for pdu in sent) == 1
        assert sent[-1][:4] == refused_request[:4]


@pytest.mark.parametrize("nrc", [0x21, 0x24, 0x71, 0x73])
@pytest.mark.parametrize("at", [10, 11, 13, 17])
def test_one_recoverable_nrc_in_a_transfer_is_recovered_from(at, nrc):
    server, struck = MiniServer(), []

    def twist(pdu):
        if pdu == NOMINAL[at] and not struck:
            struck.append(pdu)
            return [bytes((0x7F, pdu[0], nrc))]
        return None

    server.twist = twist
    sent = program(server)
    assert struck
    for segment in IMAGE.segments:
        found = [server.memory[segment.address + i] for i in range(len(segment.data))]
        assert bytes(found) == segment.data
    erases = sum(pdu[:4] == b"\x31\x01\xff\x00" for pdu in sent)
    assert erases == (2 if nrc == 0x21 else 3)


@pytest.mark.parametrize("lost", range(len(NOMINAL)))
def test_any_one_lost_answer_is_recovered_from_or_refused_as_silence(lost):
    server, struck = MiniServer(), []

    def twist(pdu):
        if len(server.requests) - 1 == lost and not struck:
            struck.append(pdu)
            server._positive(pdu)
            return []
        return None

    server.twist = twist
    if NOMINAL[lost][:2] == b"\x27\x02":
        with pytest.raises(Refused) as refused:
            program(server)
        assert refused.value.refusal.code is Code.CONTROLLER_SILENT
    else:
        program(server)
        assert len(server.memory) == IMAGE.size
    assert struck


def test_the_block_counter_wraps_from_ff_to_00():
    data = bytes(16 * 300)
    image = Image((Segment(START, data),))
    check = MemoryCheck(routine=0x0202, expected="00" + hashlib.sha256(data).hexdigest())
    sent = program(MiniServer(), image, check)
    counters = [pdu[1] for pdu in sent if pdu[0] == 0x36]
    assert counters == [(index + 1) & 0xFF for index in range(300)]


@pytest.mark.parametrize(
    ("answer", "block"),
    [("10 12", 16), ("20 0012", 16), ("30 000012", 16), ("40 00000012", 16), ("40 7fffffff", 40)],
)
def test_max_number_of_block_length_has_one_to_four_bytes(answer, block):
    sent = program(MiniServer(block_length=bytes.fromhex(answer)))
    assert len(next(pdu for pdu in sent if pdu[0] == 0x36)) == 2 + block


@pytest.mark.parametrize("answer", ["00", "10", "20 12", "10 02", "50 0000000012", "20 0000"])
def test_a_block_length_that_makes_no_sense_stops_before_any_data(answer):
    sent: list[bytes] = []
    with pytest.raises(Refused) as refused:
        program(MiniServer(block_length=bytes.fromhex(answer)), sent=sent)
    assert refused.value.refusal.code is Code.PROTOCOL_ERROR
    assert not any(pdu[0] == 0x36 for pdu in sent)


def test_a_seed_of_zeros_means_unlocked():
    sent = program(MiniServer(seed=bytes(4)))
    assert [pdu for pdu in sent if pdu[0] == 0x27] == [b"\x27\x01"]


def test_unmet_preconditions_name_what_is_unmet():
    server = MiniServer()
    server.twist = lambda pdu: [b"\x71\x01\x02\x03\x07\x0a"] if pdu[2:4] == b"\x02\x03" else None
    with pytest.raises(Refused, match="070a") as refused:
        program(server)
    assert refused.value.refusal.code is Code.CONTROLLER_CONDITIONS


@pytest.mark.parametrize(
    ("routine", "status", "code"),
    [
        ("ff00", "01", Code.CONTROLLER_REFUSED),
        ("0202", "01", Code.MEMORY_CHECK_FAILED),
        ("0202", "00" + "11" * 32, Code.MEMORY_CHECK_FAILED),
        ("ff01", "02", Code.DEPENDENCY_CHECK_FAILED),
    ],
)
def test_a_routine_that_does_not_pass_is_refused(routine, status, code):
    server = MiniServer()
    prefix = b"\x31\x01" + bytes.fromhex(routine)
    positive = b"\x71\x01" + bytes.fromhex(routine + status)
    server.twist = lambda pdu: [positive] if pdu.startswith(prefix) else None
    with pytest.raises(Refused) as refused:
        program(server)
    assert refused.value.refusal.code is code


@pytest.mark.requirement("C4")
def test_the_gate_is_asked_before_every_request_that_changes_memory():
    gated = [pdu for pdu in NOMINAL if pdu[0] in {0x34, 0x36, 0x37}]
    gated += [pdu for pdu in NOMINAL if pdu[2:4] in {b"\xff\x00", b"\xff\x01", b"\x02\x02"}]
    for stop in range(1, len(gated) + 1):
        asked, sent = [], []

        def gate(asked=asked, stop=stop):
            asked.append(1)
            if len(asked) == stop:
                raise Refused(Code.PARK_LOST, "moved")

        with pytest.raises(Refused) as refused:
            program(MiniServer(), start_gate=gate, sent=sent)
        assert refused.value.refusal.code is Code.PARK_LOST
        assert sent == NOMINAL[: len(NOMINAL) - len(gated) + stop - 1]


def test_progress_counts_acknowledged_bytes_up_to_all():
    told = []
    program(MiniServer(), on_progress=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert told[0].phase == "preparing"
    assert told[-1] == ("checking", IMAGE.size, IMAGE.size)


def conversation(work, server=None):
    """The result of `work(programmer)` and what was sent."""

    async def talk():
        programmer, transport = programmer_for(server or MiniServer())
        try:
            return await work(programmer), transport
        finally:
            await programmer.close()

    return run(talk())


def test_activation_waits_for_a_controller_that_restarts_without_an_answer():
    server = MiniServer()
    silent_until = 12

    def twist(pdu):
        mute = 1 < len(server.requests) < silent_until
        return [] if mute else None

    server.twist = twist
    _, transport = conversation(lambda programmer: programmer.activate(), server)
    sent = [pdu.hex() for pdu in transport.sent]
    assert sent[:2] == ["1003", "1101"]
    assert set(sent[2:-2]) == {"1003"}
    assert sent[-2:] == ["280001", "8501"]


def test_a_controller_that_never_comes_back_is_silent_in_bounded_time():
    server = MiniServer()
    server.twist = lambda pdu: [] if len(server.requests) > 1 else None

    async def work():
        programmer, transport = programmer_for(server)
        with pytest.raises(Refused) as refused:
            await programmer.activate()
        assert refused.value.refusal.code is Code.CONTROLLER_SILENT
        assert transport.times[-1] < 60

    run(work())


@pytest.mark.requirement("B1")
def test_read_back_compares_every_identifier_and_the_memory_of_the_active_bank():
    facts = [Readback(did=0xF189, equals="text"), Readback(did=0xF1EF, equals="text")]
    server = MiniServer()
    for segment in IMAGE.segments:
        for index, byte in enumerate(segment.data):
            server.memory[segment.address + index] = byte
    found, transport = conversation(lambda p: p.read_back(facts, CHECK, IMAGE), server)
    assert found == {0xF189: "text", 0xF1EF: "text"}
    assert transport.sent[0] == b"\x10\x03"
    server.memory[START + 3] ^= 1
    with pytest.raises(Refused) as refused:
        conversation(lambda p: p.read_back(facts, CHECK, IMAGE), server)
    assert refused.value.refusal.code is Code.READBACK_MISMATCH
    with pytest.raises(Refused) as refused:
        conversation(
            lambda p: p.read_back([Readback(did=0xF189, equals="tex")], None, IMAGE), server
        )
    assert refused.value.refusal.code is Code.READBACK_MISMATCH


def test_a_routine_behind_security_access_is_unlocked_once_and_asked_again():
    server = MiniServer()
    server.twist = lambda pdu: (
        [b"\x7f\x31\x33"]
        if pdu[0] == 0x31 and b"\x27" not in {p[:1] for p in server.requests}
        else None
    )
    _, transport = conversation(lambda programmer: programmer.confirm(), server)
    services = [pdu[:1].hex() for pdu in transport.sent]
    assert services == ["10", "31", "27", "27", "31"]


def test_health_reads_codes_self_test_and_bank_status():
    health, _ = conversation(lambda programmer: programmer.health())
    assert health == (("C10087",), True, False, 1)
    failing = MiniServer()
    failing.twist = lambda pdu: [b"\x71\x01\x02\x12\x01"] if pdu[2:4] == b"\x02\x12" else None
    assert not conversation(lambda programmer: programmer.health(), failing)[0].self_test_passed


def test_leaving_restores_for_all_and_for_one_whatever_the_answers():
    server = MiniServer()
    server.twist = lambda pdu: [] if pdu[0] == 0x28 else [bytes((0x7F, pdu[0], 0x22))]
    _, transport = conversation(lambda programmer: programmer.leave(), server)
    assert [pdu.hex() for pdu in transport.sent] == ["280001", "8501", "280001", "8501", "1001"]
    assert transport.functional == transport.sent[:2]


@pytest.mark.requirement("C3")
@pytest.mark.parametrize("requests", range(1, len(NOMINAL) + 1))
def test_after_an_abort_at_any_request_nothing_is_sent(requests):
    server = MiniServer()

    async def work():
        programmer, transport = programmer_for(server)

        def twist(_):
            if len(server.requests) == requests:
                programmer.abort()

        server.twist = twist
        with pytest.raises(Refused) as refused:
            await programmer.program(
                IMAGE,
                fingerprint=FINGERPRINT,
                memory_check=CHECK,
                on_progress=lambda _: None,
                start_gate=lambda: None,
            )
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE

        await asyncio.sleep(60)
        assert len(transport.sent) == requests
        await programmer.leave()
        assert transport.sent[-1] == b"\x10\x01"
        await programmer.close()

    run(work())


@pytest.mark.requirement("C3")
def test_an_abort_while_a_restart_is_waited_for_sends_nothing():
    async def work():
        server = MiniServer()
        programmer, transport = programmer_for(server)
        activating = asyncio.create_task(programmer.activate())
        await asyncio.sleep(PROFILE.session.reset_s / 2)
        assert transport.sent[-1] == b"\x11\x01"
        programmer.abort()
        with pytest.raises(Refused) as refused:
            await activating
        assert refused.value.refusal.code is Code.BUS_UNAVAILABLE
        assert transport.sent[-1] == b"\x11\x01"
        await programmer.close()

    run(work())
