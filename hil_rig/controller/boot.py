"""Which bank runs: the bootloader's decisions, as values in and values out.

A bank that fails to boot three times in a row is left for the other one, if that one is bootable.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

BOOT_ATTEMPTS = 3
BOOT_COUNT_MAX = 255


class Next(StrEnum):
    """What the next reset does."""

    SAME = "same"
    TRIAL = "trial"
    REVERT = "revert"


class BootState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bootloader remembers over a loss of power.

    `hashes` are the digests that the dependency check (FF01) saw, `programmed` the finished
    (offset, length) transfers, both by bank; None or nothing where a bank is not to be booted.
    `fingerprint` is the last one written (F15A), in hex. `boots` counts attempts to boot the
    active bank since it became active, up to 255.
    """

    active: int = 0
    next: Next = Next.SAME
    trial: bool = False
    revertible: bool = False
    boots: int = 0
    failed_boots: int = 0
    hashes: tuple[str | None, str | None] = (None, None)
    rxswins: tuple[str, str] = ("", "")
    fingerprint: str = ""
    programmed: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] = ((), ())

    @property
    def inactive(self) -> int:
        """The bank that may be programmed."""
        return 1 - self.active

    def with_hash(self, bank: int, digest: str | None) -> BootState:
        """The same with another digest for `bank`."""
        first, second = self.hashes
        pair = (digest, second) if bank == 0 else (first, digest)
        return msgspec.structs.replace(self, hashes=pair)

    def with_rxswin(self, bank: int, rxswin: str) -> BootState:
        """The same with another RXSWIN for `bank`."""
        first, second = self.rxswins
        pair = (rxswin, second) if bank == 0 else (first, rxswin)
        return msgspec.structs.replace(self, rxswins=pair)

    def with_programmed(self, bank: int, ranges: tuple[tuple[int, int], ...]) -> BootState:
        """The same with other finished transfers for `bank`, in order of their offsets."""
        first, second = self.programmed
        ordered = tuple(sorted(ranges))
        pair = (ordered, second) if bank == 0 else (first, ordered)
        return msgspec.structs.replace(self, programmed=pair)


class Outcome(StrEnum):
    """How one attempt to boot ended."""

    RUNS = "runs"
    AGAIN = "again"
    BOOTLOADER = "bootloader"


class Attempt(NamedTuple):
    """The state to keep before the attempt has any effect, and its outcome."""

    state: BootState
    outcome: Outcome


def at_reset(state: BootState) -> BootState:
    """Let the bank that FF01 or a revert asked for take over."""
    if state.next is Next.SAME:
        return state
    trial = state.next is Next.TRIAL
    return msgspec.structs.replace(
        state,
        active=state.inactive,
        next=Next.SAME,
        trial=trial,
        revertible=trial,
        boots=0,
        failed_boots=0,
    )


def attempt(state: BootState, bootable: Callable[[BootState, int], bool]) -> Attempt:
    """One attempt to boot the active bank; `bootable(state, bank)` says if a bank starts."""
    state = msgspec.structs.replace(state, boots=min(state.boots + 1, BOOT_COUNT_MAX))
    if bootable(state, state.active):
        return Attempt(msgspec.structs.replace(state, failed_boots=0), Outcome.RUNS)
    state = msgspec.structs.replace(state, failed_boots=state.failed_boots + 1)
    if state.failed_boots < BOOT_ATTEMPTS:
        return Attempt(state, Outcome.AGAIN)
    other = msgspec.structs.replace(
        state, active=state.inactive, trial=False, revertible=False, boots=0, failed_boots=0
    )
    if not bootable(other, other.active):
        return Attempt(state, Outcome.BOOTLOADER)
    # Without its digest the failed bank cannot be chosen again before it is programmed anew.
    return Attempt(other.with_hash(state.active, None), Outcome.AGAIN)
