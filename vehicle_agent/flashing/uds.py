"""The conversation with a UDS server (ISO 14229-1, -2): asyncio, timing, repetition, keep-alive.

udsoncan encodes requests and decodes responses; when to wait, repeat or give up is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib

from udsoncan.Request import Request
from udsoncan.Response import Response

from vehicle_agent.flashing.nrc import Action, policy
from vehicle_agent.flashing.profile import SessionTiming
from vehicle_agent.flashing.requests import shown
from vehicle_agent.flashing.transport import Transport
from vehicle_agent.refusals import Code, Refused

REPEATS = 2
"""How often a request whose answer was lost is sent again, where the service allows it."""
BUSY_REPEATS = 5
"""How often a request that was answered 0x21 is sent again."""

_DEFAULT_SESSION = 1
_NETWORK_S = 0.05
_MAX_P2_S, _MAX_P2_STAR_S = 5.0, 60.0
_TESTER_PRESENT = b"\x3e\x80"

_HAS_SUB_FUNCTION = frozenset({0x10, 0x11, 0x19, 0x27, 0x28, 0x31, 0x3E, 0x85})
# Bytes after the service byte that a positive response repeats from its request.
_ECHO = dict.fromkeys(_HAS_SUB_FUNCTION, 1) | {0x22: 2, 0x2E: 2, 0x31: 3, 0x36: 1}
# Carried out twice these do no harm: TransferData repeats its counter, routines start over.
_REPEATABLE = frozenset({0x10, 0x19, 0x22, 0x28, 0x2E, 0x31, 0x36, 0x3E, 0x85})


class UdsClient:
    """One tester, one server, one request at a time.

    While a session other than the default one is open, suppressed TesterPresent keeps it.
    """

    def __init__(self, transport: Transport, timing: SessionTiming) -> None:
        self._transport = transport
        self._timing = timing
        self._p2_s, self._p2_star_s = timing.p2_s, timing.p2_star_s
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._epoch = 0
        self._last_sent = 0.0
        self._pending_until: float | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.session = _DEFAULT_SESSION

    async def request(
        self, request: Request, *, functional: bool = False, once: bool = False
    ) -> Response:
        """Send a request and return its final response, positive or negative.

        0x21 is repeated after a back-off and 0x78 waited for, both bounded. A lost response is
        asked for again where the service allows it; never with `once`. Raises
        Refused(CONTROLLER_SILENT) without an answer, Refused(BUS_UNAVAILABLE) on bus failure and
        abort.
        """
        epoch = self._epoch
        async with self._lock:
            for attempt in range(BUSY_REPEATS + 1):
                response = await self._exchange(request, epoch, functional=functional, once=once)
                if _action(response) is not Action.REPEAT_AFTER_BACKOFF:
                    break
                if attempt < BUSY_REPEATS:
                    await asyncio.sleep(self._timing.busy_backoff_s * 2**attempt)
            self._require(epoch)  # an answer that came with the abort opens no session
            if response.positive:
                self._follow_session(request, response)
        return response

    def abort(self) -> None:
        """Nothing more goes on the bus before the next `request`; who waits gets Refused."""
        self._epoch += 1
        self._stop_keeper()
        self.session = _DEFAULT_SESSION
        self._transport.abort()

    async def close(self) -> None:
        """Abort and close the transport."""
        keeper = self._keeper
        self.abort()
        if keeper is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        self._transport.close()

    def _require(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise Refused(Code.BUS_UNAVAILABLE, "the conversation was aborted")

    async def _exchange(
        self, request: Request, epoch: int, *, functional: bool, once: bool
    ) -> Response:
        payload = request.get_payload()
        repeatable = payload[0] in _REPEATABLE or (payload[0] == 0x27 and payload[1] % 2 == 1)
        for _ in range(REPEATS + 1 if repeatable and not once else 1):
            self._require(epoch)
            self._transport.discard()
            self._pending_until = None
            try:
                await self._transport.send(payload, functional=functional)
                self._last_sent = self._loop.time()
                return await self._answer(request)
            except TimeoutError:
                continue
            except Refused as refused:
                if refused.refusal.code is not Code.CONTROLLER_SILENT or self._overdue:
                    raise
        raise Refused(
            Code.CONTROLLER_SILENT,
            f"no answer to {shown(request)} within {self._p2_s:g} s",
        )

    @property
    def _overdue(self) -> bool:
        return self._pending_until is not None and self._loop.time() >= self._pending_until

    async def _answer(self, request: Request) -> Response:
        """The final response to `request`; late answers to earlier ones are passed over."""
        payload = request.get_payload()
        limit = self._loop.time() + self._p2_s
        while True:
            try:
                pdu = await self._transport.receive(max(0.0, limit - self._loop.time()))
            except TimeoutError:
                if self._overdue:
                    raise Refused(
                        Code.CONTROLLER_SILENT,
                        f"0x78 to {shown(request)} for {self._timing.pending_cap_s:g} s, "
                        "session.pending_cap_s allows no more",
                    ) from None
                raise
            if not _answers(payload, pdu):
                continue
            response = Response.from_payload(pdu)
            if not response.valid:
                continue
            if _action(response) is not Action.WAIT_PENDING:
                return response
            now = self._loop.time()
            if self._pending_until is None:
                self._pending_until = now + self._timing.pending_cap_s
            limit = min(now + self._p2_star_s, self._pending_until)

    def _follow_session(self, request: Request, response: Response) -> None:
        """Keep the session that was entered, with the timing that the server announced."""
        payload = request.get_payload()
        if payload[0] == 0x10:
            self.session = payload[1] & 0x7F
            data = bytes(response.data or b"")
            p2_s = int.from_bytes(data[1:3]) / 1000 if len(data) >= 5 else 0.0
            p2_star_s = int.from_bytes(data[3:5]) / 100 if len(data) >= 5 else 0.0
            self._p2_s = max(self._timing.p2_s, min(p2_s + _NETWORK_S, _MAX_P2_S))
            self._p2_star_s = max(self._timing.p2_star_s, min(p2_star_s, _MAX_P2_STAR_S))
        elif payload[0] == 0x11:
            self.session = _DEFAULT_SESSION
        if self.session == _DEFAULT_SESSION:
            self._stop_keeper()
        elif self._keeper is None:
            self._keeper = self._loop.create_task(self._keep_session())

    def _stop_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def _keep_session(self) -> None:
        interval = self._timing.s3_s * 0.4
        while True:
            await asyncio.sleep(max(0.0, self._last_sent + interval - self._loop.time()))
            async with self._lock:
                if self._last_sent + interval > self._loop.time():
                    continue
                try:
                    await self._transport.send(_TESTER_PRESENT)
                except Refused:
                    return  # the next request meets the same bus and says so
                self._last_sent = self._loop.time()


def _action(response: Response) -> Action | None:
    """The line of the NRC table for a negative response."""
    return None if response.positive else policy(response.code or 0).action


def _answers(payload: bytes, pdu: bytes) -> bool:
    """Whether `pdu` belongs to the request `payload`: service and echoed parameters agree."""
    service = payload[0]
    if len(pdu) >= 3 and pdu[0] == 0x7F:
        return pdu[1] == service
    if not pdu or pdu[0] != service + 0x40:
        return False
    echo = bytearray(payload[1 : 1 + _ECHO.get(service, 0)])
    if echo and service in _HAS_SUB_FUNCTION:
        echo[0] &= 0x7F
    return pdu[1 : 1 + len(echo)] == echo
