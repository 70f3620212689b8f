"""Controller images: the software descriptor, generated and real payloads, and `hil-rig firmware`.

At offset 0x100 of an image may stand a descriptor: the magic `ADASSWID`, then six ASCII fields of
32 bytes, ended and filled with NUL: name, version, rxswin, hardware id, build, reserved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import bincopy

from hil_rig.elf_pieces import MAGIC as MAGIC_OF_ELF
from hil_rig.elf_pieces import pieces_of_elf

_BinFile: Any = bincopy.BinFile  # has no annotations

DESCRIPTOR_OFFSET = 0x100
MAGIC = b"ADASSWID"
FIELD_SIZE = 32
DESCRIPTOR_SIZE = len(MAGIC) + 6 * FIELD_SIZE
HEADER_SIZE = 0x1000
DEFAULT_ADDRESS = 0x0800_0000
FORMATS = ("bin", "hex", "srec")
LIMIT = 64 << 20


class FirmwareError(Exception):
    """An image cannot be read or made; the message is one line."""


class Descriptor(NamedTuple):
    """What an image says of itself; every field ASCII, at most 31 characters."""

    name: str
    version: str
    rxswin: str
    hardware_id: str
    build: str = ""

    def encode(self) -> bytes:
        """The 200 bytes that stand in the image; raises `FirmwareError` for a field too long."""
        fields = b""
        for label, text in zip(self._fields, self, strict=True):
            if not text.isascii() or "\0" in text or len(text) >= FIELD_SIZE:
                raise FirmwareError(
                    f"descriptor field {label} is {text!r}; allowed: ASCII, at most "
                    f"{FIELD_SIZE - 1} characters"
                )
            fields += text.encode("ascii").ljust(FIELD_SIZE, b"\0")
        return MAGIC + fields + bytes(FIELD_SIZE)


class Image(NamedTuple):
    """One flat piece of memory; gaps of the file it came from hold 0xFF."""

    address: int
    data: bytes


def find_descriptor(data: bytes) -> Descriptor | None:
    """The descriptor of an image, or None where there is none or it is not well formed."""
    raw = data[DESCRIPTOR_OFFSET : DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE]
    if len(raw) != DESCRIPTOR_SIZE or not raw.startswith(MAGIC):
        return None
    fields = raw[len(MAGIC) :]
    texts = []
    for start in range(0, 5 * FIELD_SIZE, FIELD_SIZE):
        text, end, _ = fields[start : start + FIELD_SIZE].partition(b"\0")
        if not end or not text.isascii():
            return None
        texts.append(text.decode("ascii"))
    return Descriptor(*texts)


def memory_check_expected(image: bytes) -> str:
    """The status record, in hex, that routine 0202 answers for memory that holds `image`."""
    return "00" + hashlib.sha256(image).hexdigest()


def crc_version(image: bytes) -> str:
    """What identifier F189 answers for an image without a descriptor."""
    return f"crc32:{zlib.crc32(image):08x}"


def make_image(
    version: str,
    rxswin: str,
    hardware_id: str,
    size: int,
    seed: int,
    *,
    name: str = "adas-controller",
) -> bytes:
    """A generated image of `size` bytes; the same arguments give the same bytes.

    Raises `FirmwareError` if `size` leaves no room for the descriptor.
    """
    least = DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE
    if size < least:
        raise FirmwareError(f"size {size} is too small; allowed: {least} bytes or more")
    descriptor = Descriptor(name, version, rxswin, hardware_id, f"seed-{seed}").encode()
    body = random.Random(seed).randbytes(size)
    return body[:DESCRIPTOR_OFFSET] + descriptor + body[least:]


def wrap(payload: bytes, descriptor: Descriptor) -> bytes:
    """`payload` with the descriptor in its padding, or behind a generated header if there is none.

    The header is 4 KiB of 0xFF around the descriptor; the payload follows it unchanged.
    """
    raw = descriptor.encode()
    end = DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE
    place = payload[DESCRIPTOR_OFFSET:end]
    if len(place) == DESCRIPTOR_SIZE and place.strip(b"\0\xff") == b"":
        return payload[:DESCRIPTOR_OFFSET] + raw + payload[end:]
    header = (b"\xff" * DESCRIPTOR_OFFSET + raw).ljust(HEADER_SIZE, b"\xff")
    return header + payload


def read_image(path: Path, address: int = DEFAULT_ADDRESS, limit: int = LIMIT) -> Image:
    """Read ELF, S-record, Intel HEX or plain binary (which starts at `address`).

    Raises `FirmwareError` if the file is unreadable, empty, or spans more than `limit` bytes.
    """
    file = _read(path, address, limit)
    return Image(file.minimum_address, bytes(file.as_binary()))


def read_segments(path: Path, address: int = DEFAULT_ADDRESS, limit: int = LIMIT) -> list[Image]:
    """The same, but each piece without a hole for itself, by rising address."""
    return [Image(each.address, bytes(each.data)) for each in _read(path, address, limit).segments]


def _read(path: Path, address: int, limit: int) -> Any:
    """The file as bincopy's BinFile."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FirmwareError(f"{path}: {error.strerror}") from error
    file = _BinFile()
    try:
        if raw.startswith(MAGIC_OF_ELF):
            for place, piece in pieces_of_elf(raw):
                file.add_binary(piece, place)
        elif raw[:1] in {b"S", b":"} and raw.isascii():
            file.add(raw.decode("ascii"))
        else:
            file.add_binary(raw, address)
    except Exception as error:
        raise FirmwareError(f"{path}: not a readable ELF, HEX or S-record file: {error}") from error
    if not raw or not len(file):
        raise FirmwareError(f"{path}: holds no data")
    span = file.maximum_address - file.minimum_address
    if span > limit:
        raise FirmwareError(f"{path}: spans {span} bytes of memory; allowed: {limit}")
    return file


