"""The life of one update: states, events, decisions. Pure: no I/O, no clock of its own.

`advance` is the whole of it: an update and an event in, the next update out. What must be *done*
in a state is the business of `agent.py`; because the state alone says what is done next, a restart
needs nothing but the last update from the journal.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vehicle_agent.refusals import Code, Refusal, Retry
from vehicle_agent.release import Release


class State(StrEnum):
    """Where an update stands (design, "The way of an update")."""

    IDLE = "idle"
    NOTICED = "noticed"
    REJECTED = "rejected"
    VERIFIED = "verified"
    DOWNLOADING = "downloading"
    READY = "ready"
    APPROVED = "approved"
    INSTALLING = "installing"
    ACTIVATING = "activating"
    PROBATION = "probation"
    ROLLING_BACK = "rolling_back"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    RECOVERY_REQUIRED = "recovery_required"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


ENDED = frozenset(
    {
        State.IDLE,
        State.REJECTED,
        State.COMPLETED,
        State.ROLLED_BACK,
        State.FAILED,
        State.CANCELLED,
        State.SUPERSEDED,
    }
)
"""States in which nothing is left to do for the update."""

CHANGING = frozenset(
    {
        State.INSTALLING,
        State.ACTIVATING,
        State.PROBATION,
        State.ROLLING_BACK,
        State.RECOVERY_REQUIRED,
    }
)
"""States in which the controller may be between two softwares: no notice displaces the update."""


class Kind(StrEnum):
    """What can happen to an update."""

    VERIFIED = "verified"  # trust and campaign hold; carries the release
    DOWNLOAD_STARTED = "download_started"
    DOWNLOADED = "downloaded"  # image on disk, all hashes good
    CONSENT_ASKED = "consent_asked"  # carries the challenge the answer must repeat
    APPROVED = "approved"
    POSTPONED = "postponed"  # approved, but not before a time
    DENIED = "denied"
    START_GRANTED = "start_granted"  # metadata refreshed, car parked: writing may begin
    PROGRESSED = "progressed"  # a hint for status and restart, never a decision
    INSTALLED = "installed"  # the controller verified what was programmed
    ACTIVATED = "activated"  # new software read back
    FELL_BACK = "fell_back"  # the controller runs the old software again by itself; read back
    PROBATION_PASSED = "probation_passed"
    ROLLBACK_ORDERED = "rollback_ordered"
    ROLLED_BACK = "rolled_back"  # old software read back
    LOST_CONTROLLER = "lost_controller"  # neither software could be read back
    REFUSED = "refused"  # final; nothing was changed in the controller
    DELAYED = "delayed"  # refused for now; the same step is tried again after a back-off
    UNPARKED = "unparked"  # refused until the car is parked again; the step starts anew
    SUPERSEDED = "superseded"  # a newer verified notice takes its place


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, with what it brought along."""

    kind: Kind
    release: Release | None = None
    refusal: Refusal | None = None
    challenge: str | None = None
    not_before: str | None = None
    software: str | None = None
    rxswin: str | None = None
    progress: tuple[int, int] | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One update as the journal remembers it.

    `attempts` counts what the step's budget was spent on; `writes_started` is set before the first
    byte may reach the controller and never cleared; `software_before` and `software_after` are
    what the controller itself answered. `progress` is (bytes done, bytes in all), a hint only.
    """

    activity_id: str
    component: str
    version: str
    director_url: str
    image_url: str
    notice_sha256: str
    state: State = State.NOTICED
    attempts: int = 0
    release: Release | None = None
    refusal: Refusal | None = None
    challenge: str | None = None
    not_before: str | None = None
    writes_started: bool = False
    software_before: str | None = None
    software_after: str | None = None
    rxswin_after: str | None = None
    progress: tuple[int, int] | None = None


_RETRY_KIND = {Retry.NEVER: Kind.REFUSED, Retry.LATER: Kind.DELAYED, Retry.PARKED: Kind.UNPARKED}

_BEFORE_START = {
    Kind.REFUSED: State.FAILED,
    Kind.SUPERSEDED: State.SUPERSEDED,
}

TABLE: dict[State, dict[Kind, State]] = {
    State.NOTICED: {
        Kind.VERIFIED: State.VERIFIED,
        Kind.REFUSED: State.REJECTED,
        Kind.DELAYED: State.NOTICED,
        Kind.SUPERSEDED: State.SUPERSEDED,
    },
    State.VERIFIED: {
        Kind.DOWNLOAD_STARTED: State.DOWNLOADING,
        Kind.DELAYED: State.VERIFIED,
        **_BEFORE_START,
    },
    State.DOWNLOADING: {
        Kind.DOWNLOADED: State.READY,
        Kind.DELAYED: State.DOWNLOADING,
        **_BEFORE_START,
    },
    State.READY: {
        Kind.CONSENT_ASKED: State.READY,
        Kind.APPROVED: State.APPROVED,
        Kind.POSTPONED: State.APPROVED,
        Kind.DENIED: State.CANCELLED,
        Kind.DELAYED: State.READY,
        **_BEFORE_START,
    },
    State.APPROVED: {
        Kind.START_GRANTED: State.INSTALLING,
        Kind.DELAYED: State.APPROVED,
        Kind.UNPARKED: State.APPROVED,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
        **_BEFORE_START,
    },
    State.INSTALLING: {
        Kind.PROGRESSED: State.INSTALLING,
        Kind.INSTALLED: State.ACTIVATING,
        Kind.UNPARKED: State.APPROVED,
        Kind.DELAYED: State.APPROVED,
        Kind.REFUSED: State.FAILED,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
    },
    State.ACTIVATING: {
        Kind.ACTIVATED: State.PROBATION,
        Kind.FELL_BACK: State.ROLLED_BACK,
        Kind.ROLLBACK_ORDERED: State.ROLLING_BACK,
        Kind.UNPARKED: State.ACTIVATING,
        Kind.DELAYED: State.ACTIVATING,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
    },
    State.PROBATION: {
        Kind.PROBATION_PASSED: State.COMPLETED,
        Kind.FELL_BACK: State.ROLLED_BACK,
        Kind.ROLLBACK_ORDERED: State.ROLLING_BACK,
        Kind.UNPARKED: State.PROBATION,
        Kind.DELAYED: State.PROBATION,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
    },
    State.ROLLING_BACK: {
        Kind.ROLLED_BACK: State.ROLLED_BACK,
        Kind.UNPARKED: State.ROLLING_BACK,
        Kind.DELAYED: State.ROLLING_BACK,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
    },
    State.RECOVERY_REQUIRED: {
        Kind.ROLLED_BACK: State.ROLLED_BACK,
        Kind.FELL_BACK: State.ROLLED_BACK,
        Kind.ACTIVATED: State.PROBATION,
        Kind.UNPARKED: State.RECOVERY_REQUIRED,
        Kind.DELAYED: State.RECOVERY_REQUIRED,
        Kind.LOST_CONTROLLER: State.RECOVERY_REQUIRED,
    },
}
"""Next state for every event that means something in a state; any other pair is `IllegalEvent`."""


class IllegalEvent(Exception):
    """An event that has no meaning in the update's state: a defect of the caller."""


