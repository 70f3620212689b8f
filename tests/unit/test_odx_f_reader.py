"""Flash containers of ODX become blocks with addresses, or are refused in one line."""

from __future__ import annotations

import contextlib
import io
import zipfile

import bincopy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil_rig import odx_f
from hil_rig.odx_f import DataBlock, OdxError, is_odx, parse

BOOT, APP = b"boot" * 4, bytes(range(64))


def hex_file(*pieces, form="as_ihex"):
    file = bincopy.BinFile()
    for address, data in pieces:
        file.add_binary(data, address)
    return getattr(file, form)()


def segment(start, length=None, more=""):
    size = "" if length is None else f"<UNCOMPRESSED-SIZE>{length}</UNCOMPRESSED-SIZE>"
    return (
        f'<SEGMENT ID="S{start:x}"><SHORT-NAME>S</SHORT-NAME>'
        f"<SOURCE-START-ADDRESS>{start:08X}</SOURCE-START-ADDRESS>{size}{more}</SEGMENT>"
    )


def block(name, *segments, more="", index=None):
    place = f"<LOGICAL-BLOCK-INDEX>{index}</LOGICAL-BLOCK-INDEX>" if index else ""
    listed = f"<SEGMENTS>{''.join(segments)}</SEGMENTS>" if segments else ""
    return (
        f'<DATABLOCK ID="DB.{name}" TYPE="CODE"><SHORT-NAME>{name}</SHORT-NAME>{place}'
        f'<FLASHDATA-REF ID-REF="FD.{name}"/>{listed}{more}</DATABLOCK>'
    )


def intern(name, data, form="BINARY", method="00"):
    return (
        f'<FLASHDATA xsi:type="INTERN-FLASHDATA" ID="FD.{name}"><SHORT-NAME>{name}</SHORT-NAME>'
        f'<DATAFORMAT SELECTION="{form}"/>'
        f'<ENCRYPT-COMPRESS-METHOD TYPE="A_BYTEFIELD">{method}</ENCRYPT-COMPRESS-METHOD>'
        f"<DATA>{data}</DATA></FLASHDATA>"
    )


def extern(name, file, form="INTEL-HEX"):
    return (
        f'<FLASHDATA xsi:type="EXTERN-FLASHDATA" ID="FD.{name}"><SHORT-NAME>{name}</SHORT-NAME>'
        f'<DATAFORMAT SELECTION="{form}"/>'
        f'<DATAFILE LATEBOUND-DATAFILE="false">{file}</DATAFILE></FLASHDATA>'
    )


def session(name, *blocks):
    refs = "".join(f'<DATABLOCK-REF ID-REF="DB.{each}"/>' for each in blocks)
    return (
        f'<SESSION ID="SE.{name}"><SHORT-NAME>{name}</SHORT-NAME>'
        f"<DATABLOCK-REFS>{refs}</DATABLOCK-REFS></SESSION>"
    )


def odx(blocks, datas, sessions="", before=""):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}'
        '<ODX MODEL-VERSION="2.2.0" xmlns:xsi="instance"><FLASH ID="F"><SHORT-NAME>F</SHORT-NAME>'
        '<ECU-MEMS><ECU-MEM ID="E"><SHORT-NAME>E</SHORT-NAME>'
        f"<MEM><SESSIONS>{sessions}</SESSIONS><DATABLOCKS>{''.join(blocks)}</DATABLOCKS>"
        f"<FLASHDATAS>{''.join(datas)}</FLASHDATAS></MEM></ECU-MEM></ECU-MEMS></FLASH></ODX>"
    ).encode()


BLOCKS = [block("APP", segment(0x10000, 64)), block("BOOT", segment(0x8000, 16))]
DATAS = [intern("APP", APP.hex()), intern("BOOT", BOOT.hex())]
GOOD = odx(BLOCKS, DATAS, session("ALL", "BOOT", "APP"))
EXPECTED = (DataBlock("BOOT", ((0x8000, BOOT),)), DataBlock("APP", ((0x10000, APP),)))


def no_file(name):
    raise AssertionError(f"asked for {name}")


def one(described, data):
    (found,) = parse(odx([described], [data]), no_file)
    return found.segments


def test_the_session_says_in_which_order_the_blocks_are_flashed():
    assert parse(GOOD, no_file) == EXPECTED
    assert is_odx(GOOD)


def test_without_a_session_the_logical_index_does():
    blocks = [
        block("APP", segment(0x10000, 64), index="0A"),
        block("BOOT", segment(0x8000, 16), index="02"),
    ]
    assert parse(odx(blocks, DATAS), no_file) == EXPECTED


def test_of_several_sessions_one_is_chosen_by_name():
    content = odx(BLOCKS, DATAS, session("ALL", "BOOT", "APP") + session("ONE", "APP"))
    assert parse(content, no_file, "ONE") == EXPECTED[1:]
    with pytest.raises(OdxError, match="choose one of ALL, ONE"):
        parse(content, no_file)


def test_a_binary_is_spread_over_its_segments():
    described = block("APP", segment(0x100, 60), segment(0x200, 4))
    assert one(described, DATAS[0]) == ((0x100, APP[:60]), (0x200, APP[60:]))


def test_an_end_address_is_that_of_the_last_byte():
    end = segment(0x100, more="<SOURCE-END-ADDRESS>0000013F</SOURCE-END-ADDRESS>")
    assert one(block("APP", end), DATAS[0]) == ((0x100, APP),)


