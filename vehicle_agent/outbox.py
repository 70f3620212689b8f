"""Tells what the journal's outbox holds, oldest first, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging

from vehicle_agent.journal import Journal
from vehicle_agent.notices.mqtt import Mailbox

log = logging.getLogger(__name__)

_RETRY_S = 1.0


async def tell(journal: Journal, mailbox: Mailbox, more: asyncio.Event) -> None:
    """Publish message after message; each is forgotten only when the broker has acknowledged it.

    `more` is set by whoever has put something into the outbox. Runs until cancelled.
    """
    while True:
        await mailbox.connected.wait()
        more.clear()
        waiting = await journal.outbox()
        for message in waiting:
            try:
                await mailbox.publish(message.topic, message.body.encode())
            except ConnectionError as error:
                log.info("report %d waits: %s", message.seq, error)
                await asyncio.sleep(_RETRY_S)
                break
            await journal.told(message.seq)
        if not waiting:
            await more.wait()
