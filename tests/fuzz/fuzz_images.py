"""Firmware files: Intel HEX, S-record, ELF and plain binary."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import bincopy

from hil_rig.firmware import make_image
from tests.fuzz.mutation import mutated, unhandled
from vehicle_agent.flashing.images import load_image
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.refusals import Refused

_ROOT = Path(__file__).resolve().parents[2]
_START = 0x0800_0000
_SIZE = 512


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` changed files."""
    chance = random.Random(seed)
    profile = load_profile(_ROOT / "vehicle_agent" / "flashing" / "adas.toml")
    bases = _bases()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "image"
        for number in range(count):
            path.write_bytes(mutated(bases[number % len(bases)], chance))
            what = f"fuzz_images: seed {seed}, input {number}"
            bad += unhandled(what, lambda: load_image(path, profile), Refused)
    return count, bad


def _bases() -> list[bytes]:
    data = make_image("2.4.0", "RX2", "hw-3", _SIZE, 7)
    binary = bincopy.BinFile()
    binary.add_binary(data, address=_START)
    return [data, binary.as_ihex().encode(), binary.as_srec().encode(), _elf(data)]


def _elf(data: bytes) -> bytes:
    """An ELF32 file, little-endian, with one PT_LOAD segment."""
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    fields = ((2, 2), (40, 2), (1, 4), (_START, 4), (52, 4), (0, 4), (0, 4))
    sizes = ((52, 2), (32, 2), (1, 2), (40, 2), (0, 2), (0, 2))
    header += b"".join(value.to_bytes(size, "little") for value, size in (*fields, *sizes))
    program = (1, 84, _START, _START, len(data), len(data), 5, 4)
    return header + b"".join(value.to_bytes(4, "little") for value in program) + data
