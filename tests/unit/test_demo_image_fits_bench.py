"""The bench knows what the agent will program from an image, and what the controller answers."""

from __future__ import annotations

import struct
from pathlib import Path

import bincopy
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig import bench_image
from hil_rig.bench_image import BANK_SIZE, WINDOW, fit
from hil_rig.firmware import FirmwareError, crc_version, make_image, memory_check_expected
from vehicle_agent.flashing.images import load_image
from vehicle_agent.flashing.profile import Window, load_profile

PROJECT = Path(bench_image.__file__).parent.parent
PROFILE = load_profile(PROJECT / "vehicle_agent" / "flashing" / "adas.toml")
REAL = [
    Path("/usr/lib/u-boot/qemu_arm64/uboot.elf"),
    Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.elf"),
]


def fitted(path):
    return fit(path, merge_gap=PROFILE.merge_gap, fill=PROFILE.fill)


def pieces_of_agent(path, image):
    memory = (Window(start=image.window, length=image.bank_size),)
    profile = msgspec.structs.replace(PROFILE, memory=memory)
    return [tuple(segment) for segment in load_image(path, profile).segments]


def srec(*segments):
    file = bincopy.BinFile()
    for address, data in segments:
        file.add_binary(data, address)
    return file.as_srec().encode()


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_a_real_elf_is_what_the_agent_makes_of_it(path):
    if not path.exists():
        pytest.skip(f"{path} is absent; apt-get install u-boot-qemu opensbi")
    image = fitted(path)
    assert pieces_of_agent(path, image) == [tuple(piece) for piece in image.pieces]
    assert image.version.startswith("crc32:")
    assert image.rxswin is None


@given(
    gaps=st.lists(st.sampled_from([1, 100, 4095, 4096, 4097, 9000, 70000]), max_size=4),
    start=st.integers(0, 0xFF00_0000),
)
def test_holes_are_joined_as_the_agent_joins_them(tmp_path_factory, gaps, start):
    path = tmp_path_factory.mktemp("image") / "fw.srec"
    segments, address = [], start
    for index, gap in enumerate([0, *gaps]):
        address += gap
        data = bytes([index]) * (33 + index)
        segments.append((address, data))
        address += len(data)
    path.write_bytes(srec(*segments))
    image = fitted(path)
    assert pieces_of_agent(path, image) == [tuple(piece) for piece in image.pieces]
    assert len(image.pieces) == 1 + sum(gap > 4096 for gap in gaps)


def test_each_piece_has_its_record_and_all_their_bytes_the_checksum(tmp_path):
    path = tmp_path / "fw.srec"
    path.write_bytes(srec((0x8000_0000, b"a" * 50), (0x8001_0000, b"b" * 60)))
    image = fitted(path)
    assert (image.window, image.bank_size) == (0x8000_0000, BANK_SIZE)
    assert image.memory_check == memory_check_expected(b"a" * 50) + memory_check_expected(b"b" * 60)
    assert image.version == crc_version(b"a" * 50 + b"b" * 60)
    assert image.size == 110


def test_an_image_within_the_usual_window_keeps_it_and_its_descriptor(tmp_path):
    path = tmp_path / "fw.bin"
    path.write_bytes(make_image("2.4.0", "R157-HPA-2", "hw", 4096, 1))
    image = fitted(path)
    assert (image.window, image.bank_size) == (WINDOW, BANK_SIZE)
    assert (image.version, image.rxswin) == ("2.4.0", "R157-HPA-2")


def test_a_large_image_gets_a_larger_bank(tmp_path):
    path = tmp_path / "fw.bin"
    path.write_bytes(b"\1" * (BANK_SIZE + 1))
    image = fitted(path)
    assert (image.window, image.bank_size) == (WINDOW, BANK_SIZE + 0x1_0000)


def elf64(address, data):
    """One segment, no sections."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, 183, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 120, 0, address, len(data), len(data), 1)
    return header + segment + data


def test_an_elf_without_sections_is_its_segments(tmp_path):
    path = tmp_path / "fw.elf"
    path.write_bytes(elf64(0x8000_0000, b"firmware"))
    image = fitted(path)
    assert pieces_of_agent(path, image) == [(0x8000_0000, b"firmware")]
    assert image.pieces == ((0x8000_0000, b"firmware"),)


def test_an_image_at_the_end_of_the_addresses_still_has_a_bank(tmp_path):
    path = tmp_path / "fw.srec"
    path.write_bytes(srec((0xFFFF_FFF0, b"a" * 16)))
    image = fitted(path)
    assert image.window + image.bank_size == 1 << 32
    assert pieces_of_agent(path, image) == [(0xFFFF_FFF0, b"a" * 16)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (elf64(0xFFFF_FFFF, b"two"), "addresses of 32 bits"),
        (elf64(0, b"cut")[:-1], "not wholly in the file"),
        (b"\x7fELF" + bytes(100), "not a readable ELF"),
    ],
)
def test_what_cannot_be_programmed_is_refused_in_one_line(tmp_path, content, why):
    path = tmp_path / "fw.elf"
    path.write_bytes(content)
    with pytest.raises(FirmwareError, match=why) as refused:
        fitted(path)
    assert "\n" not in str(refused.value)
