"""`hil-rig container make|show`: container targets from firmware files of many forms.

Each FILE may be ELF, Intel HEX, S-record, VBF, ODX-F, PDX, or a plain binary, which needs
@ADDRESS. A file of several pieces gives blocks NAME.1, NAME.2, ….
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hil_rig import odx_f, vbf
from hil_rig.container import Block, ContainerError, describe, make_container
from hil_rig.elf_pieces import MAGIC as MAGIC_OF_ELF
from hil_rig.firmware import FirmwareError, Image, read_segments

DEFAULT_GAP = 4096


def read_blocks(text: str, session: str | None = None, gap: int = DEFAULT_GAP) -> list[Block]:
    """The blocks of one `NAME=FILE[@ADDRESS]`; each piece depends on the one before.

    Holes of at most `gap` bytes in ELF, HEX and S-record files are filled with 0xFF.

    Raises `ContainerError`.
    """
    name, _, place = text.partition("=")
    file, found, address = place.rpartition("@")
    if not found or not re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", address):
        file, address = place, ""
    if not name or not file:
        raise ContainerError(f"--block {text!r}: NAME=FILE or NAME=FILE@ADDRESS is needed")
    path = Path(file)
    try:
        found_at = int(address, 0) if address else None
        pieces = _pieces(path, path.read_bytes(), found_at, session, gap)
    except OSError as error:
        raise ContainerError(f"{error.filename or path}: {error.strerror}") from None
    except (vbf.VbfError, odx_f.OdxError) as error:
        raise ContainerError(f"{path}: {error}") from None
    except FirmwareError as error:
        raise ContainerError(str(error)) from None
    names = [f"{name}.{number + 1}" if len(pieces) > 1 else name for number in range(len(pieces))]
    return [
        Block(name, *piece, depends_on=tuple(names[max(number - 1, 0) : number]))
        for number, (name, piece) in enumerate(zip(names, pieces, strict=True))
    ]


def _pieces(
    path: Path, content: bytes, address: int | None, session: str | None, gap: int
) -> list[tuple[int, bytes]]:
    if content.startswith(MAGIC_OF_ELF) or (content[:1] in {b"S", b":"} and content.isascii()):
        found = _filled(read_segments(path), gap)
    elif vbf.is_vbf(content):
        found = list(vbf.parse(content).blocks)
    elif odx_f.is_odx(content):
        blocks = odx_f.parse(content, lambda name: _beside(path, name), session)
        found = [segment for block in blocks for segment in block.segments]
    elif address is None:
        raise ContainerError(f"{path}: a plain binary needs its address: NAME={path}@0x08000000")
    else:
        return [(address, content)]
    if address is not None:
        raise ContainerError(f"{path}: has addresses of its own; leave out @0x{address:X}")
    return found


def _filled(pieces: Iterable[Image], gap: int) -> list[tuple[int, bytes]]:
    """Pieces by rising address, joined where the hole between them is at most `gap` bytes."""
    found: list[tuple[int, bytes]] = []
    for address, data in pieces:
        if found and address - found[-1][0] - len(found[-1][1]) <= gap:
            start, before = found[-1]
            found[-1] = (start, before.ljust(address - start, b"\xff") + data)
        else:
            found.append((address, data))
    return found


def _beside(path: Path, name: str) -> bytes:
    """A file that an `.odx-f` names, from the same folder and no other."""
    if Path(name).name != name:
        raise odx_f.OdxError(f"data file {name[:64]!r}; allowed: a file of the same folder")
    return path.with_name(name).read_bytes()


def with_dependencies(groups: Mapping[str, Sequence[Block]], pairs: Iterable[str]) -> list[Block]:
    """All blocks, with each `A:B` of `pairs` added: the first of A needs the last of B.

    `groups` maps the NAMEs of the command line to their blocks. Raises `ContainerError`.
    """
    needs: dict[str, list[str]] = {name: [] for name in groups}
    for pair in pairs:
        name, _, needed = pair.partition(":")
        for each in (name, needed):
            if each not in groups:
                raise ContainerError(f"--depends {pair!r}: there is no --block {each!r}")
        needs[name].append(groups[needed][-1].name)
    return [
        block._replace(depends_on=(*block.depends_on, *needs[name])) if block is group[0] else block
        for name, group in groups.items()
        for block in group
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hil-rig container",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    make = parts.add_parser("make", help="make a container")
    make.add_argument("output", type=Path)
    make.add_argument("--block", action="append", required=True, metavar="NAME=FILE[@ADDRESS]")
    make.add_argument("--depends", action="append", default=[], metavar="A:B", help="A needs B")
    make.add_argument("--key", type=Path, help="sign each block: Ed25519 private key, PKCS8 PEM")
    make.add_argument("--session", help="short name of the session of an ODX-F file")
    make.add_argument(
        "--gap",
        type=lambda text: int(text, 0),
        default=DEFAULT_GAP,
        help="fill holes of ELF, HEX and S-record up to this many bytes (default 4096)",
    )
    show = parts.add_parser("show", help="tell what a container holds")
    show.add_argument("container", type=Path)
    show.add_argument("--json", action="store_true")
    return parser


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises `ContainerError`, OSError."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ContainerError(f"{path}: not an Ed25519 private key in PKCS8 PEM")
    return key


def _make(options: argparse.Namespace) -> None:
    groups: dict[str, list[Block]] = {}
    for text in options.block:
        name = text.partition("=")[0]
        if name in groups:
            raise ContainerError(f"--block {name!r} is given twice")
        groups[name] = read_blocks(text, options.session, options.gap)
    key = None if options.key is None else load_key(options.key)
    options.output.write_bytes(make_container(with_dependencies(groups, options.depends), key))


def _show(options: argparse.Namespace) -> None:
    facts = describe(options.container.read_bytes())
    if options.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    for name in ("length", "sha256", "memoryCheck"):
        sys.stdout.write(f"{name:<12}{facts[name]}\n")
    for entry in facts["blocks"]:
        after = ", ".join(entry.get("dependsOn", ())) or "none"
        signed = entry.get("signature") or {}
        sys.stdout.write(
            f"{entry['name']:<12}0x{entry['address']:08X}+0x{entry['length']:X}  "
            f"crc32 {entry['crc32']}  needs {after}  "
            f"signed by {signed.get('keyid', 'nobody')[:16]}\n"
        )


def main(argv: list[str]) -> int:
    """Exit 0, or 2 with one line on stderr if a container cannot be made or read."""
    options = _parser().parse_args(argv)
    try:
        (_make if options.part == "make" else _show)(options)
    except ContainerError as error:
        sys.stderr.write(f"hil-rig container: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"hil-rig container: {error.filename}: {error.strerror}\n")
        return 2
    return 0