_FINAL: dict[State, Kind] = {
    State.ACTIVATING: Kind.ROLLBACK_ORDERED,
    State.PROBATION: Kind.ROLLBACK_ORDERED,
    State.ROLLING_BACK: Kind.LOST_CONTROLLER,
    State.RECOVERY_REQUIRED: Kind.DELAYED,
}


def refusal_kind(update: Update, refusal: Refusal, *, budget: int, old_software_runs: bool) -> Kind:
    """Tell what a refusal means for `update`.

    Waiting (for a parked car, a network, a time) costs nothing; what the controller or the car
    refused while being worked on becomes final at the `budget`-th time, and so does a bus that
    fails again and again in the middle of an installation. Where bytes may have been written, a
    final refusal ends the update only if `old_software_runs` was read back from the controller;
    otherwise the controller counts as lost. Once the new software may run, a final refusal orders
    the rollback; recovery never gives up.
    """
    kind = _RETRY_KIND[refusal.rule.retry]
    if _spends(update, refusal) and update.attempts + 1 >= budget:
        kind = Kind.REFUSED
    if kind is not Kind.REFUSED:
        return kind if kind in TABLE[update.state] else Kind.DELAYED
    if needs_proof(update) and not old_software_runs:
        return Kind.LOST_CONTROLLER
    return _FINAL.get(update.state, Kind.REFUSED)


def needs_proof(update: Update) -> bool:
    """Whether giving up needs the controller's own word that the old software still runs."""
    interrupted = update.state is State.APPROVED and update.writes_started
    return interrupted or update.state is State.INSTALLING


_CAR_WENT_ON = frozenset(
    {Code.NOT_PARKED, Code.PARK_LOST, Code.INHIBIT_LOST, Code.INHIBIT_NOT_ACKNOWLEDGED}
)


def _spends(update: Update, refusal: Refusal) -> bool:
    """Whether a refusal uses up the budget: what the controller refuses does.

    A car that is needed says nothing against the update: it waits, with a growing back-off, for
    the next time it is parked.
    """
    if update.state is State.INSTALLING and refusal.code is Code.BUS_UNAVAILABLE:
        return True
    return refusal.rule.retry is Retry.PARKED and refusal.code not in _CAR_WENT_ON


def advance(update: Update, event: Event) -> Update:
    """Return the update after the event.

    Raises `IllegalEvent` for a pair that the table does not have; nothing is changed then.
    """
    next_state = TABLE.get(update.state, {}).get(event.kind)
    if next_state is None:
        raise IllegalEvent(f"{event.kind} in state {update.state}")
    changes: dict[str, object] = {"state": next_state}
    if event.kind in {Kind.DELAYED, Kind.UNPARKED}:
        spent = event.refusal is not None and _spends(update, event.refusal)
        changes["attempts"] = update.attempts + int(spent)
    elif next_state is not update.state and event.kind is not Kind.START_GRANTED:
        # An installation that was interrupted keeps its count: the budget is for the whole of it.
        changes["attempts"] = 0
    if next_state is State.INSTALLING:
        changes["writes_started"] = True
    if event.refusal is not None:
        changes["refusal"] = event.refusal
    elif next_state is not update.state and next_state is not State.ROLLED_BACK:
        changes["refusal"] = None  # it no longer stands; a rollback keeps its reason
    for name in ("release", "challenge", "not_before", "progress"):
        value = getattr(event, name)
        if value is not None:
            changes[name] = value
    if event.software is not None:
        before = event.kind in {Kind.START_GRANTED, Kind.PROGRESSED}
        changes["software_before" if before else "software_after"] = event.software
    if event.rxswin is not None:
        changes["rxswin_after"] = event.rxswin
    return msgspec.structs.replace(update, **changes)
