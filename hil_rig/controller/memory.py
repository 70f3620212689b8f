"""Two banks of flash in one file, and what the bootloader remembers in a small one beside it.

Flash as it is: erasing sets bytes to 0xFF, programming works on erased bytes only. Every operation
is in the file when it returns, and is counted before it has an effect, so that a process killed at
any instant leaves exactly what had been written. Offsets are bytes from the start of a bank.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import msgspec

from hil_rig.controller.boot import BootState
from hil_rig.firmware import DESCRIPTOR_OFFSET, DESCRIPTOR_SIZE, Descriptor, find_descriptor

ERASED = 0xFF
BANKS = 2
SECTOR = 64 << 10
_COUNTERS = struct.Struct("<QQ")


class NotErased(Exception):
    """Programming was asked for bytes that are not all erased; nothing was written."""


class MemoryDamaged(Exception):
    """The memory files do not fit together or cannot be read; the message is one line."""


class PowerLost(Exception):
    """Power went away right after an operation, as `Memory.lose_power_after` asked."""


class Memory:
    """Flash of two banks of `bank_size` bytes in `path`, bootloader state in `path` + `.state`."""

    def __init__(self, path: Path, bank_size: int) -> None:
        """Open the memory, or make an erased one. Raises `MemoryDamaged`, `OSError`."""
        self.bank_size = bank_size
        self._state_path = path.with_name(path.name + ".state")
        size = BANKS * bank_size + _COUNTERS.size
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._fd).st_size == 0:
            self._write(0, bytes([ERASED]) * (BANKS * bank_size) + bytes(_COUNTERS.size))
        if os.fstat(self._fd).st_size != size:
            os.close(self._fd)
            raise MemoryDamaged(f"{path}: is not {BANKS} banks of {bank_size} bytes")
        self.erases, self.programs = _COUNTERS.unpack(
            os.pread(self._fd, _COUNTERS.size, BANKS * bank_size)
        )
        self.state = self._load_state()
        self.lose_power_after: int | None = None

    def close(self) -> None:
        """Close the file; the memory keeps what it has."""
        os.close(self._fd)

    @property
    def writes(self) -> int:
        """Erase and program operations ever made."""
        return int(self.erases + self.programs)

    def read(self, bank: int, offset: int, length: int) -> bytes:
        """`length` bytes of a bank; raises `ValueError` outside of it."""
        return os.pread(self._fd, length, self._position(bank, offset, length))

    def erase(self, bank: int, offset: int, length: int) -> None:
        """Set a range to erased; counts as one operation."""
        position = self._position(bank, offset, length)
        self.erases += 1
        self._count()
        self._write(position, bytes([ERASED]) * length)
        self._operation_done()

    def program(self, bank: int, offset: int, data: bytes) -> None:
        """Write erased bytes; counts as one operation. Raises `NotErased`."""
        position = self._position(bank, offset, len(data))
        if os.pread(self._fd, len(data), position).count(ERASED) != len(data):
            raise NotErased(f"bank {bank}, offset 0x{offset:x}")
        self.programs += 1
        self._count()
        self._write(position, data)
        self._operation_done()

    def sha256(self, bank: int, offset: int, length: int) -> bytes:
        """SHA-256 of a range of a bank."""
        return hashlib.sha256(self.read(bank, offset, length)).digest()

    def digest(self, bank: int) -> str:
        """SHA-256 of a whole bank, in hex."""
        return self.sha256(bank, 0, self.bank_size).hex()

    def descriptor(self, bank: int) -> Descriptor | None:
        """The software descriptor in a bank."""
        end = min(DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE, self.bank_size)
        return find_descriptor(self.read(bank, 0, end))

    def crc32(self, bank: int) -> int:
        """CRC-32 of the bytes programmed into a bank, in order of their addresses."""
        crc = 0
        for offset, length in self.state.programmed[bank]:
            crc = zlib.crc32(self.read(bank, offset, length), crc)
        return crc

    def keep(self, state: BootState) -> None:
        """Replace the bootloader's state, durably, as a whole."""
        new = self._state_path.with_name(self._state_path.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, msgspec.json.encode(state))
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(self._state_path)
        directory = os.open(self._state_path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.state = state
        self._operation_done()

    def install(self, image: bytes, rxswin: str) -> None:
        """Put a factory image into bank 0 of a memory never used, not counted as operations."""
        if len(image) > self.bank_size:
            raise MemoryDamaged(f"image of {len(image)} bytes; a bank has {self.bank_size}")
        self._write(self._position(0, 0, len(image)), image)
        state = BootState().with_programmed(0, ((0, len(image)),)).with_rxswin(0, rxswin)
        self.keep(state.with_hash(0, self.digest(0)))

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever installed or written."""
        return self.writes == 0 and self.state == BootState()

    def _operation_done(self) -> None:
        if self.lose_power_after is None:
            return
        self.lose_power_after -= 1
        if self.lose_power_after == 0:
            self.lose_power_after = None
            raise PowerLost

    def _position(self, bank: int, offset: int, length: int) -> int:
        if not (0 <= bank < BANKS and offset >= 0 and 0 <= length <= self.bank_size - offset):
            raise ValueError(f"bank {bank}, offset 0x{offset:x}, {length} bytes: outside")
        return bank * self.bank_size + offset

    def _count(self) -> None:
        self._write(BANKS * self.bank_size, _COUNTERS.pack(self.erases, self.programs))

    def _write(self, position: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, position)
            view, position = view[done:], position + done

    def _load_state(self) -> BootState:
        try:
            return msgspec.json.decode(self._state_path.read_bytes(), type=BootState)
        except FileNotFoundError:
            return BootState()
        except msgspec.DecodeError as error:
            raise MemoryDamaged(f"{self._state_path}: {error}") from error