@pytest.mark.parametrize(("tag", "at"), [("POSITIVE-OFFSET", 0x11000), ("NEGATIVE-OFFSET", 0xF000)])
def test_the_target_address_may_be_shifted(tag, at):
    shift = f"<TARGET-ADDR-OFFSET><{tag}>1000</{tag}></TARGET-ADDR-OFFSET>"
    assert one(block("APP", segment(0x10000, 64), more=shift), DATAS[0]) == ((at, APP),)


@pytest.mark.parametrize(("form", "writer"), [("INTEL-HEX", "as_ihex"), ("MOTOROLA-S", "as_srec")])
def test_hex_files_bring_their_addresses_and_segments_choose_of_them(form, writer):
    text = hex_file((0x1000, APP), (0x9000, BOOT), form=writer)
    data = intern("X", text, form)
    assert one(block("X"), data) == ((0x1000, APP), (0x9000, BOOT))
    assert one(block("X", segment(0x1010, 16)), data) == ((0x1010, APP[16:32]),)


def pdx(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_a_pdx_brings_its_data_files():
    index = odx([block("APP")], [extern("APP", "app.hex")])
    content = pdx(**{"index.xml": "<CATALOG/>", "f.odx-f": index, "app.hex": hex_file((7, APP))})
    assert is_odx(content)
    assert parse(content, no_file) == (DataBlock("APP", ((7, APP),)),)
    with pytest.raises(OdxError, match=r"does not hold 'app\.hex'"):
        parse(pdx(**{"f.odx-f": index}), no_file)


def test_an_odx_f_asks_for_the_files_beside_it():
    index = odx([block("APP", segment(3, 64))], [extern("APP", "app.bin", "BINARY")])
    assert parse(index, {"app.bin": APP}.__getitem__) == (DataBlock("APP", ((3, APP),)),)


ENTITIES = '<!DOCTYPE ODX [<!ENTITY a "b"><!ENTITY c SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (odx(BLOCKS, DATAS, before=ENTITIES), "document type"),
        (odx(BLOCKS, DATAS, before="<!DOCTYPE ODX>"), "document type"),
        (GOOD.replace(b"boot", b"&a;").replace(b"BOOT</S", b"&a;</S"), "broken XML"),
        (GOOD[:-1], "broken XML"),
        (GOOD.replace(b"UTF-8", b"klingon"), "broken XML"),
        (b"<ODX>" * 100, "nested deeper"),
        (b"<ODX>" + b"<A/>" * 100_001, "more than 100000"),
        (b"<ODX/>", "no DATABLOCK"),
        (b"PK\x03\x04 no zip", "broken PDX"),
        (pdx(a="b"), "0 ODX files"),
        (pdx(**{"a.odx-f": GOOD, "b.odx-f": GOOD}), "2 ODX files"),
        (odx(BLOCKS, DATAS[:1], session("ALL", "BOOT")), "FLASHDATA is missing"),
        (odx(BLOCKS, DATAS, session("ALL", "BOOT", "BOOT")), "twice"),
        (odx(BLOCKS, DATAS, session("ALL", "NONE")), "missing"),
        (odx([block("APP", segment(0, 63))], DATAS), "not as long as its 64 bytes"),
        (odx([block("APP")], DATAS), "not as long as its 64 bytes"),
        (odx([block("APP", segment(0, 0))], DATAS), "of 0 bytes"),
        (odx([block("APP", segment(0, "x"))], DATAS), "not a number"),
        (odx([block("APP", segment(0))], DATAS), "without SOURCE-END-ADDRESS"),
        (odx([block("APP", segment(0xFFFFFFF0, 64))], DATAS), "outside of 32 bits"),
        (odx([block("APP", segment(0, 64), more="<FILTERS/>")], DATAS), "FILTERS"),
        (
            odx([block("APP", segment(0, 64, "<COMPRESSED-SIZE>9</COMPRESSED-SIZE>"))], DATAS),
            "compressed",
        ),
        (odx(BLOCKS[:1], [intern("APP", APP.hex(), method="10")]), "allowed: 00"),
        (odx(BLOCKS[:1], [intern("APP", APP.hex(), form="USER-DEFINED")]), "USER-DEFINED"),
        (odx(BLOCKS[:1], [intern("APP", "zz")]), "not hexadecimal"),
        (odx(BLOCKS[:1], [intern("APP", ":00", "INTEL-HEX")]), "broken INTEL-HEX"),
        (odx(BLOCKS[:1], [intern("APP", hex_file((0, APP)), "INTEL-HEX")]), "not wholly"),
        (odx(BLOCKS[:1], [intern("APP", "é", "MOTOROLA-S")]), "broken MOTOROLA-S"),
    ],
)
def test_what_is_not_plain_and_whole_is_refused(content, words):
    with pytest.raises(OdxError, match=words) as refused:
        parse(content, no_file)
    assert "\n" not in str(refused.value)


def test_a_pdx_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(odx_f, "MAX_FILE", 10_000)
    with pytest.raises(OdxError, match="10000 bytes in the PDX"):
        parse(pdx(**{"a.odx-f": GOOD, "bomb": bytes(100_000)}), no_file)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_blocks_or_an_error(data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(OdxError):
        parse(bytes(content), no_file)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"PK\x03\x04", b"<ODX>", GOOD[:300]]))
def test_any_bytes_are_blocks_or_an_error(content, start):
    with contextlib.suppress(OdxError):
        parse(start + content, no_file)
