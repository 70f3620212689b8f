"""What comes in over MQTT, sorted to whom it concerns. The broker is not trusted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from vehicle_agent.agent import Life
from vehicle_agent.journal import AuditEntry, Journal, Outgoing
from vehicle_agent.notices.messages import Topic, parse_notice, salvage_activity_id
from vehicle_agent.notices.mqtt import Delivery, Mailbox
from vehicle_agent.refusals import Code, Refusal, Refused
from vehicle_agent.reports import Reporter
from vehicle_agent.timekeeper import Timekeeper

log = logging.getLogger(__name__)

_RECORDED = (1000, 60.0)
"""Messages that may be recorded at once, and seconds until one more may be: a flood of junk must
not fill the journal."""


class Intake:
    """Takes deliveries one after the other; each is acknowledged when its outcome is journaled."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        journal: Journal,
        life: Life,
        reporter: Reporter,
        timekeeper: Timekeeper,
        current_state: Callable[[str], Awaitable[list[Outgoing]]],
        components: Collection[str],
        max_packet: int,
        at: Callable[[], str],
    ) -> None:
        self._mailbox = mailbox
        self._journal = journal
        self._life = life
        self._reporter = reporter
        self._timekeeper = timekeeper
        self._current_state = current_state
        self._components = components
        self._max_packet = max_packet
        self._at = at
        self.last_refused: Refusal | None = None
        self._room: float = _RECORDED[0]
        self._counted_at = asyncio.get_running_loop().time()
        self._unrecorded = 0
        self._notices: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=16)
        self._takers: dict[str, Callable[[bytes], Awaitable[None]]] = {
            Topic.DESIRED_STATE: self._notice,
            Topic.CONSENT_ANSWER: self._answer,
            Topic.TIME: self._time,
            Topic.CURRENT_STATE_GET: self._state,
            Topic.COMMAND: self._command,
        }

    async def run(self) -> None:
        """Take deliveries until cancelled; nothing that comes in ends this.

        Notices have a lane of their own: verifying one may wait for the time server, whose answer
        comes in by the other lane.
        """
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._take_notices())
            async for delivery in self._mailbox.deliveries:
                if delivery.topic != Topic.DESIRED_STATE:
                    await self._take(delivery)
                elif self._notices.full():
                    await self._refuse(
                        delivery,
                        Refusal(Code.UPDATE_IN_PROGRESS, "too many notices are waiting"),
                    )
                    delivery.acknowledge()
                else:
                    self._notices.put_nowait(delivery)

    async def _take_notices(self) -> None:
        while True:
            await self._take(await self._notices.get())

    async def _take(self, delivery: Delivery) -> None:
        take = self._takers.get(delivery.topic)
        try:
            if take is not None:
                await take(delivery.payload)
        except Refused as refused:
            await self._refuse(delivery, refused.refusal)
        except Exception:
            log.exception("defect while taking a message on %s", delivery.topic)
            refusal = Refusal(Code.INTERNAL_ERROR, f"message on {delivery.topic} not taken")
            await self._refuse(delivery, refusal)
        delivery.acknowledge()

    async def _refuse(self, delivery: Delivery, refusal: Refusal) -> None:
        self.last_refused = refusal
        if not self._make_room():
            self._unrecorded += 1
            log.debug("message on %s refused, not recorded: %s", delivery.topic, refusal)
            return
        log.warning("message on %s refused: %s", delivery.topic, refusal)
        outgoing = []
        if delivery.topic == Topic.DESIRED_STATE:
            activity = salvage_activity_id(delivery.payload)
            outgoing = self._reporter.notice_refused(activity, refusal)
        facts: dict[str, str | int] = {
            "topic": delivery.topic,
            "code": refusal.code,
            "detail": refusal.detail,
        }
        if self._unrecorded:
            facts["unrecorded"] = self._unrecorded
        entry = AuditEntry("message_refused", facts)
        self._unrecorded = 0
        attacks = [refusal.code] if refusal.rule.attack else []
        await self._journal.record(
            None, audit=[entry], outgoing=outgoing, at=self._at(), attacks=attacks
        )
        self._life.told.set()

    def _make_room(self) -> bool:
        """Take one of the records that may be made; False if there have been too many."""
        most, seconds = _RECORDED
        now = asyncio.get_running_loop().time()
        self._room = min(self._room + (now - self._counted_at) / seconds, most)
        self._counted_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    async def _notice(self, payload: bytes) -> None:
        notice = parse_notice(payload, self._max_packet, self._components)
        if not self._make_room():
            raise Refused(Code.UPDATE_IN_PROGRESS, "too many notices have come")
        await self._life.receive(notice)

    async def _answer(self, payload: bytes) -> None:
        await self._life.answer(payload)

    async def _time(self, payload: bytes) -> None:
        await self._timekeeper.accept(payload)

    async def _state(self, payload: bytes) -> None:
        outgoing = await self._current_state(salvage_activity_id(payload) or "")
        await self._journal.record(None, outgoing=outgoing, at=self._at())
        self._life.told.set()

    async def _command(self, payload: bytes) -> None:
        raise Refused(
            Code.NOTICE_SHAPE,
            f"command of {len(payload)} bytes: this agent acts by itself (mqtt.mode autonomous)",
        )
