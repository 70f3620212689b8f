"""Taking new software in: erase, download, memory and dependency check, for the inactive bank."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import msgspec

from hil_rig.controller.boot import Next
from hil_rig.controller.iso14229 import Negative, Nrc
from hil_rig.controller.memory import SECTOR, Memory, NotErased

PASSED = b"\x00"
NOTHING_PROGRAMMED = b"\x01"
WRONG_HARDWARE = b"\x02"

Busy = Generator[float, None, bytes]


@dataclass(slots=True)
class _Transfer:
    start: int
    end: int
    position: int
    counter: int = 0
    begun: bool = False


def _address_and_length(record: bytes) -> tuple[int, int]:
    """Decode `<format> <address> <length>`; raises `Negative` 13 or 31."""
    if not record:
        raise Negative(Nrc.INCORRECT_LENGTH)
    length_size, address_size = record[0] >> 4, record[0] & 0xF
    if not (1 <= length_size <= 4 and 1 <= address_size <= 5):
        raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
    if len(record) != 1 + address_size + length_size:
        raise Negative(Nrc.INCORRECT_LENGTH)
    address = int.from_bytes(record[1 : 1 + address_size])
    return address, int.from_bytes(record[1 + address_size :])


class Programmer:
    """One programming session's work on the inactive bank, seen through the address window.

    Methods raise `Negative`; those that take time are generators of the seconds they are busy.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        window: int,
        hardware_id: str,
        block_length: int,
        erase_s: float,
        program_s: float,
    ) -> None:
        self._memory = memory
        self._window = window
        self._hardware_id = hardware_id
        self._block_length = block_length
        self._erase_s = erase_s
        self._program_s = program_s
        self._transfer: _Transfer | None = None

    def abort(self) -> None:
        """Forget a download that is under way; what is written stays written."""
        self._transfer = None

    def erase(self, option: bytes) -> Busy:
        """FF00: erase a range of the inactive bank, 64 KiB at a time."""
        offset, length = self._range(option)
        self._claim_bank()
        self._transfer = None
        bank = self._memory.state.inactive
        self._forget(bank, offset, length)
        for start in range(offset, offset + length, SECTOR):
            yield self._erase_s
            self._memory.erase(bank, start, min(SECTOR, offset + length - start))
        return PASSED

    def request_download(self, data: bytes) -> bytes:
        """0x34 without its service byte: format, range → maximum length of a block."""
        offset, length = self._range(data[1:])
        if data[0] != 0:
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        if self._transfer is not None:
            raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
        self._claim_bank()
        self._transfer = _Transfer(offset, offset + length, offset)
        size = (self._block_length.bit_length() + 7) // 8
        return bytes((size << 4,)) + self._block_length.to_bytes(size)

    def transfer(self, data: bytes) -> Busy:
        """0x36 without its service byte: counter and data; a repeated counter writes nothing."""
        if len(data) + 1 > self._block_length:
            raise Negative(Nrc.INCORRECT_LENGTH)
        transfer = self._transfer
        if transfer is None:
            raise Negative(Nrc.REQUEST_SEQUENCE_ERROR)
        counter, block = data[0], data[1:]
        if transfer.begun and counter == transfer.counter:
            return bytes((counter,))
        if transfer.position == transfer.end:
            raise Negative(Nrc.REQUEST_SEQUENCE_ERROR)
        if counter != (transfer.counter + 1) & 0xFF:
            raise Negative(Nrc.WRONG_BLOCK_SEQUENCE_COUNTER)
        if len(block) > transfer.end - transfer.position:
            self._transfer = None
            raise Negative(Nrc.TRANSFER_DATA_SUSPENDED)
        if self._program_s:
            yield self._program_s
        try:
            self._memory.program(self._memory.state.inactive, transfer.position, block)
        except NotErased:
            self._transfer = None
            raise Negative(Nrc.GENERAL_PROGRAMMING_FAILURE) from None
        transfer.position += len(block)
        transfer.counter = counter
        transfer.begun = True
        return bytes((counter,))

    def exit(self, data: bytes) -> bytes:
        """0x37 without its service byte; the range counts as programmed from here on."""
        if data:
            raise Negative(Nrc.INCORRECT_LENGTH)
        transfer = self._transfer
        if transfer is None or transfer.position != transfer.end:
            raise Negative(Nrc.REQUEST_SEQUENCE_ERROR)
        self._transfer = None
        state = self._memory.state
        done = (transfer.start, transfer.end - transfer.start)
        self._memory.keep(
            state.with_programmed(state.inactive, tuple({*state.programmed[state.inactive], done}))
        )
        return b""

    def check_memory(self, option: bytes, *, running: bool) -> bytes:
        """0202: the digest of a range, of the bank that runs or of the one being programmed."""
        if len(option) != 8:
            raise Negative(Nrc.INCORRECT_LENGTH)
        offset, length = self._range(b"\x44" + option)
        state = self._memory.state
        return PASSED + self._memory.sha256(
            state.active if running else state.inactive, offset, length
        )

    def check_dependencies(self, option: bytes) -> bytes:
        """FF01: mark the programmed bank for a trial boot, or say what is missing."""
        if option:
            raise Negative(Nrc.INCORRECT_LENGTH)
        state = self._memory.state
        if self._transfer is not None:
            raise Negative(Nrc.REQUEST_SEQUENCE_ERROR)
        if state.trial:
            raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
        bank = state.inactive
        if not state.programmed[bank]:
            return NOTHING_PROGRAMMED
        descriptor = self._memory.descriptor(bank)
        if descriptor is not None and descriptor.hardware_id != self._hardware_id:
            return WRONG_HARDWARE
        rxswin = descriptor.rxswin if descriptor is not None else state.rxswins[state.active]
        state = state.with_hash(bank, self._memory.digest(bank)).with_rxswin(bank, rxswin)
        self._memory.keep(msgspec.structs.replace(state, next=Next.TRIAL))
        return PASSED

    def _range(self, record: bytes) -> tuple[int, int]:
        address, length = _address_and_length(record)
        offset = address - self._window
        if not (offset >= 0 and 0 < length <= self._memory.bank_size - offset):
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        return offset, length

    def _claim_bank(self) -> None:
        """The inactive bank is about to change: it is not to be booted, nor the way back."""
        state = self._memory.state
        if state.trial or state.next is Next.REVERT:
            raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
        claimed = msgspec.structs.replace(
            state.with_hash(state.inactive, None), next=Next.SAME, revertible=False
        )
        if claimed != state:
            self._memory.keep(claimed)

    def _forget(self, bank: int, offset: int, length: int) -> None:
        state = self._memory.state
        kept = tuple(
            (start, size)
            for start, size in state.programmed[bank]
            if start + size <= offset or start >= offset + length
        )
        if kept != state.programmed[bank]:
            self._memory.keep(state.with_programmed(bank, kept))
