"""Lets a wait of hours or days hear that the maker has halted the campaign.

A waiting car asks the Director once an hour, and at once when somebody nudges it: a notice that it
knows already. What is asked, and what the answer means, is the business of `steps.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from vehicle_agent.refusals import Refused

PERIOD_S = 3600.0
"""How long the Director's word counts: a car may be parked where there is no network."""

_LEAST_S = 10.0

T = TypeVar("T")


class RecallWatch:
    """One wait at a time, with questions in between."""

    def __init__(self) -> None:
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Ask soon; however often this is called, questions are seconds apart."""
        self._nudged.set()

    async def during(
        self,
        waited: Coroutine[Any, Any, T],
        ask: Callable[[], Awaitable[None]],
        until_quiet: Callable[[], Awaitable[None]],
    ) -> T:
        """Return what `waited` returns. `ask` ends the wait by raising `Refused`.

        `until_quiet` waits for the end of what must not be cut.
        """
        task = asyncio.ensure_future(waited)
        try:
            while not await self._done(task):
                self._nudged.clear()
                await ask()
                await asyncio.wait({task}, timeout=_LEAST_S)
            return task.result()
        except Refused:
            if not task.done():
                await until_quiet()
            raise
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _done(self, task: asyncio.Future[T]) -> bool:
        """Wait for the task's end, a nudge or the period, whichever comes first."""
        nudged = asyncio.ensure_future(self._nudged.wait())
        try:
            both: set[asyncio.Future[Any]] = {task, nudged}
            await asyncio.wait(both, timeout=PERIOD_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nudged.cancel()
        return task.done()
