"""Flash containers of ODX (ISO 22901-1, category F): data blocks from an `.odx-f` or a `.pdx`.

Only what says where bytes go is read. Compressed, encrypted or filtered flash data is refused.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import bincopy

MAX_FILE = 1 << 28
MAX_ELEMENTS = 100_000
MAX_DEPTH = 64
MAX_ZIP_FILES = 1024

_BinFile: Any = bincopy.BinFile  # has no annotations


class OdxError(ValueError):
    """Not a readable flash container; the message is one line."""


class DataBlock(NamedTuple):
    """A logical block: its short name, and address and bytes of its segments."""

    name: str
    segments: tuple[tuple[int, bytes], ...]


def is_odx(content: bytes) -> bool:
    """Whether a file is a PDX (a ZIP) or begins like XML."""
    start = content[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    return content.startswith(b"PK\x03\x04") or start.startswith((b"<?xml", b"<ODX", b"<!--"))


def parse(
    content: bytes, read_file: Callable[[str], bytes], session: str | None = None
) -> tuple[DataBlock, ...]:
    """The data blocks in the order in which they are to be flashed.

    `read_file` gives a file that lies beside an `.odx-f`; a PDX has its own. `session` is the short
    name of the session to take where there are several. Raises `OdxError`; `read_file` raises
    OSError.
    """
    if content.startswith(b"PK\x03\x04"):
        files = _unzip(content)
        odx = [name for name in files if name.lower().endswith((".odx-f", ".odx"))]
        flash = [name for name in odx if b"<FLASH" in files[name]]
        if len(flash) != 1:
            raise OdxError(f"the PDX holds {len(flash)} ODX files with FLASH; allowed: one")

        def unzipped(name: str) -> bytes:
            if name not in files:
                raise OdxError(f"the PDX does not hold {name[:64]!r}")
            return files[name]

        content, read_file = files[flash[0]], unzipped
    root = _tree(content)
    blocks = {_id(block): block for block in root.iter("DATABLOCK")}
    datas = {_id(data): data for data in root.iter("FLASHDATA")}
    ordered = _in_order(root, blocks, session)
    if not ordered:
        raise OdxError("there is no DATABLOCK")
    return tuple(_block(block, datas, read_file) for block in ordered)


def _in_order(root: Element, blocks: Mapping[str, Element], session: str | None) -> list[Element]:
    sessions = {_text(each, "SHORT-NAME"): each for each in root.iter("SESSION")}
    if session is not None and session not in sessions:
        raise OdxError(
            f"there is no session {session!r}; there are {', '.join(sessions) or 'none'}"
        )
    if session is None and len(sessions) > 1:
        raise OdxError(f"several sessions: choose one of {', '.join(sessions)}")
    if not sessions:
        return sorted(blocks.values(), key=_logical_index)
    chosen = sessions[session if session is not None else next(iter(sessions))]
    names = [str(ref.get("ID-REF")) for ref in chosen.iter("DATABLOCK-REF")]
    if len(set(names)) != len(names) or not set(names) <= blocks.keys():
        raise OdxError("the session names a DATABLOCK twice, or one that is missing")
    return [blocks[name] for name in names]


def _logical_index(block: Element) -> int:
    text = block.findtext("LOGICAL-BLOCK-INDEX")
    return 0 if text is None else _hex("LOGICAL-BLOCK-INDEX", text)


def _block(
    block: Element, datas: Mapping[str, Element], read_file: Callable[[str], bytes]
) -> DataBlock:
    name = _text(block, "SHORT-NAME")
    reference = block.find("FLASHDATA-REF")
    data = datas.get("" if reference is None else str(reference.get("ID-REF")))
    if data is None:
        raise OdxError(f"block {name!r}: its FLASHDATA is missing")
    if block.find("FILTERS") is not None:
        raise OdxError(f"block {name!r}: FILTERS are not supported")
    method = "".join((data.findtext("ENCRYPT-COMPRESS-METHOD") or "").split())
    if method.strip("0"):
        raise OdxError(f"block {name!r}: ENCRYPT-COMPRESS-METHOD {method[:32]!r}; allowed: 00")
    ranges = [_range(name, segment) for segment in block.iter("SEGMENT")]
    found = _segments(name, *_content(name, data, read_file), ranges)
    offset = _offset(block)
    if any(not 0 <= at + offset <= (1 << 32) - len(piece) for at, piece in found):
        raise OdxError(f"block {name!r}: lies outside of 32 bits")
    return DataBlock(name, tuple((at + offset, piece) for at, piece in found))


def _range(name: str, segment: Element) -> tuple[int, int]:
    """First address and number of bytes; the end address is the last byte's."""
    start = _hex("SOURCE-START-ADDRESS", _text(segment, "SOURCE-START-ADDRESS"))
    size, packed = segment.findtext("UNCOMPRESSED-SIZE"), segment.findtext("COMPRESSED-SIZE")
    if size is None:
        end = _hex("SOURCE-END-ADDRESS", _text(segment, "SOURCE-END-ADDRESS"))
        length = end - start + 1
    else:
        length = _decimal("UNCOMPRESSED-SIZE", size)
    if packed is not None and _decimal("COMPRESSED-SIZE", packed) != length:
        raise OdxError(f"block {name!r}: compressed segments are not supported")
    if length < 1:
        raise OdxError(f"block {name!r}: a segment of {length} bytes")
    return start, length


