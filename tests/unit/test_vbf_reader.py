"""VBF files are read whole and right, or refused in one line."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_rig.vbf import VbfError, is_vbf, parse

BLOCKS = ((0x8000, b"boot" * 9), (0x10000, b"application" * 5))


def crc16(data: bytes) -> int:
    """CRC-16/CCITT with start FFFF, bit by bit: another way than the reader's."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def body(blocks=BLOCKS):
    return b"".join(
        address.to_bytes(4) + len(data).to_bytes(4) + data + crc16(data).to_bytes(2)
        for address, data in blocks
    )


def vbf(blocks=BLOCKS, *, more="", checksum=None, version="2.4", data=None):
    data = body(blocks) if data is None else data
    checksum = zlib.crc32(data) if checksum is None else checksum
    return (
        f"vbf_version = {version};\r\n"
        "header { // made for } a test\r\n"
        '  description = { "a {first} line",\r\n    "a second; one" };\r\n'
        '  sw_part_number = "8896688";\r\n  sw_part_type = EXE; /* } */\r\n'
        "  erase = { { 0x8000, 0x100 }, { 0x10000, 0x100 } };\r\n"
        f"{more}  file_checksum = 0x{checksum:08X};\r\n}}"
    ).encode() + data


GOOD = vbf()


def test_the_checksum_is_the_one_of_the_check_value():
    assert crc16(b"123456789") == 0x29B1


def test_blocks_and_fields_are_read():
    read = parse(GOOD)
    assert (read.version, read.blocks) == ("2.4", BLOCKS)
    assert read.fields["sw_part_number"] == "8896688"
    assert read.fields["description"] == "a {first} line a second; one"
    assert is_vbf(GOOD)
    assert not is_vbf(b"\x7fELF")


def test_the_plain_data_format_may_be_named():
    assert parse(vbf(more="data_format_identifier = 0x00;\n")).blocks == BLOCKS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (vbf(checksum=1), "file_checksum is 0x00000001"),
        (vbf(data=body()[:-1] + b"x"), "CRC is"),
        (vbf(data=body()[:-1]), "cut off"),
        (vbf(data=body() + b"junk"), "cut off"),
        (vbf(data=b""), "no block"),
        (vbf(((0, b""),)), "none empty"),
        (vbf(((0xFFFFFFFF, b"ab"),)), "within 32 bits"),
        (vbf(more="data_format_identifier = 0x10;"), "allowed: 0x00"),
        (vbf(more="data_format_identifier = lzss;"), "is not a number"),
        (vbf(more="sw_part_type = SBL;"), "stands twice"),
        (vbf(more="odd;"), "name = value"),
        (vbf(more="$"), "not understood"),
        (GOOD.replace(b"file_checksum", b"file_chksum"), "no file_checksum"),
        (GOOD.replace(b"header {", b"{"), "'header {'"),
        (GOOD[:60], "does not end"),
        (b"vbf_version = 2.4; header {" + b" " * (1 << 17) + b"}", "does not end"),
        (b"vbf_version = 2.4;}", "does not end"),
        (b"", "does not end"),
    ],
)
def test_what_is_not_whole_is_refused(content, words):
    with pytest.raises(VbfError, match=words) as refused:
        parse(content)
    assert "\n" not in str(refused.value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_or_has_the_same_blocks(data):
    content = bytearray(GOOD)
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(VbfError):
        assert parse(bytes(content)).blocks == BLOCKS


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_blocks_or_an_error(content):
    with contextlib.suppress(VbfError):
        parse(b"vbf_version = 1; header { a = 1;" + content)
