"""Frame lengths equal those of an independent, literal construction of every bit on the wire."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.wire.bits import FrameBits, Rates, frame_bits
from hil_rig.wire.frame import FD_LENGTHS, Frame

CRC15 = 0xC599
CRC17 = 0x3685B
CRC21 = 0x302899


def remainder(bits: str, polynomial: int, initial: int = 0) -> str:
    """CRC by long division of the whole message as one number."""
    width = polynomial.bit_length() - 1
    number = int(bits, 2) ^ initial << len(bits) - width
    number <<= width
    while number.bit_length() > width:
        number ^= polynomial << number.bit_length() - width - 1
    return f"{number:0{width}b}"


def stuffed(bits: str) -> str:
    wire = ""
    for bit in bits:
        wire += bit
        if wire[-5:] in {"00000", "11111"}:
            wire += "10"[int(bit)]
    return wire


def header(frame: Frame) -> tuple[str, str]:
    """Bits up to and including BRS (or r0), and from ESI to the DLC."""
    size = frame.requested if frame.remote else len(frame.data)
    dlc = f"{FD_LENGTHS.index(size):04b}"
    rtr = str(int(frame.remote))
    if frame.extended:
        ident = f"{frame.arbitration_id:029b}"
        start = "0" + ident[:11] + "11" + ident[11:] + rtr
        start += "10" if frame.fd else "00"
    else:
        start = "0" + f"{frame.arbitration_id:011b}" + rtr + "0"
        start += "10" if frame.fd else "0"
    if not frame.fd:
        return start, dlc
    return start + str(int(frame.bitrate_switch)), str(int(frame.error_state_indicator)) + dlc


def reference(frame: Frame) -> FrameBits:
    start, control = header(frame)
    data = "".join(f"{octet:08b}" for octet in frame.data)
    tail = "1" + "0" + "1" + "1" * 7 + "1" * 3
    if not frame.fd:
        body = start + control + data
        return FrameBits(len(stuffed(body + remainder(body, CRC15)) + tail), 0)
    wire = stuffed(start + control + data)
    if stuffed((start + control + data)[:-1]) + (start + control + data)[-1] != wire:
        wire = wire[:-1]  # the stuff bit behind the last data bit is the first fixed one
    count = (len(wire) - len(start + control + data)) % 8
    gray = f"{count ^ count >> 1:03b}"
    gray += str(gray.count("1") % 2)
    polynomial, width = (CRC17, 17) if len(frame.data) <= 16 else (CRC21, 21)
    field = gray + remainder(wire + gray, polynomial, 1 << width - 1)
    for place in range(0, len(field), 4):
        group = field[place : place + 4]
        wire += "10"[int(wire[-1])] + group
    wire += tail
    if not frame.bitrate_switch:
        return FrameBits(len(wire), 0)
    slow = len(stuffed(start)) + len(tail) - 1
    return FrameBits(slow, len(wire) - slow)


def random_frame(source: random.Random) -> Frame:
    extended = source.random() < 0.4
    fd = source.random() < 0.6
    remote = not fd and source.random() < 0.15
    size = source.choice(FD_LENGTHS) if fd else source.randrange(9)
    kind = source.randrange(4)
    data = {
        0: source.randbytes(size),
        1: bytes(size),
        2: b"\xff" * size,
        3: bytes(source.choice((0x00, 0xFF, 0x1F, 0xF0, 0x83)) for _ in range(size)),
    }[kind]
    return Frame(
        source.getrandbits(29 if extended else 11) & source.choice((-1, 0x1C000700, 0x7FF)),
        b"" if remote else data,
        extended,
        fd,
        fd and source.random() < 0.7,
        fd and source.random() < 0.2,
        remote,
        size if remote else 0,
    )


def test_random_frames_are_as_long_as_the_literal_construction() -> None:
    source = random.Random(20250830)
    for _ in range(6_000):
        frame = random_frame(source)
        assert frame.flaw() is None
        assert frame_bits(frame) == reference(frame), frame


@given(
    st.integers(0, 0x7FF),
    st.binary(max_size=8) | st.lists(st.sampled_from([0, 255]), max_size=8).map(bytes),
    st.booleans(),
    st.booleans(),
)
def test_any_short_frame_is_as_long_as_the_literal_construction(
    frame_id: int, data: bytes, fd: bool, esi: bool
) -> None:
    frame = Frame(frame_id, data, fd=fd, bitrate_switch=fd, error_state_indicator=fd and esi)
    assert frame_bits(frame) == reference(frame)


def test_reference_crc_has_the_published_check_value() -> None:
    text = "".join(f"{octet:08b}" for octet in b"123456789")
    assert int(remainder(text, CRC15), 2) == 0x059E


def test_worst_case_classic_frame_stays_below_the_known_bound() -> None:
    source = random.Random(1)
    longest = max(
        frame_bits(Frame(source.getrandbits(11), bytes(source.choice((0, 255)) for _ in range(8))))
        for _ in range(2_000)
    )
    assert 111 < longest.nominal <= 135


def test_a_stuff_bit_due_at_the_end_of_the_dlc_is_the_fixed_one() -> None:
    ends_in_five_zeros = Frame(0x555, fd=True, bitrate_switch=True)
    assert frame_bits(ends_in_five_zeros) == FrameBits(nominal=17 + 12, data=5 + 27 + 1)


def test_duration_is_exact_where_a_bit_is_whole_nanoseconds() -> None:
    assert Rates(500_000, 2_000_000).duration_ns(FrameBits(29, 550)) == 29 * 2_000 + 550 * 500
    assert Rates(500_000, 5_000_000).duration_ns(FrameBits(29, 550)) == 29 * 2_000 + 550 * 200


def test_duration_is_rounded_once_a_frame_elsewhere() -> None:
    assert Rates(83_333, 83_333).duration_ns(FrameBits(111, 0)) == 1_332_005


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (Frame(0x800), "11 bits"),
        (Frame(-1), "11 bits"),
        (Frame(1 << 29, extended=True), "29 bits"),
        (Frame(1, bytes(9)), "at most 8"),
        (Frame(1, bytes(9), fd=True), "9 bytes"),
        (Frame(1, fd=True, remote=True), "remote"),
        (Frame(1, b"1", remote=True), "no data"),
        (Frame(1, remote=True, requested=9), "at most 8"),
        (Frame(1, bitrate_switch=True), "only a CAN FD frame"),
    ],
)
def test_an_impossible_frame_says_what_is_wrong(frame: Frame, says: str) -> None:
    assert says in (frame.flaw() or "")
