"""One frame as it stands on the wire, and who wins when two want it."""

from __future__ import annotations

from typing import NamedTuple

FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
"""Data lengths in bytes that CAN FD has; the index is the DLC."""


class Frame(NamedTuple):
    """A data or remote frame.

    `requested` is the number of bytes that a remote frame asks for; its `data` is empty.
    """

    arbitration_id: int
    data: bytes = b""
    extended: bool = False
    fd: bool = False
    bitrate_switch: bool = False
    error_state_indicator: bool = False
    remote: bool = False
    requested: int = 0

    def flaw(self) -> str | None:
        """Say what makes this frame impossible on a CAN bus; None if it is a good frame."""
        bits = 29 if self.extended else 11
        if not 0 <= self.arbitration_id < 1 << bits:
            return f"arbitration id {self.arbitration_id:#x} does not fit {bits} bits"
        if self.fd:
            if self.remote:
                return "CAN FD has no remote frames"
            if len(self.data) not in FD_LENGTHS:
                return f"CAN FD has no frame of {len(self.data)} bytes; allowed: {FD_LENGTHS}"
            return None
        if self.bitrate_switch or self.error_state_indicator:
            return "only a CAN FD frame has a bit rate switch or an error state indicator"
        if self.remote and self.data:
            return "a remote frame has no data"
        if len(self.data) > 8 or not 0 <= self.requested <= 8:
            return "a classic frame has at most 8 bytes"
        return None

    def priority(self) -> int:
        """Arbitration field as a number: the lowest wins (dominant is 0), bit for bit as sent.

        So a base frame beats an extended one of the same leading bits, and a data frame beats a
        remote frame (ISO 11898-1, 10.4.2.2).
        """
        if not self.extended:
            return self.arbitration_id << 21 | self.remote << 20
        base, extension = self.arbitration_id >> 18, self.arbitration_id & 0x3FFFF
        return base << 21 | 0b11 << 19 | extension << 1 | self.remote
