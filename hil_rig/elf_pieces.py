"""What an ELF file puts into memory.

Firmware is often stripped so that its symbol and hash sections point nowhere, which pyelftools'
section objects do not take: only the plain headers are read here.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"

_SHF_ALLOC = 2


def pieces_of_elf(raw: bytes) -> list[tuple[int, bytes]]:
    """Physical address and bytes, as objcopy would load them: allocated sections of each segment.

    The whole segments where the file has no sections. Raises what pyelftools raises, or ValueError
    for bytes that are not in the file.
    """
    file: Any = ELFFile(BytesIO(raw))
    segments = [each for each in _headers(file, "p") if each["p_type"] == "PT_LOAD"]
    sections = [
        each
        for each in _headers(file, "s")
        if each["sh_flags"] & _SHF_ALLOC and each["sh_type"] != "SHT_NOBITS" and each["sh_size"]
    ]
    pieces = []
    for segment in segments:
        start, end = segment["p_offset"], segment["p_offset"] + segment["p_filesz"]
        parts = [
            (each["sh_offset"], each["sh_offset"] + each["sh_size"])
            for each in sections
            if start <= each["sh_offset"] and each["sh_offset"] + each["sh_size"] <= end
        ]
        for first, last in parts if file.header["e_shnum"] else [(start, end)]:
            if last > len(raw):
                raise ValueError("a segment is not wholly in the file")
            if last > first:
                pieces.append((segment["p_paddr"] + first - start, raw[first:last]))
    return sorted(pieces)


def _headers(file: Any, kind: str) -> list[Any]:
    """All program ("p") or section ("s") headers."""
    form = file.structs.Elf_Phdr if kind == "p" else file.structs.Elf_Shdr
    at, size, count = (file.header[f"e_{kind}h{field}"] for field in ("off", "entsize", "num"))
    return [struct_parse(form, file.stream, at + index * size) for index in range(count)]
