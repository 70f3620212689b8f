"""What a person or program is told about the running agent, and how the console sees the agent."""

from __future__ import annotations

from typing import Protocol

import msgspec

from vehicle_agent.refusals import Refusal


class ConditionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One park condition: its value now, what it reads, what it needs."""

    name: str
    value: str
    reading: str
    wanted: str
    reason: str


class ProgressStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far the running step is: bytes done of bytes in all, bytes per second."""

    phase: str
    done: int
    total: int
    bytes_per_s: float


class RefusalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One refusal: its stable code, what was found where, what would lift it."""

    code: str
    detail: str
    lifted_by: str

    @classmethod
    def of(cls, refusal: Refusal) -> RefusalStatus:
        """Put a refusal into the console's words."""
        return cls(code=refusal.code, detail=refusal.detail, lifted_by=refusal.rule.lifted_by)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The agent at one instant; `parked` is "true", "false" or "unknown".

    `refusal` is the one that stands against the current update; `message_refused` the last one
    of a message that concerned no update (a broken notice, a forged consent) since the start.
    """

    vin: str
    state: str
    broker_connected: bool
    trusted_time: str | None
    outbox: int
    parked: str
    drive_inhibited: bool
    conditions: tuple[ConditionStatus, ...]
    activity_id: str | None = None
    component: str | None = None
    version: str | None = None
    recall: str | None = None
    software_before: str | None = None
    software_after: str | None = None
    refusal: RefusalStatus | None = None
    message_refused: RefusalStatus | None = None
    progress: ProgressStatus | None = None


class Agent(Protocol):
    """What the console may ask of the agent."""

    async def status(self) -> Status:
        """Return the agent's state at this instant."""
