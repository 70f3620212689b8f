"""ISO 15765-2 without I/O: frames and `now` in, frames and a deadline out.

Normal addressing, classic frames and CAN FD up to 64 bytes. One object serves one pair of
identifiers, both directions at once. Times are seconds of any one monotonic clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from vehicle_agent.flashing.profile import IsoTpParameters

_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
_FILLER = 0xCC


class Result(StrEnum):
    """N_Result of ISO 15765-2, 8.3."""

    OK = "N_OK"
    TIMEOUT_A = "N_TIMEOUT_A"
    TIMEOUT_BS = "N_TIMEOUT_Bs"
    TIMEOUT_CR = "N_TIMEOUT_Cr"
    WRONG_SN = "N_WRONG_SN"
    INVALID_FS = "N_INVALID_FS"
    UNEXP_PDU = "N_UNEXP_PDU"
    WFT_OVRN = "N_WFT_OVRN"
    BUFFER_OVFLW = "N_BUFFER_OVFLW"


class Sent(NamedTuple):
    """N_USData.confirm: the PDU given to `send` is on the bus, or will not be."""

    result: Result


class Received(NamedTuple):
    """N_USData.indication; `pdu` is empty unless `result` is OK."""

    pdu: bytes
    result: Result


Event = Sent | Received


def st_min_s(code: int) -> float:
    """Seconds of an STmin byte; reserved values count as 127 ms, as the standard says."""
    if code <= 0x7F:
        return code / 1e3
    return (code - 0xF0) / 1e4 if 0xF1 <= code <= 0xF9 else 0.127


class _Sending(Enum):
    IDLE = auto()
    CONSECUTIVE = auto()
    FLOW_CONTROL = auto()
    LAST = auto()


class IsoTp:
    """The state of one connection.

    `frames` gives what may go on the bus now; each of them is reported back by `confirmed`, in
    order. STmin counts from that confirmation. `events` takes what has happened since.
    """

    def __init__(self, parameters: IsoTpParameters) -> None:
        self._parameters = parameters
        self.reset()

    def reset(self) -> None:
        """Forget everything under way, without events."""
        self._events: list[Event] = []
        self._unconfirmed: deque[bool] = deque()  # True: a frame of our PDU, False: flow control
        self._confirm_by = self._not_before = self._gap_s = 0.0
        self._control: bytes | None = None  # our flow control that still has to go
        self._sending = _Sending.IDLE
        self._pdu = b""
        self._offset = self._sequence = self._block_left = self._waits = 0
        self._answer_by: float | None = None
        self._collected: bytearray | None = None
        self._expected = self._frame_length = self._next_sequence = self._block_received = 0
        self._consecutive_by: float | None = None

    @property
    def sending(self) -> bool:
        """Whether a PDU is under way to the peer."""
        return self._sending is not _Sending.IDLE

    @property
    def receiving(self) -> bool:
        """Whether a PDU of several frames is coming in."""
        return self._collected is not None

    @property
    def deadline(self) -> float | None:
        """When `expire` or `frames` has something to do though no frame came, if ever."""
        times = [t for t in (self._answer_by, self._consecutive_by) if t is not None]
        if self._unconfirmed:
            times.append(self._confirm_by)
        if self._sending is _Sending.CONSECUTIVE and True not in self._unconfirmed:
            times.append(self._not_before)
        return min(times, default=None)

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def send(self, pdu: bytes) -> None:
        """Start to send. Raises ValueError while another PDU is under way, or for its length."""
        if self.sending:
            raise ValueError("a PDU is under way")
        if not 1 <= len(pdu) < 1 << 32:
            raise ValueError(f"a PDU has 1 to 2**32 - 1 bytes, not {len(pdu)}")
        self._pdu = pdu
        self._offset = self._sequence = self._waits = 0
        self._block_left, self._gap_s = 1, 0.0
        self._sending = _Sending.CONSECUTIVE

    def frames(self, now: float, room: int) -> list[bytes]:
        """Data of the frames that may go now, at most `room` of them."""
        out: list[bytes] = []
        if self._control is not None and room > 0:
            out.append(self._control)
            self._control = None
            self._note(now, ours=False)
        while self._sending is _Sending.CONSECUTIVE and len(out) < room:
            if self._gap_s and (True in self._unconfirmed or now < self._not_before):
                break
            out.append(self._next_frame())
            self._note(now, ours=True)
        return out

    def confirmed(self, now: float) -> None:
        """The oldest unconfirmed frame is on the bus."""
        if not self._unconfirmed:
            return
        ours = self._unconfirmed.popleft()
        self._confirm_by = now + self._parameters.n_as_s
        if not ours:
            if self._collected is not None:
                self._consecutive_by = now + self._parameters.n_cr_s
            return
        self._not_before = now + self._gap_s
        if True not in self._unconfirmed:
            if self._sending is _Sending.LAST:
                self._finish(Result.OK)
            elif self._sending is _Sending.FLOW_CONTROL:
                self._answer_by = now + self._parameters.n_bs_s

    def received(self, data: bytes, now: float) -> None:
        """Take one frame of the peer. Malformed and unexpected ones are ignored."""
        match data[0] >> 4 if data else None:
            case 0:
                self._single(data)
            case 1:
                self._first(data, now)
            case 2:
                self._consecutive(data, now)
            case 3:
                self._flow_control(data, now)

    def expire(self, now: float) -> None:
        """Apply the timeouts that have passed: N_As, N_Bs, N_Cr."""
        if self._unconfirmed and now >= self._confirm_by:
            self._unconfirmed.clear()
            self._finish(Result.TIMEOUT_A)
            self._drop(Result.TIMEOUT_A)
        if self._answer_by is not None and now >= self._answer_by:
            self._finish(Result.TIMEOUT_BS)
        if self._consecutive_by is not None and now >= self._consecutive_by:
            self._drop(Result.TIMEOUT_CR)

    def _note(self, now: float, *, ours: bool) -> None:
        if not self._unconfirmed:
            self._confirm_by = now + self._parameters.n_as_s
        self._unconfirmed.append(ours)

    def _next_frame(self) -> bytes:
        length, size = len(self._pdu), self._parameters.tx_data_length
        if self._offset == 0:
            if length <= 7 or length <= size - 2:
                self._offset, self._sending = length, _Sending.LAST
                head = bytes((length,)) if length <= 7 else bytes((0, length))
                return self._padded(head + self._pdu)
            long = length > 0xFFF
            head = b"\x10\0" + length.to_bytes(4) if long else (0x1000 | length).to_bytes(2)
        else:
            head = bytes((0x20 | self._sequence,))
        end = min(self._offset + size - len(head), length)
        frame = self._padded(head + self._pdu[self._offset : end])
        self._offset = end
        self._sequence = (self._sequence + 1) & 0xF
        self._block_left -= 1
        if end == length:
            self._sending = _Sending.LAST
        elif self._block_left == 0:
            self._sending = _Sending.FLOW_CONTROL
        return frame

    def _padded(self, data: bytes) -> bytes:
        size = _LENGTHS[bisect_left(_LENGTHS, len(data))]
        padding = self._parameters.padding
        if padding is None:
            return data.ljust(size, bytes((_FILLER,)))
        return data.ljust(max(size, 8), bytes((padding,)))

    def _finish(self, result: Result) -> None:
        if self._sending is not _Sending.IDLE:
            self._sending, self._answer_by, self._pdu = _Sending.IDLE, None, b""
            self._events.append(Sent(result))

    def _flow_control(self, data: bytes, now: float) -> None:
        if self._sending is not _Sending.FLOW_CONTROL or len(data) < 3:
            return
        status, block, gap = data[0] & 0xF, data[1], data[2]
        if status == 0:
            self._answer_by, self._waits = None, 0
            self._block_left = block or -1  # -1 never comes down to 0: no further flow control
            self._gap_s = st_min_s(gap)
            self._not_before = now
            self._sending = _Sending.CONSECUTIVE
        elif status == 1:
            self._waits += 1
            self._answer_by = now + self._parameters.n_bs_s
            if self._waits > self._parameters.max_wait_frames:
                self._finish(Result.WFT_OVRN)
        else:
            self._finish(Result.BUFFER_OVFLW if status == 2 else Result.INVALID_FS)

    def _drop(self, result: Result) -> None:
        self._control = None
        if self._collected is not None:
            self._collected, self._consecutive_by = None, None
            self._events.append(Received(b"", result))

    def _single(self, data: bytes) -> None:
        length, start = data[0] & 0xF, 1
        if len(data) > 8:
            length, start = (data[1], 2) if length == 0 else (0, 0)
            if length <= 7:
                return
        if not 1 <= length <= len(data) - start:
            return
        self._drop(Result.UNEXP_PDU)
        self._events.append(Received(data[start : start + length], Result.OK))

    def _first(self, data: bytes, now: float) -> None:
        if len(data) < 8:
            return
        length, start = (data[0] & 0xF) << 8 | data[1], 2
        if length == 0:
            length, start = int.from_bytes(data[2:6]), 6
            if length <= 0xFFF:
                return
        if length < (8 if len(data) == 8 else len(data) - 1):
            return
        self._drop(Result.UNEXP_PDU)
        if length > self._parameters.max_length:
            self._control = self._padded(b"\x32\0\0")
            return
        self._collected = bytearray(data[start:])
        self._expected, self._frame_length = length, len(data)
        self._next_sequence, self._block_received = 1, 0
        self._clear_to_send(now)

    def _clear_to_send(self, now: float) -> None:
        parameters = self._parameters
        self._control = self._padded(bytes((0x30, parameters.block_size, parameters.st_min)))
        self._consecutive_by = now + parameters.n_cr_s

    def _consecutive(self, data: bytes, now: float) -> None:
        if self._collected is None or self._control is not None:
            return
        if data[0] & 0xF != self._next_sequence:
            self._drop(Result.WRONG_SN)
            return
        missing = self._expected - len(self._collected)
        if len(data) > self._frame_length or len(data) - 1 < min(missing, self._frame_length - 1):
            return
        self._collected += data[1 : 1 + missing]
        self._next_sequence = (self._next_sequence + 1) & 0xF
        self._consecutive_by = now + self._parameters.n_cr_s
        if len(self._collected) == self._expected:
            pdu, self._collected, self._consecutive_by = bytes(self._collected), None, None
            self._events.append(Received(pdu, Result.OK))
            return
        self._block_received += 1
        if self._block_received == self._parameters.block_size:
            self._block_received = 0
            self._clear_to_send(now)
