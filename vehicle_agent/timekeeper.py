"""Asks the time server for attestations, and lets others wait for trusted time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from vehicle_agent.notices.messages import Topic, time_request
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.trust.trusted_time import Outcome, TrustedClock

log = logging.getLogger(__name__)

_REFRESH_S = 3600.0
_RETRY_S = (5.0, 20.0)
_WAIT_S = 20.0
_GROSS = timedelta(hours=1)

Evidence = Callable[[timedelta], Awaitable[None]]
"""Hears by how much the system clock is ahead of attested time, when that is grossly new."""


class Timekeeper:
    """Keeps a `TrustedClock` attested, over MQTT or by whatever else brings it messages."""

    def __init__(self, clock: TrustedClock, mailbox: Mailbox, evidence: Evidence) -> None:
        self._clock = clock
        self._mailbox = mailbox
        self._evidence = evidence
        self._off = timedelta()
        self._attested = asyncio.Event()
        self._ask_soon = asyncio.Event()

    async def now(self) -> datetime:
        """Return trusted time; waits a while for a first attestation.

        Raises `Refused(NO_TRUSTED_TIME)` if none comes.
        """
        if self._clock.now() is None:
            self._attested.clear()
            self._ask_soon.set()
            try:
                async with asyncio.timeout(_WAIT_S):
                    await self._attested.wait()
            except TimeoutError:
                pass
        return self._clock.require_now()

    def ask(self) -> str:
        """A nonce for a laptop to take to the time server; its answer goes to `accept`."""
        return self._clock.ask("relay")

    async def accept(self, message: bytes) -> Outcome:
        """Take a message of the time server, whoever relayed it.

        Raises `Refused(TIME_ATTESTATION_INVALID)`. Runs in a thread: a floor that rises is synced.
        """
        outcome = await asyncio.to_thread(self._clock.accept, message)
        if outcome is Outcome.ATTESTED:
            self._attested.set()
            await self._compare_clocks()
        elif outcome is Outcome.NEW_KEY:
            log.warning("the Image root has named another key of the time server")
            self._ask_soon.set()
        return outcome

    async def run(self) -> None:
        """Ask at once and then every hour; more often while there is no answer that counts."""
        first, longest = _RETRY_S
        retry = first
        while True:
            try:
                await self._mailbox.connected.wait()
                self._attested.clear()
                self._ask_soon.clear()
                await self._mailbox.publish(Topic.TIME_GET, time_request(self._clock.ask()))
                async with asyncio.timeout(retry):
                    await self._attested.wait()
            except TimeoutError:
                log.info("no time attestation yet")
                retry = min(2 * retry, longest)
            except ConnectionError as error:
                log.info("time server cannot be asked: %s", error)
                await asyncio.sleep(first)
            else:
                retry = first
                await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._ask_soon.wait()
        except TimeoutError:
            return

    async def _compare_clocks(self) -> None:
        """The system clock has no say, but one that is far off or jumps is worth knowing of."""
        off = self._clock.system_clock_off
        if off is not None and abs(off - self._off) >= _GROSS:
            self._off = off
            log.warning("the system clock is ahead of attested time by %s", off)
            await self._evidence(off)
