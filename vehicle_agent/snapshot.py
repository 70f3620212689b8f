"""The agent at one instant, in the words of the console. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from vehicle_agent.console.status import (
    ConditionStatus,
    ProgressStatus,
    RefusalStatus,
    Status,
)
from vehicle_agent.parking.gate import Verdict
from vehicle_agent.refusals import Refusal
from vehicle_agent.update import State, Update


def snapshot(
    *,
    vin: str,
    update: Update | None,
    verdict: Verdict,
    progress: ProgressStatus | None,
    broker_connected: bool,
    drive_inhibited: bool,
    trusted_time: datetime | None,
    outbox: int,
    message_refused: Refusal | None = None,
) -> Status:
    """Put the status together from what the rooms say."""
    conditions = tuple(
        ConditionStatus(
            name=condition.name,
            value=condition.value.value,
            reading=condition.reading,
            wanted=condition.wanted,
            reason=condition.reason,
        )
        for condition in verdict.conditions
    )
    status = Status(
        vin=vin,
        state=State.IDLE if update is None else update.state,
        broker_connected=broker_connected,
        trusted_time=None if trusted_time is None else trusted_time.isoformat(timespec="seconds"),
        outbox=outbox,
        parked=verdict.parked.value,
        drive_inhibited=drive_inhibited,
        conditions=conditions,
        progress=progress,
        message_refused=_in_words(message_refused),
    )
    if update is None:
        return status
    return msgspec.structs.replace(
        status,
        activity_id=update.activity_id,
        component=update.component,
        version=update.version,
        recall=None if update.release is None else update.release.campaign.recall,
        software_before=update.software_before,
        software_after=update.software_after,
        refusal=_in_words(update.refusal),
    )


def _in_words(refusal: Refusal | None) -> RefusalStatus | None:
    return None if refusal is None else RefusalStatus.of(refusal)
