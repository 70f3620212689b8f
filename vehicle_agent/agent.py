"""The agent at work: takes notices in, carries the current update on, tells what came of it.

The order is always the same: an event is decided by `update.advance`, the decision is committed to
the journal together with what must be told, and only then does its effect begin.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from vehicle_agent import reports
from vehicle_agent.flashing.programmer import Progress
from vehicle_agent.journal import AuditEntry, Journal, Outgoing
from vehicle_agent.notices.messages import Notice
from vehicle_agent.refusals import Code, Refusal, Refused
from vehicle_agent.steps import Steps
from vehicle_agent.update import (
    CHANGING,
    ENDED,
    Event,
    Kind,
    State,
    Update,
    advance,
    needs_proof,
    refusal_kind,
)

log = logging.getLogger("vehicle_agent")

HELD = frozenset({State.INSTALLING, State.ACTIVATING, State.ROLLING_BACK})
"""States in which the car is held by the drive inhibit while the controller is worked on."""

_ATTEMPTS = 5
_BACKOFF_S = (1.0, 300.0)
_MOST_DOUBLINGS = 16
_HINT_S = 1.0
_HINTED = frozenset({State.DOWNLOADING, State.INSTALLING})


class DriveHold(Protocol):
    """The drive inhibit as the life of an update sees it."""

    async def acquire(self, reason: str) -> None:
        """Ask for the inhibit and wait for the acknowledgement; raises `Refused`."""

    async def release(self) -> None:
        """Let the car drive again."""


class Life:
    """The life of the current update. `run` never ends by itself; cancel it to stop.

    `at` is trusted wall time in ISO 8601 (or empty) for what is written down. `on_completed` raises
    the floor of the release counter.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        steps: Steps,
        inhibit: DriveHold,
        reporter: reports.Reporter,
        holds_without_controller: Callable[[Update], bool],
        on_completed: Callable[[Update], Awaitable[None]],
        at: Callable[[], str],
        jitter: random.Random,
    ) -> None:
        self.update: Update | None = None
        self.told = asyncio.Event()
        self._journal = journal
        self._steps = steps
        self._inhibit = inhibit
        self._reporter = reporter
        self._holds_without_controller = holds_without_controller
        self._on_completed = on_completed
        self._at = at
        self._jitter = jitter
        self._delays = 0
        self._progress: Progress | None = None
        self._progressed = asyncio.Event()
        self._hinted = ("", -1)
        self._stopping = False
        self._changed = asyncio.Event()
        self._deciding = asyncio.Lock()

    async def start(self) -> None:
        """Take up what the journal remembers; the drive inhibit first where it must hold."""
        self.update = await self._journal.current()
        update = self.update
        if update is None:
            return
        log.info("taking up update %s in state %s", update.activity_id, update.state)
        if self._must_hold(update):
            await self._hold(update)
        if update.state is State.COMPLETED:
            await self._on_completed(update)
        if update.state is State.READY and update.challenge is not None:
            await self._record(update, outgoing=self._reporter.consent_request(update))

    def stop_when_safe(self) -> None:
        """Begin no further step; a step that works on the controller is finished first."""
        self._stopping = True
        self._changed.set()

    async def receive(self, notice: Notice) -> None:
        """Write a notice down and answer it; when this returns it may be acknowledged.

        The same activity is one update: it is told again, not begun again. Raises `Refused` with
        UPDATE_IN_PROGRESS if the controller is being changed for another update, or has been
        begun to be changed and that was interrupted.
        """
        known = await self._journal.find(notice.activity_id)
        if known is not None:
            self._steps.ask_again()
            await self._record(None, outgoing=self._reporter.feedback(known))
            return
        update = self.update
        if update is not None and _is_changing(update):
            raise Refused(Code.UPDATE_IN_PROGRESS, f"update {update.activity_id} is {update.state}")
        received = _update_of(notice)
        if update is None or update.state in ENDED or update.state is State.NOTICED:
            await self._begin(received, displaced=update)
            return
        await self._steps.verify_candidate(received)
        if self.update is None or _is_changing(self.update):
            raise Refused(Code.UPDATE_IN_PROGRESS, "the running update began to install meanwhile")
        await self._begin(received, displaced=self.update)

    async def answer(self, payload: bytes) -> None:
        """Take an answer of the driver's display; when this returns it may be acknowledged.

        The first answer counts. Raises `Refused(CONSENT_INVALID)`.
        """
        update = self.update
        if update is None or update.state is not State.READY or update.challenge is None:
            raise Refused(Code.CONSENT_INVALID, "the driver is not being asked")
        event = self._steps.answer(update, payload)
        if not await self._apply(update, event):
            raise Refused(Code.CONSENT_INVALID, "the driver is not being asked any more")
        self._changed.set()

    async def run(self) -> None:
        """Carry the current update on, step by step, until `stop_when_safe`."""
        hints = asyncio.ensure_future(self._write_hints())
        try:
            while not self._stopping:
                self._changed.clear()
                update = self.update
                if update is None or update.state in ENDED:
                    await self._changed.wait()
                    continue
                if update.state is State.RECOVERY_REQUIRED and self._must_hold(update):
                    await self._hold(update)
                event = await self._next_event(update)
                if event is not None:
                    await self._apply(update, event)
        finally:
            hints.cancel()
            await asyncio.wait({hints})

    async def _next_event(self, update: Update) -> Event | None:
        """Run the state's step; None if the update was displaced, delayed, or the agent stops."""
        step = asyncio.ensure_future(self._steps.run(update))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({step, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                await self._steps.until_quiet(update)
            if not step.done():
                return None
            event = step.result()
        except Refused as refused:
            return await self._refused_event(update, refused.refusal)
        except Exception:
            log.exception("defect in state %s", update.state)
            refusal = Refusal(Code.INTERNAL_ERROR, f"step of state {update.state} failed")
            return await self._refused_event(update, refusal)
        finally:
            changed.cancel()
            step.cancel()
            await asyncio.wait({step, changed})
        if event.kind is not Kind.START_GRANTED:  # an installation that fails is not begun at once
            self._delays = 0
        return event

    async def _refused_event(self, update: Update, refusal: Refusal) -> Event | None:
        log.warning("update %s, %s: %s", update.activity_id, update.state, refusal)
        kind = refusal_kind(update, refusal, budget=_ATTEMPTS, old_software_runs=True)
        if kind is Kind.REFUSED and needs_proof(update):
            proven = await self._steps.old_software_runs(update)
            kind = refusal_kind(update, refusal, budget=_ATTEMPTS, old_software_runs=proven)
        event = Event(kind=kind, refusal=refusal)
        if kind in {Kind.DELAYED, Kind.UNPARKED}:
            await self._apply(update, event)
            if self.update is not None and self.update.state in HELD:
                await self._inhibit.release()  # a car that waits for its next try can be driven
            await self._back_off()
            return None
        return event

    async def _back_off(self) -> None:
        first, longest = _BACKOFF_S
        delay = min(first * 2 ** min(self._delays, _MOST_DOUBLINGS), longest)
        self._delays += 1
        try:
            async with asyncio.timeout(delay * self._jitter.uniform(0.5, 1.0)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _begin(self, update: Update, *, displaced: Update | None) -> None:
        async with self._deciding:
            if displaced is not None and not self._is_current(displaced):
                raise Refused(Code.UPDATE_IN_PROGRESS, "the running update went on meanwhile")
            old, outgoing = None, self._reporter.changed(update, None)
            if displaced is not None and displaced.state not in ENDED:
                old = advance(displaced, Event(kind=Kind.SUPERSEDED))
                outgoing = self._reporter.changed(old, displaced) + outgoing
            entry = AuditEntry(
                "noticed", {"activity": update.activity_id, "target": update.version}
            )
            await self._record(update, audit=[entry], outgoing=outgoing, displaced=old)
            self._delays = 0
            self.update = update
            self._changed.set()

    async def _apply(self, update: Update, event: Event) -> bool:
        """Decide, write down, then act; False if `update` is not what the life goes on with."""
        async with self._deciding:
            if not self._is_current(update):
                return False
            after = advance(update, event)
            facts = {"activity": update.activity_id, "from": update.state, "to": after.state}
            if event.refusal is not None:
                facts |= {"code": event.refusal.code, "detail": event.refusal.detail}
            if event.software is not None:
                facts["software"] = event.software
            log.info("update %s: %s -> %s", update.activity_id, update.state, after.state)
            told_before = after == update
            await self._record(
                after,
                audit=[] if told_before else [AuditEntry(event.kind, facts)],
                outgoing=[]
                if told_before
                else self._reporter.changed(after, update, event.refusal),
                attacks=_attacks(event.refusal),
            )
            self.update = after
            if after.state is State.COMPLETED:
                await self._on_completed(after)
            if self._must_hold(update) and not self._must_hold(after):
                await self._inhibit.release()
            return True

    async def _hold(self, update: Update) -> None:
        """Assert the drive inhibit for a state that needs it, as far as the drive unit allows."""
        recovering = update.state in {State.ROLLING_BACK, State.RECOVERY_REQUIRED}
        try:
            await self._inhibit.acquire("RECOVERY" if recovering else "UPDATE")
        except Refused as refused:
            log.warning("drive inhibit not asserted: %s", refused)

    def _is_current(self, update: Update) -> bool:
        """Tell whether `update` still is what the life goes on with, hints of progress aside."""
        current = self.update
        return current is not None and (current.activity_id, current.state) == (
            update.activity_id,
            update.state,
        )

    def _must_hold(self, update: Update) -> bool:
        if update.state is State.RECOVERY_REQUIRED:
            return self._holds_without_controller(update)
        return update.state in HELD

    def note_progress(self, progress: Progress) -> None:
        """Take a note of how far the running step is."""
        self._progress = progress
        self._progressed.set()

    async def _write_hints(self) -> None:
        """Write and tell how far writing came, at most once a second: a hint, never a decision."""
        while True:
            await self._progressed.wait()
            self._progressed.clear()
            async with self._deciding:
                update, progress = self.update, self._progress
                if update is not None and progress is not None and update.state in _HINTED:
                    try:
                        await self._hint(update, progress)
                    except Exception:
                        log.exception("hint of progress not written")
            await asyncio.sleep(_HINT_S)

    async def _hint(self, update: Update, progress: Progress) -> None:
        if update.state is State.INSTALLING:
            done = (progress.done, progress.total)
            update = advance(update, Event(kind=Kind.PROGRESSED, progress=done))
        hinted = (progress.phase, 100 * progress.done // max(progress.total, 1))
        told = [] if hinted == self._hinted else self._reporter.progress(update, progress)
        await self._record(update, outgoing=told)
        self.update, self._hinted = update, hinted

    async def _record(
        self,
        update: Update | None,
        *,
        audit: list[AuditEntry] | None = None,
        outgoing: list[Outgoing] | None = None,
        displaced: Update | None = None,
        attacks: Sequence[str] = (),
    ) -> None:
        await self._journal.record(
            update,
            audit=audit or [],
            outgoing=outgoing or [],
            at=self._at(),
            displaced=displaced,
            attacks=attacks,
        )
        self.told.set()


def _is_changing(update: Update) -> bool:
    """Whether the controller is being changed, or has been begun to be and waits to go on."""
    return update.state in CHANGING or (update.writes_started and update.state not in ENDED)


def _attacks(refusal: Refusal | None) -> list[str]:
    return [refusal.code] if refusal is not None and refusal.rule.attack else []


def _update_of(notice: Notice) -> Update:
    return Update(
        activity_id=notice.activity_id,
        component=notice.component,
        version=notice.version,
        director_url=notice.director_url,
        image_url=notice.image_url,
        notice_sha256=notice.raw_sha256,
    )