def _content(name: str, data: Element, read_file: Callable[[str], bytes]) -> tuple[str, bytes]:
    """The data's format (BINARY, INTEL-HEX, MOTOROLA-S) and bytes."""
    described = data.find("DATAFORMAT")
    form = "" if described is None else described.get("SELECTION", "")
    if form not in ("BINARY", "INTEL-HEX", "MOTOROLA-S"):
        raise OdxError(
            f"block {name!r}: DATAFORMAT {form[:32]!r}; allowed: BINARY, INTEL-HEX, MOTOROLA-S"
        )
    inside, file = data.findtext("DATA"), data.findtext("DATAFILE")
    if inside is None:
        if not file or not file.strip():
            raise OdxError(f"block {name!r}: its FLASHDATA has neither DATA nor DATAFILE")
        return form, read_file(file.strip())
    if form != "BINARY":
        return form, inside.encode()
    try:
        return form, bytes.fromhex(inside)
    except ValueError:
        raise OdxError(f"block {name!r}: DATA is not hexadecimal") from None


def _segments(
    name: str, form: str, data: bytes, ranges: list[tuple[int, int]]
) -> list[tuple[int, bytes]]:
    if form == "BINARY":
        if sum(length for _, length in ranges) != len(data):
            raise OdxError(f"block {name!r}: its segments are not as long as its {len(data)} bytes")
        found, at = [], 0
        for start, length in ranges:
            found.append((start, data[at : at + length]))
            at += length
        return found
    file = _BinFile()
    try:
        text = data.decode("ascii").strip()
        (file.add_ihex if form == "INTEL-HEX" else file.add_srec)(text)
    except Exception as error:  # the parser's own errors are of many types
        raise OdxError(f"block {name!r}: broken {form}: {error}") from None
    pieces = [(each.address, bytes(each.data)) for each in file.segments]
    if not pieces:
        raise OdxError(f"block {name!r}: holds no data")
    return [_cut(name, pieces, *each) for each in ranges] if ranges else pieces


def _cut(name: str, pieces: list[tuple[int, bytes]], start: int, length: int) -> tuple[int, bytes]:
    for at, data in pieces:
        if at <= start and start + length <= at + len(data):
            return start, data[start - at : start - at + length]
    raise OdxError(f"block {name!r}: 0x{start:X}+0x{length:X} is not wholly in its data")


def _offset(block: Element) -> int:
    shift = block.find("TARGET-ADDR-OFFSET")
    if shift is None:
        return 0
    for tag, sign in (("POSITIVE-OFFSET", 1), ("NEGATIVE-OFFSET", -1)):
        text = shift.findtext(tag)
        if text is not None:
            return sign * _hex(tag, text)
    raise OdxError("TARGET-ADDR-OFFSET has neither POSITIVE-OFFSET nor NEGATIVE-OFFSET")


def _tree(content: bytes) -> Element:
    """The XML as elements, without name spaces; no document type, no entities, bounded."""
    if len(content) > MAX_FILE:
        raise OdxError(f"more than {MAX_FILE} bytes of XML")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    depth = count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise OdxError(f"more than {MAX_ELEMENTS} elements, or nested deeper than {MAX_DEPTH}")
        builder.start(_local(tag), {_local(name): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(tag))

    def refuse(*_: object) -> None:
        raise OdxError("XML with a document type; allowed: without")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise error if isinstance(error, OdxError) else OdxError(f"broken XML: {error}") from None
    return builder.close()


def _unzip(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            names = {info.filename for info in infos}
            if len(infos) > MAX_ZIP_FILES or sum(info.file_size for info in infos) > MAX_FILE:
                raise OdxError(f"more than {MAX_ZIP_FILES} files or {MAX_FILE} bytes in the PDX")
            if len(names) != len(infos):
                raise OdxError("a name stands twice in the PDX")
            return {info.filename: archive.read(info) for info in infos}
    except OdxError:
        raise
    except Exception as error:  # zipfile's own errors are of many types
        raise OdxError(f"broken PDX: {error}") from None


def _id(element: Element) -> str:
    return element.get("ID", "")


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise OdxError(f"{element.tag} without {tag}")
    return text


def _hex(tag: str, text: str) -> int:
    try:
        return int(text.strip(), 16)
    except ValueError:
        raise OdxError(f"{tag} {text[:32]!r} is not hexadecimal") from None


def _decimal(tag: str, text: str) -> int:
    if not text.strip().isdecimal() or len(text.strip()) > 12:
        raise OdxError(f"{tag} {text[:32]!r} is not a number")
    return int(text)


def _local(name: str) -> str:
    return name.rpartition(":")[2]
