"""How whole UDS messages reach a controller and come back: a small interface, and ISO-TP on CAN.

Kernel ISO-TP sockets and DoIP fit behind the same `Transport`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from vehicle_agent.bus import WINDOW, BusConfig, CanPort, Frame, Outcome
from vehicle_agent.flashing.isotp import IsoTp, Received, Result, Sent
from vehicle_agent.flashing.profile import Addressing, IsoTpParameters
from vehicle_agent.refusals import Code, Refused

_KEPT_RESPONSES = 64


class Transport(Protocol):
    """One connection to one controller.

    Sends nothing by itself; after `abort` it is silent until the next `send`.
    """

    async def send(self, pdu: bytes, *, functional: bool = False) -> None:
        """Send a message; returns once it is on the bus.

        `functional`: to every controller that listens. Raises Refused(BUS_UNAVAILABLE) if the bus
        fails or on abort, Refused(CONTROLLER_SILENT) if the controller does not take part.
        """

    async def receive(self, timeout: float) -> bytes:
        """Return the next message of the controller.

        `timeout` is the time in seconds until it *begins*. Raises TimeoutError, or Refused as
        `send` does.
        """

    def discard(self) -> None:
        """Forget messages that have come and were not asked for."""

    def abort(self) -> None:
        """Send nothing more, at once; who waits gets Refused(BUS_UNAVAILABLE)."""

    def close(self) -> None:
        """Abort and give back the sockets."""


class IsoTpTransport:
    """`Transport` over ISO 15765-2 in user space, on a CAN port of its own.

    A response that breaks off (N_Cr, wrong sequence number) is dropped: for UDS it is lost.
    """

    def __init__(
        self,
        config: BusConfig,
        addresses: Addressing,
        parameters: IsoTpParameters,
    ) -> None:
        """Open the port in the running loop; sends nothing. Raises Refused(BUS_UNAVAILABLE)."""
        if config.fd is False and parameters.tx_data_length > 8:
            raise Refused(
                Code.CONFIG_INVALID,
                f"bus {config.channel}: fd = false, the profile's isotp.tx_data_length is "
                f"{parameters.tx_data_length}; set fd = true or tx_data_length = 8",
            )
        self._addresses = addresses
        self._parameters = parameters
        self._engine = IsoTp(parameters)
        self._loop = asyncio.get_running_loop()
        self._sending: asyncio.Future[None] | None = None
        self._receiving: asyncio.Future[None] | None = None
        self._responses: deque[bytes] = deque(maxlen=_KEPT_RESPONSES)
        self._broken_off = False
        self._silenced = True
        self._in_flight = 0
        self._epoch = 0
        self._failure: Refused | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._port = CanPort.open(
            config,
            receive=[(addresses.response, addresses.extended)],
            transmit=[
                (addresses.request, addresses.extended),
                (addresses.functional, addresses.extended),
            ],
            on_frame=self._on_frame,
            on_error=self._on_error,
        )

    async def send(self, pdu: bytes, *, functional: bool = False) -> None:
        """Send a PDU, a functional one in a single frame."""
        if self._failure is not None:
            raise self._failure
        self._silenced = False
        if functional:
            await self._send_functional(pdu)
            return
        if self._sending is not None:
            raise RuntimeError("one PDU at a time")
        sending = self._sending = self._loop.create_future()
        self._engine.send(pdu)
        self._pump()
        try:
            await sending
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._sending = None

    async def _send_functional(self, pdu: bytes) -> None:
        engine = IsoTp(self._parameters)  # for its single frame only
        engine.send(pdu)
        (data,) = engine.frames(self._loop.time(), 1)
        if data[0] >> 4:
            raise ValueError("a functional request is one frame")
        try:
            async with asyncio.timeout(self._parameters.n_as_s):
                await self._port.send(self._frame(self._addresses.functional, data))
        except TimeoutError:
            self._port.abort()
            raise self._unsent(Result.TIMEOUT_A) from None

    async def receive(self, timeout: float) -> bytes:
        """Return the next PDU; one that has begun in time is waited for until it ends."""
        deadline = self._loop.time() + timeout
        self._broken_off = False
        while not self._responses:
            if self._failure is not None:
                raise self._failure
            waiting = self._receiving = self._loop.create_future()
            handle = None
            if not self._engine.receiving:
                handle = self._loop.call_at(deadline, self._give_up, waiting)
            try:
                await waiting
            finally:
                self._receiving = None
                if handle is not None:
                    handle.cancel()
            if self._broken_off and self._loop.time() >= deadline:
                raise TimeoutError
        return self._responses.popleft()

    def _give_up(self, waiting: asyncio.Future[None]) -> None:
        if not waiting.done() and not self._engine.receiving:
            waiting.set_exception(TimeoutError())

    def discard(self) -> None:
        """Forget what has come so far."""
        self._responses.clear()

    def abort(self) -> None:
        """Silent from this instant: not even flow control goes out before the next `send`."""
        self._silenced = True
        self._epoch += 1
        self._in_flight = 0
        self._engine.reset()
        self._port.abort()
        self._end(Refused(Code.BUS_UNAVAILABLE, "sending was aborted"))

    def close(self) -> None:
        """Abort and close the port. May be called again."""
        self.abort()
        if self._failure is None:
            self._failure = Refused(Code.BUS_UNAVAILABLE, "the connection is closed")
        if self._timer is not None:
            self._timer.cancel()
        self._port.close()

    def _end(self, refused: Refused) -> None:
        for future in (self._sending, self._receiving):
            if future is not None and not future.done():
                future.set_exception(refused)

    def _on_error(self, refused: Refused) -> None:
        self._failure = refused
        self._silenced = True
        self._engine.reset()
        self._end(refused)

    def _on_frame(self, frame: Frame, now: float) -> None:
        if not self._silenced:
            self._engine.received(frame.data, now)
            self._pump()

    def _pump(self) -> None:
        """Let the engine send what may go, take its events, and arm its deadline."""
        now = self._loop.time()
        self._engine.expire(now)
        for data in self._engine.frames(now, WINDOW - self._in_flight):
            self._in_flight += 1
            epoch = self._epoch

            def done(outcome: Outcome, epoch: int = epoch) -> None:
                self._on_outcome(outcome, epoch)

            self._port.post(self._frame(self._addresses.request, data), done)
        for event in self._engine.events():
            if isinstance(event, Sent):
                self._on_sent(event.result)
            else:
                self._on_received(event)
        self._arm()

    def _on_outcome(self, outcome: Outcome, epoch: int) -> None:
        if epoch != self._epoch:
            return
        self._in_flight -= 1
        if not isinstance(outcome, Refused):
            self._engine.confirmed(outcome)
            self._pump()

    def _on_sent(self, result: Result) -> None:
        if result is Result.TIMEOUT_A:
            self._port.abort()
            self._in_flight = 0
            self._epoch += 1
        if self._sending is None or self._sending.done():
            return
        if result is Result.OK:
            self._sending.set_result(None)
        else:
            self._sending.set_exception(self._unsent(result))

    def _on_received(self, event: Received) -> None:
        self._broken_off = event.result is not Result.OK
        if not self._broken_off:
            self._responses.append(event.pdu)
        if self._receiving is not None and not self._receiving.done():
            self._receiving.set_result(None)

    def _arm(self) -> None:
        deadline = self._engine.deadline
        if deadline is None:
            return  # a timer left over finds nothing to do
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._silenced:
            self._pump()

    def _frame(self, identifier: int, data: bytes) -> Frame:
        fd = self._parameters.tx_data_length > 8
        return Frame(
            identifier, data, self._addresses.extended, fd, fd and self._parameters.bitrate_switch
        )

    def _unsent(self, result: Result) -> Refused:
        code = Code.BUS_UNAVAILABLE if result is Result.TIMEOUT_A else Code.CONTROLLER_SILENT
        return Refused(
            code, f"request to 0x{self._addresses.request:X}: ISO-TP ended with {result}"
        )
