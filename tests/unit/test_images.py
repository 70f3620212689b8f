"""Firmware files become segments of the profile's memory, or one clear refusal."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path

import bincopy
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.flashing_bench import START, profile
from vehicle_agent.flashing import images
from vehicle_agent.flashing.elf import loaded
from vehicle_agent.flashing.images import Segment, load_image
from vehicle_agent.flashing.profile import ControllerProfile, Window
from vehicle_agent.refusals import Code, Refused

PROFILE = profile()
DATA = bytes(range(256)) * 5


def with_memory(*windows: tuple[int, int], **changes) -> ControllerProfile:
    memory = tuple(Window(start=start, length=length) for start, length in windows)
    return msgspec.structs.replace(PROFILE, memory=memory, **changes)


def load(tmp_path: Path, content: bytes | str, which: ControllerProfile = PROFILE):
    path = tmp_path / "image"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_image(path, which)


def refusal(tmp_path: Path, content: bytes | str, which: ControllerProfile = PROFILE) -> Code:
    with pytest.raises(Refused) as refused:
        load(tmp_path, content, which)
    assert "\n" not in str(refused.value)
    return refused.value.refusal.code


def binfile(*pieces: tuple[int, bytes]) -> bincopy.BinFile:
    file = bincopy.BinFile()
    for address, data in pieces:
        file.add_binary(data, address)
    return file


def elf(*pieces: tuple[int, bytes]) -> bytes:
    """A 64-bit little-endian ELF with one program header and one section a piece."""
    names = b"\0.d\0.s\0"
    data_at = 64 + 56 * len(pieces)
    segments, sections, body = b"", bytes(64), b""
    for address, data in pieces:
        offset = data_at + len(body)
        segments += struct.pack(
            "<IIQQQQQQ", 1, 5, offset, address, address, len(data), len(data), 1
        )
        sections += struct.pack("<IIQQQQIIQQ", 1, 1, 2, address, offset, len(data), 0, 0, 1, 0)
        body += data
    strings_at = data_at + len(body)
    sections += struct.pack("<IIQQQQIIQQ", 4, 3, 0, 0, strings_at, len(names), 0, 0, 1, 0)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(2, 183, 1, 0, 64, strings_at + len(names), 0, 64, 56, len(pieces), 64),
        *(len(pieces) + 2, len(pieces) + 1),
    )
    return head + segments + body + names + sections


FORMATS = {
    "hex": lambda *pieces: binfile(*pieces).as_ihex().encode(),
    "srec": lambda *pieces: binfile(*pieces).as_srec().encode(),
    "srec16": lambda *pieces: binfile(*pieces).as_srec(16, 32).encode(),
    "crlf": lambda *pieces: binfile(*pieces).as_ihex().replace("\n", "\r\n").encode(),
    "elf": elf,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_segments_whatever_the_name(tmp_path, kind):
    far = START + 0x10_0000
    content = FORMATS[kind]((START, DATA), (far, b"tail"))
    assert load(tmp_path, content).segments == (Segment(START, DATA), Segment(far, b"tail"))


def test_a_plain_binary_stands_at_the_start_of_the_first_window(tmp_path):
    image = load(tmp_path, DATA)
    assert image.segments == (Segment(START, DATA),)
    assert image.size == len(DATA)


@pytest.mark.parametrize("content", [b"S0", b":not a record", b"Sxyz\n", b"\x7fEL", b":00\n"])
def test_bytes_that_only_begin_like_a_format_are_a_binary(tmp_path, content):
    assert load(tmp_path, content).segments == (Segment(START, content),)


def test_small_holes_are_filled_and_large_ones_left(tmp_path):
    near = with_memory((START, 0x1000), merge_gap=16, fill=0xA5)
    content = FORMATS["hex"]((START, b"ab"), (START + 18, b"cd"), (START + 37, b"ef"))
    assert load(tmp_path, content, near).segments == (
        Segment(START, b"ab" + b"\xa5" * 16 + b"cd"),
        Segment(START + 37, b"ef"),
    )


def test_a_hole_between_two_windows_is_not_memory_to_fill(tmp_path):
    two = with_memory((START, 16), (START + 32, 16))
    content = FORMATS["hex"]((START + 8, b"a" * 8), (START + 32, b"b"))
    assert len(load(tmp_path, content, two).segments) == 2


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    "pieces",
    [
        [(START - 1, b"a")],
        [(START + 0xFFF, b"ab")],
        [(START, b"a"), (0, b"b")],
        [(0xFFFFFFF0, b"a")],
    ],
)
def test_a_byte_outside_the_memory_map_is_refused(tmp_path, pieces):
    small = with_memory((START, 0x1000))
    assert refusal(tmp_path, FORMATS["hex"](*pieces), small) is Code.IMAGE_OUTSIDE_MEMORY
    assert refusal(tmp_path, FORMATS["elf"](*pieces), small) is Code.IMAGE_OUTSIDE_MEMORY


def test_a_binary_larger_than_its_window_is_refused(tmp_path):
    assert refusal(tmp_path, bytes(17), with_memory((START, 16))) is Code.IMAGE_OUTSIDE_MEMORY


HEX = FORMATS["hex"]((START, DATA)).decode()
SREC = FORMATS["srec"]((START, DATA)).decode()


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEX.replace("20", "21", 1),
        "\n".join(HEX.splitlines()[:-1]),
        HEX.replace(":20", "?20", 3),
        SREC[:-9] + "00" + SREC[-7:],
        SREC.replace("S3", "S4", 1),
        elf((START, DATA))[:100],
        elf((START, DATA))[:-140],
        elf(),
        ":00000001FF\n",
    ],
)
def test_a_broken_or_empty_file_is_unreadable(tmp_path, content):
    assert refusal(tmp_path, content) is Code.IMAGE_UNREADABLE


def test_a_missing_file_and_one_beyond_the_bound_are_unreadable(tmp_path, monkeypatch):
    with pytest.raises(Refused) as refused:
        load_image(tmp_path / "none", PROFILE)
    assert refused.value.refusal.code is Code.IMAGE_UNREADABLE
    monkeypatch.setattr(images, "MAX_FILE", 99)
    assert refusal(tmp_path, bytes(100)) is Code.IMAGE_UNREADABLE


@pytest.mark.requirement("A1")
def test_the_bytes_that_are_parsed_are_those_that_were_signed(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(DATA)
    digest = hashlib.sha256(DATA).hexdigest()
    assert load_image(path, PROFILE, sha256=digest).size == len(DATA)
    path.write_bytes(DATA[:-1] + b"\0")
    with pytest.raises(Refused) as refused:
        load_image(path, PROFILE, sha256=digest)
    assert refused.value.refusal.code is Code.TARGET_HASH_MISMATCH


def test_an_elf_whose_headers_multiply_its_data_is_refused(tmp_path):
    body = bytearray(elf((START, bytes(1000)), (START, bytes(1000))))
    assert refusal(tmp_path, bytes(body)) is Code.IMAGE_UNREADABLE
    body[56:58] = (5000).to_bytes(2, "little")
    assert refusal(tmp_path, bytes(body)) is Code.IMAGE_UNREADABLE
    with pytest.raises(ValueError, match="more than 1999"):
        loaded(elf((START, bytes(1000)), (START + 1000, bytes(1000))), 1999)


def test_sections_that_are_not_allocated_are_not_loaded(tmp_path):
    body = bytearray(elf((START, DATA), (START + 0x10000, b"debug")))
    flags = len(body) - 64 - 64 + 8  # of the second piece's section header
    assert body[flags] == 2
    body[flags] = 0
    assert load(tmp_path, bytes(body)).segments == (Segment(START, DATA),)


def test_an_elf_without_section_headers_loads_its_segments(tmp_path):
    body = bytearray(elf((START, DATA), (START + 0x10000, b"tail")))
    body[40:48], body[60:62] = bytes(8), bytes(2)  # e_shoff, e_shnum
    assert load(tmp_path, bytes(body)).segments == (
        Segment(START, DATA),
        Segment(START + 0x10000, b"tail"),
    )


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), base=st.sampled_from([HEX.encode(), SREC.encode(), elf((START, DATA))]))
def test_a_damaged_file_is_an_image_or_a_refusal_never_else(tmp_path, data, base):
    content = bytearray(base)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(
            st.integers(0, 255)
        )
    with contextlib.suppress(Refused):
        for address, found in load(tmp_path, bytes(content)).segments:
            assert PROFILE.memory[0].holds(address, len(found))


FIRMWARE = [
    *sorted(Path("/usr/lib/u-boot").glob("*/uboot.elf")),
    *sorted(Path("/usr/lib").glob("*/opensbi/generic/*.elf")),
]


def oracle(path: Path) -> bincopy.BinFile | None:
    """bincopy's reading; None where its ELF parser stumbles over a stripped file."""
    plain = bincopy.BinFile()
    try:
        plain.add_elf_file(str(path))
    except Exception:
        return None
    return plain


@pytest.mark.parametrize("path", FIRMWARE, ids=lambda path: path.parent.name + "-" + path.stem)
def test_real_firmware_reads_alike_as_elf_and_as_s_record(tmp_path, path):
    pieces = loaded(path.read_bytes(), 1 << 24)
    plain = oracle(path)
    if plain is None:
        plain = binfile(*((address, data) for address, data in pieces))
    found = b"".join(data for _, data in pieces)
    assert found == b"".join(bytes(segment.data) for segment in plain.segments)
    start, end = plain.minimum_address, plain.maximum_address
    if end > 1 << 32:
        return  # a 64-bit address that UDS with four bytes cannot name
    memory = with_memory((start, end - start))
    image = load_image(path, memory)
    assert image.size > 100_000
    assert load(tmp_path, plain.as_srec(), memory) == image


def test_the_firmware_packages_are_there():
    if not FIRMWARE:
        pytest.skip("no u-boot or opensbi ELF here (packages u-boot-qemu, opensbi)")
