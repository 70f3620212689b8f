"""What is told outside after each decision: feedback, consent request, manifest, incident.

Everything made here goes through the journal's outbox: committed with the decision itself, told
when the broker is there, counted once by its `messageId`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from vehicle_agent import consent
from vehicle_agent.flashing.programmer import Progress
from vehicle_agent.journal import Outgoing
from vehicle_agent.notices import kanto, messages
from vehicle_agent.notices.messages import Topic
from vehicle_agent.refusals import Code, Refusal, Refused
from vehicle_agent.update import State, Update

_MANIFEST_AFTER = frozenset(
    {State.PROBATION, State.COMPLETED, State.ROLLED_BACK, State.RECOVERY_REQUIRED, State.FAILED}
)
_INCIDENT_AFTER = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.RECOVERY_REQUIRED})

_WORDS = {
    State.NOTICED: "notice received",
    State.VERIFIED: "metadata and campaign hold",
    State.DOWNLOADING: "image is being fetched",
    State.READY: "image is on disk, the driver is being asked",
    State.APPROVED: "the driver has agreed, waiting for a parked car",
    State.INSTALLING: "the car is parked, the controller is being programmed",
    State.ACTIVATING: "programmed and checked, the controller restarts",
    State.PROBATION: "the new software runs and is being watched",
    State.ROLLING_BACK: "the previous software is being brought back",
    State.COMPLETED: "the new software has been read back and has passed its probation",
    State.ROLLED_BACK: "the previous software runs again; the recall stays open",
    State.RECOVERY_REQUIRED: "the controller answers with neither software; recovery is under way",
    State.FAILED: "not installed; the recall stays open",
    State.CANCELLED: "the driver has refused; the recall stays open",
    State.REJECTED: "the notice was refused",
    State.SUPERSEDED: "a newer update has taken its place",
}


def consent_request(update: Update) -> dict[str, object]:
    """Payload of `ownerconsent` for an update whose release and challenge are known."""
    if update.release is None or update.challenge is None:
        raise Refused(Code.INTERNAL_ERROR, f"nothing to ask about in state {update.state}")
    return consent.build_request(
        update.release, update.activity_id, update.challenge, update.release.facts.minutes
    )


class Reporter:
    """Builds the messages. `now_ms` is trusted wall time in milliseconds, 0 where there is none.

    `manifest(update)` returns the signed vehicle version manifest for the software that the
    controller answered with; `attacks()` what it tells of, as `Outgoing.attacks`.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        manifest: Callable[[Update | None], Mapping[str, Any]],
        attacks: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._now_ms = now_ms
        self._manifest = manifest
        self._attacks = attacks

    def changed(
        self, update: Update, before: Update | None, refusal: Refusal | None = None
    ) -> list[Outgoing]:
        """Tell a decision: what the update has become, from what, and why if it was refused."""
        outgoing = []
        moved = before is None or before.state is not update.state
        if moved or refusal is not None:
            outgoing += self.feedback(update, before, refusal)
        if update.state is State.READY and update.challenge is not None:
            outgoing += self.consent_request(update)
        if moved and update.state in _MANIFEST_AFTER and update.writes_started:
            outgoing.append(self._manifest_or_incident(update))
        attacked = refusal is not None and refusal.rule.attack
        if attacked or (moved and update.state in _INCIDENT_AFTER):
            outgoing.append(self._incident(update, refusal))
        return outgoing

    def _manifest_or_incident(self, update: Update) -> Outgoing:
        """A car whose key is out of reach goes on with its update, and says so."""
        try:
            return self.manifest(update)
        except Refused as refused:
            return self._incident(update, refused.refusal)

    def manifest(self, update: Update | None) -> Outgoing:
        """Tell what the controllers run, and every attack that has not been reported yet."""
        activity_id = "" if update is None else update.activity_id
        message = self._envelope(Topic.MANIFEST, activity_id, self._manifest(update))
        return message._replace(attacks=self._attacks())

    def feedback(
        self, update: Update, before: Update | None = None, refusal: Refusal | None = None
    ) -> list[Outgoing]:
        """Tell where an update stands, in Kanto's words."""
        refusal = refusal or update.refusal
        words = kanto.status_words(update.state, before.state if before else None)
        payload = messages.feedback(
            status=words.status,
            message=_WORDS[update.state] + (f"; {refusal}" if refusal else ""),
            component=update.component,
            version=update.version,
            action_status=words.action,
        )
        payload["state"] = update.state
        if update.release is not None:
            payload["recall"] = update.release.campaign.recall
        for name in ("software_before", "software_after"):
            if (value := getattr(update, name)) is not None:
                payload[name.replace("_b", "B").replace("_a", "A")] = value
        if refusal is not None:
            payload["code"] = refusal.code
        return [self._message(Topic.FEEDBACK, update, payload)]

    def progress(self, update: Update, progress: Progress) -> list[Outgoing]:
        """Tell how far the running step is, in percent."""
        words = kanto.status_words(update.state)
        percent = 100 * progress.done // max(progress.total, 1)
        payload = messages.feedback(
            status=words.status,
            message=f"{progress.phase} {percent} %",
            component=update.component,
            version=update.version,
            action_status=words.action,
            progress=percent,
        )
        return [self._message(Topic.FEEDBACK, update, {**payload, "state": update.state})]

    def consent_request(self, update: Update) -> list[Outgoing]:
        """Ask the driver's display to show the texts and bring an answer."""
        return [self._message(Topic.CONSENT_REQUEST, update, consent_request(update))]

    def notice_refused(self, activity_id: str | None, refusal: Refusal) -> list[Outgoing]:
        """Answer a notice that became no update."""
        payload = messages.feedback(
            status="IDENTIFICATION_FAILED",
            message=str(refusal),
            component="",
            version="",
            action_status=None,
        )
        return [
            self._envelope(Topic.FEEDBACK, activity_id or "", {**payload, "code": refusal.code})
        ]

    def current_state(self, activity_id: str, nodes: list[messages.SoftwareNode]) -> list[Outgoing]:
        """Answer a question for the current state."""
        return [self._envelope(Topic.CURRENT_STATE, activity_id, messages.current_state(nodes))]

    def _incident(self, update: Update, refusal: Refusal | None) -> Outgoing:
        refusal = refusal or update.refusal
        payload = {
            "state": update.state,
            "recall": update.release.campaign.recall if update.release else None,
            "code": refusal.code if refusal else None,
            "detail": refusal.detail if refusal else None,
            "attack": refusal is not None and refusal.rule.attack,
        }
        return self._message(Topic.INCIDENT, update, payload)

    def _message(self, topic: Topic, update: Update, payload: Mapping[str, Any]) -> Outgoing:
        return self._envelope(topic, update.activity_id, payload)

    def _envelope(self, topic: Topic, activity_id: str, payload: Mapping[str, Any]) -> Outgoing:
        return Outgoing(
            topic,
            messages.envelope(
                payload,
                activity_id=activity_id,
                message_id=str(uuid4()),
                timestamp_ms=self._now_ms(),
            ),
        )
