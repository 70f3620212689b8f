"""Reports attacks of which no other manifest tells: a refused notice has no update to speak of it.

Attacks stand counted in the journal until a manifest that names them has been acknowledged, and go
along with any manifest that is sent. However many there are, this adds one manifest a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from vehicle_agent.journal import Journal, Outgoing
from vehicle_agent.refusals import Refused

log = logging.getLogger(__name__)

LEAST_S = 60.0


async def report_attacks(
    journal: Journal, manifest: Callable[[], Outgoing], told: asyncio.Event, at: Callable[[], str]
) -> None:
    """Queue a manifest when there are unreported attacks and none is on its way. Runs on."""
    while True:
        await journal.attacked.wait()
        journal.attacked.clear()
        if journal.unreported and not await journal.report_waits():
            try:
                await journal.record(None, outgoing=[manifest()], at=at())
                told.set()
            except Refused as refused:
                log.warning("attacks not reported yet: %s", refused)
                journal.attacked.set()
        await asyncio.sleep(LEAST_S)
