"""A clock that jumps to the next timer, and a small UDS server in memory behind a `Transport`."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from vehicle_agent.flashing.profile import ControllerProfile, load_profile
from vehicle_agent.refusals import Code, Refused

PROFILE = Path(__file__).parents[2] / "vehicle_agent" / "flashing" / "adas.toml"
START = 0x0800_0000

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """Time stands still while there is something to do, then jumps to the next timer."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)


def profile() -> ControllerProfile:
    return load_profile(PROFILE)


class MiniServer:
    """Answers as ISO 14229 says; `twist` may answer instead: a list of PDUs, or None."""

    def __init__(self, *, block_length: bytes = b"\x20\x00\x12", seed: bytes = b"seed-of-16-bytes"):
        self.memory: dict[int, int] = {}
        self.block_length = block_length
        self.seed = seed
        self.twist: Callable[[bytes], list[bytes] | None] = lambda _: None
        self.counter = 0
        self.address = 0
        self.requests: list[bytes] = []

    def answer(self, pdu: bytes) -> list[bytes]:
        self.requests.append(pdu)
        twisted = self.twist(pdu)
        if twisted is not None:
            return twisted
        response = self._positive(pdu)
        return [] if response is None else [response]

    def _positive(self, pdu: bytes) -> bytes | None:
        match pdu[0]:
            case 0x10:
                return b"\x50" + pdu[1:2] + b"\x00\x32\x01\xf4"
            case 0x22:
                return b"\x62" + pdu[1:3] + (b"\0\0\1\0" if pdu[1:3] == b"\xf1\xf0" else b"text")
            case 0x27:
                return b"\x67" + pdu[1:2] + (self.seed if pdu[1] % 2 else b"")
            case 0x19:
                return b"\x59\x02\x09" + bytes.fromhex("C10087 09")
            case 0x2E:
                return b"\x6e" + pdu[1:3]
            case 0x31:
                return b"\x71" + pdu[1:4] + self._routine(pdu[2:4], pdu[4:])
            case 0x34:
                self.address, self.counter = int.from_bytes(pdu[3:7]), 0
                return b"\x74" + self.block_length
            case 0x36:
                if pdu[1] != self.counter:
                    assert pdu[1] == (self.counter + 1) & 0xFF
                    self.counter = pdu[1]
                    for byte in pdu[2:]:
                        assert self.address not in self.memory, "programmed twice without an erase"
                        self.memory[self.address] = byte
                        self.address += 1
                return b"\x76" + pdu[1:2]
            case 0x37:
                return b"\x77"
            case 0x3E:
                return None
            case service:
                return bytes((service + 0x40,)) + pdu[1:2]

    def _routine(self, routine: bytes, option: bytes) -> bytes:
        if routine == b"\xff\x00":
            start, length = int.from_bytes(option[1:5]), int.from_bytes(option[5:9])
            for address in range(start, start + length):
                self.memory.pop(address, None)
        if routine == b"\x02\x02":
            start, length = int.from_bytes(option[:4]), int.from_bytes(option[4:8])
            found = bytes(
                self.memory.get(address, 0xFF) for address in range(start, start + length)
            )
            return b"\0" + hashlib.sha256(found).digest()
        return b"\0"


class MemoryTransport:
    """`Transport` to a `MiniServer`; remembers what was sent and when."""

    def __init__(self, server: MiniServer) -> None:
        self.server = server
        self.sent: list[bytes] = []
        self.times: list[float] = []
        self.functional: list[bytes] = []
        self.closed = False
        self._responses: deque[bytes] = deque()
        self._receiving: asyncio.Future[None] | None = None

    async def send(self, pdu: bytes, *, functional: bool = False) -> None:
        self.sent.append(pdu)
        self.times.append(asyncio.get_running_loop().time())
        if functional:
            self.functional.append(pdu)
        await asyncio.sleep(0)
        self._responses += self.server.answer(pdu)

    async def receive(self, timeout: float) -> bytes:
        if self._responses:
            return self._responses.popleft()
        self._receiving = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout):
            await self._receiving
        raise AssertionError("unreachable")

    def discard(self) -> None:
        self._responses.clear()

    def abort(self) -> None:
        if self._receiving is not None and not self._receiving.done():
            self._receiving.set_exception(Refused(Code.BUS_UNAVAILABLE, "aborted"))

    def close(self) -> None:
        self.closed = True
        self.abort()
