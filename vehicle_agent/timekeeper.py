"""Asks the time server for attestations, and lets others wait for trusted time."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from vehicle_agent.notices.messages import Topic, time_request
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.refusals import Refused
from vehicle_agent.trust.trusted_time import TrustedClock

log = logging.getLogger(__name__)

_REFRESH_S = 3600.0
_RETRY_S = 5.0
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
        """Ask at once and then every hour; every few seconds while there is no answer."""
        while True:
            try:
                await self._mailbox.connected.wait()
                await self._mailbox.publish(Topic.TIME_GET, time_request(self._clock.ask()))
                async with asyncio.timeout(_RETRY_S):
                    await self._attested.wait()
                await asyncio.sleep(_REFRESH_S)
                self._attested.clear()
            except TimeoutError:
                log.info("no time attestation yet")
            except ConnectionError as error:
                log.info("time server cannot be asked: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Refused as refused:
                log.warning("%s", refused)
                await asyncio.sleep(_RETRY_S)
