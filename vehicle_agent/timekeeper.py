"""Asks the time server for attestations, and lets others wait for trusted time."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from vehicle_agent.notices.messages import Topic, time_request
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.trust.trusted_time import TrustedClock

log = logging.getLogger(__name__)

_REFRESH_S = 3600.0
_RETRY_S = (5.0, 300.0)
_WAIT_S = 20.0


class Timekeeper:
    """Keeps a `TrustedClock` attested over MQTT."""

    def __init__(self, clock: TrustedClock, mailbox: Mailbox) -> None:
        self._clock = clock
        self._mailbox = mailbox
        self._attested = asyncio.Event()

    async def now(self) -> datetime:
        """Return trusted time; waits a while for a first attestation.

        Raises `Refused(NO_TRUSTED_TIME)` if none comes.
        """
        if self._clock.now() is None:
            self._attested.clear()
            try:
                async with asyncio.timeout(_WAIT_S):
                    await self._attested.wait()
            except TimeoutError:
                pass
        return self._clock.require_now()

    def accept(self, message: bytes) -> None:
        """Take an attestation that has come in. Raises `Refused(TIME_ATTESTATION_INVALID)`."""
        self._clock.accept(message)
        self._attested.set()

    async def run(self) -> None:
        """Ask at once and then every hour; sooner, but ever more patiently, without an answer.

        A new question voids the one before, so that a slow answer needs longer patience.
        """
        first, longest = _RETRY_S
        patience = first
        while True:
            await self._mailbox.connected.wait()
            self._attested.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._mailbox.publish(Topic.TIME_GET, time_request(self._clock.ask()))
                    await self._attested.wait()
            except TimeoutError:
                log.info("no time attestation yet")
                patience = min(2 * patience, longest)
            except ConnectionError as error:
                log.info("time server cannot be asked: %s", error)
                await asyncio.sleep(first)
            else:
                patience = first
                await asyncio.sleep(_REFRESH_S)