def render(image: Image, form: str) -> bytes:
    """The image as a file: `bin`, `hex` (Intel) or `srec` (Motorola)."""
    if form == "bin":
        return image.data
    file = _BinFile()
    file.add_binary(image.data, image.address)
    text: str = file.as_ihex() if form == "hex" else file.as_srec()
    return text.encode("ascii")


def _form_of(output: Path) -> str:
    return {".hex": "hex", ".ihex": "hex", ".srec": "srec", ".s19": "srec", ".mot": "srec"}.get(
        output.suffix.lower(), "bin"
    )


def _number(text: str) -> int:
    return int(text, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hil-rig firmware", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    make = parts.add_parser("make", help="make an image, generated or around a real payload")
    make.add_argument("output", type=Path)
    make.add_argument("--version", default="", help="what F189 answers")
    make.add_argument("--rxswin", default="", help="what F1EF answers")
    make.add_argument("--hardware-id", default="", help="the hardware it is for")
    make.add_argument("--name", default="adas-controller")
    make.add_argument("--build", default="", help="build id (payloads only)")
    make.add_argument("--size", type=_number, default=256 << 10, help="bytes to generate")
    make.add_argument("--seed", type=_number, default=1)
    make.add_argument("--payload", type=Path, help="real firmware: bin, ELF, HEX or S-record")
    make.add_argument("--plain", action="store_true", help="no descriptor: the payload as it is")
    make.add_argument("--address", type=_number, default=DEFAULT_ADDRESS, help="first address")
    make.add_argument("--format", choices=FORMATS, help="default: by the suffix of the output")
    show = parts.add_parser("show", help="tell what an image is")
    show.add_argument("image", type=Path)
    show.add_argument("--json", action="store_true")
    return parser


def _make(options: argparse.Namespace) -> None:
    if options.plain and options.payload is None:
        raise FirmwareError("--plain needs a --payload")
    if not options.plain and not (options.version and options.hardware_id):
        raise FirmwareError("a descriptor needs --version and --hardware-id (or use --plain)")
    if options.payload is None:
        data = make_image(
            options.version,
            options.rxswin,
            options.hardware_id,
            options.size,
            options.seed,
            name=options.name,
        )
    else:
        data = read_image(options.payload, options.address).data
        if not options.plain:
            fields = (options.name, options.version, options.rxswin, options.hardware_id)
            data = wrap(data, Descriptor(*fields, options.build))
    form = options.format or _form_of(options.output)
    try:
        options.output.write_bytes(render(Image(options.address, data), form))
    except OSError as error:
        raise FirmwareError(f"{options.output}: {error.strerror}") from error


def describe(image: Image) -> dict[str, str | int]:
    """What `show` tells: addresses, length, digests, and what F189 will answer."""
    descriptor = find_descriptor(image.data)
    facts: dict[str, str | int] = {
        "address": f"0x{image.address:08x}",
        "length": len(image.data),
        "sha256": hashlib.sha256(image.data).hexdigest(),
        "memoryCheck": memory_check_expected(image.data),
        "version": descriptor.version if descriptor else crc_version(image.data),
    }
    if descriptor:
        facts |= {
            "name": descriptor.name,
            "rxswin": descriptor.rxswin,
            "hardwareId": descriptor.hardware_id,
            "build": descriptor.build,
        }
    return facts


def _show(options: argparse.Namespace) -> None:
    facts = describe(read_image(options.image))
    if options.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{key:<12}{value}\n" for key, value in facts.items())


def main(argv: list[str]) -> int:
    """Exit 0, or 2 with one line on stderr if an image cannot be read or made."""
    options = _parser().parse_args(argv)
    try:
        if options.part == "make":
            _make(options)
        else:
            _show(options)
    except FirmwareError as error:
        sys.stderr.write(f"hil-rig firmware: {error}\n")
        return 2
    return 0
