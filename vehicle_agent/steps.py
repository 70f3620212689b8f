"""What is done in each state of an update: one coroutine a state, which ends with the next event.

Every step may be cancelled at any await and begun again from the journal's update alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from vehicle_agent import campaign, consent
from vehicle_agent.download import Downloader
from vehicle_agent.flashing.programmer import Identification, Progress
from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.image_supply import ImageSupply
from vehicle_agent.installation import Installation
from vehicle_agent.journal import Journal
from vehicle_agent.recall_watch import PERIOD_S, RecallWatch
from vehicle_agent.refusals import Code, Refusal, Refused, Retry
from vehicle_agent.release import Release
from vehicle_agent.reports import consent_request
from vehicle_agent.trust.encryption import ImageKey
from vehicle_agent.trust.verifier import Verifier
from vehicle_agent.update import Event, Kind, State, Update

log = logging.getLogger("vehicle_agent")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The rooms that the steps use, as the daemon has built them."""

    identity: VehicleIdentity
    languages: tuple[str, ...]
    journal: Journal
    verifier: Verifier
    downloader: Downloader
    installations: Mapping[str, Installation]
    hmi_key: consent.PublicKey
    images: Path
    now: Callable[[], Awaitable[datetime]]
    """Trusted wall time; waits for an attestation, raises NO_TRUSTED_TIME."""
    image_key: ImageKey | None = None
    disk_reserve: int = 0
    """Bytes that stay free on the disk."""


class Steps:
    """Carries out the step of a state."""

    def __init__(
        self, parts: Parts, on_progress: Callable[[Progress | None], None] = lambda _: None
    ) -> None:
        """`on_progress` hears how far a step is, and None when a step begins."""
        self._parts = parts
        self._on_progress = on_progress
        self._images = ImageSupply(
            parts.downloader, parts.images, parts.image_key, parts.disk_reserve
        )
        self._recall = RecallWatch()
        self._asked_at = -math.inf
        self._soaked = ""
        self._steps: dict[State, Callable[[Update], Awaitable[Event]]] = {
            State.NOTICED: self._verify,
            State.VERIFIED: self._start_download,
            State.DOWNLOADING: self._download,
            State.READY: self._ask,
            State.APPROVED: self._await_start,
            State.INSTALLING: self._install,
            State.ACTIVATING: self._activate,
            State.PROBATION: self._watch,
            State.ROLLING_BACK: self._roll_back,
            State.RECOVERY_REQUIRED: self._recover,
        }

    async def run(self, update: Update) -> Event:
        """Do what `update.state` asks for and return what came of it.

        Raises `Refused` for every no, which the caller turns into an event.
        """
        self._on_progress(None)
        return await self._steps[update.state](update)

    async def old_software_runs(self, update: Update) -> bool:
        """Tell whether the controller itself answers with the software from before (parked car)."""
        if not update.writes_started:
            return True
        try:
            async with asyncio.timeout(_PROOF_S):
                found = await self._installation(update).identify()
        except (Refused, TimeoutError):
            return False
        return found.software_version == update.software_before and not found.trial

    async def _verify(self, update: Update) -> Event:
        return Event(kind=Kind.VERIFIED, release=await self.verify_candidate(update))

    async def verify_candidate(self, update: Update) -> Release:
        """Verify what a notice names, without touching a running update that it may displace."""
        release = await self._verified(update, installed=None)
        if await self._parts.journal.denied(release.manifest_sha256):
            raise Refused(Code.CONSENT_DENIED, "the driver has refused this release before")
        return release

    async def _verified(self, update: Update, installed: str | None) -> Release:
        parts = self._parts
        await parts.now()
        release = await parts.verifier.verify(
            update.component, update.version, update.director_url, update.image_url
        )
        campaign.check(
            release,
            parts.identity,
            installed_version=installed,
            languages=parts.languages,
            profile_sha256=self._installation(update).profile.sha256,
        )
        return release

    async def _start_download(self, _update: Update) -> Event:
        return Event(kind=Kind.DOWNLOAD_STARTED)

    async def _download(self, update: Update) -> Event:
        await self._image(update)
        return Event(kind=Kind.DOWNLOADED)

    async def _image(self, update: Update) -> Path:
        """Return the image on disk, hashed this very moment; fetched where it is not there."""
        return await self._images.bring(
            _release(update),
            update.director_url,
            lambda done, total: self._on_progress(Progress("download", done, total)),
        )

    async def _ask(self, update: Update) -> Event:
        if update.challenge is None:
            return Event(kind=Kind.CONSENT_ASKED, challenge=secrets.token_hex(16))
        answered: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        return await answered  # never here: `Life.answer` moves the update on

    def answer(self, update: Update, payload: bytes) -> Event:
        """Say what an answer of the driver's display means for `update`, which asked (ready).

        Raises `Refused(CONSENT_INVALID)` for one that is not signed by this car's display, not
        for exactly this question, or that puts off without saying until when.
        """
        answer = consent.check_answer(payload, consent_request(update), self._parts.hmi_key)
        if answer.status == "DENIED":
            said_no = Refusal(Code.CONSENT_DENIED, f"answered in {answer.locale}")
            return Event(kind=Kind.DENIED, refusal=said_no)
        if answer.status == "APPROVED":
            return Event(kind=Kind.APPROVED, not_before=answer.not_before)
        if answer.not_before is None:
            raise Refused(Code.CONSENT_INVALID, "consent answer: POSTPONED needs a notBefore")
        return Event(kind=Kind.POSTPONED, not_before=answer.not_before)

    async def _await_start(self, update: Update) -> Event:
        await self._meanwhile(update, self._await_time(update.not_before), self._still_agreed_to)
        fresh = await self._agreed_to(update)
        image = await self._image(update)
        installation = self._installation(update)
        found = await self._meanwhile(update, installation.identify(), self._still_agreed_to)
        if self._is_old():
            fresh = await self._agreed_to(update)
        software = found.software_version
        if update.writes_started and software == fresh.facts.version:
            # Interrupted after the controller had accepted it, and restarted since: go on there.
            return Event(kind=Kind.START_GRANTED)
        campaign.check(
            fresh,
            self._parts.identity,
            installed_version=software,
            languages=self._parts.languages,
            profile_sha256=installation.profile.sha256,
        )
        await installation.check_image(fresh, image)
        return Event(kind=Kind.START_GRANTED, software=software)

    def ask_again(self) -> None:
        """Let a wait for a parked car, or a soak, ask the Director soon if all still stands."""
        self._recall.nudge()

    async def _meanwhile(
        self,
        update: Update,
        waited: Coroutine[Any, Any, T],
        ask: Callable[[Update], Awaitable[None]],
    ) -> T:
        return await self._recall.during(
            waited, lambda: ask(update), lambda: self.until_quiet(update)
        )

    def _is_old(self) -> bool:
        return asyncio.get_running_loop().time() - self._asked_at > PERIOD_S

    async def _agreed_to(self, update: Update) -> Release:
        """Verify anew, before the start, what the driver has agreed to (requirement D2)."""
        fresh = await self._verified(update, installed=None)
        if fresh.manifest_sha256 != _release(update).manifest_sha256:
            raise Refused(Code.CONSENT_INVALID, "the release has changed since the driver agreed")
        self._asked_at = asyncio.get_running_loop().time()
        return fresh

    async def _still_agreed_to(self, update: Update) -> None:
        """As `_agreed_to`, while the car waits: a network that is away ends nothing yet."""
        try:
            await self._agreed_to(update)
        except Refused as refused:
            if refused.refusal.rule.retry is Retry.NEVER:
                raise
            log.info("asked while waiting: %s", refused)

    async def _not_halted(self, update: Update) -> None:
        """Ask the Director while the new software runs; raises CAMPAIGN_HALTED by its signed word.

        Raises METADATA_UNAVAILABLE for everything else that it may answer or not answer: neither a
        dead network nor an attacker in it brings a rollback about, nor an end of the trial.
        """
        release = _release(update)
        try:
            await self._parts.now()
            halted = await self._parts.verifier.halted(
                update.component, release.filepath, update.director_url
            )
        except Refused as refused:
            refusal = refused.refusal
            if refusal.rule.attack:
                await self._parts.journal.note_attack(refusal.code)
            raise Refused(
                Code.METADATA_UNAVAILABLE,
                f"whether the campaign is halted is not known: {refusal.code}: {refusal.detail}",
            ) from None
        if halted:
            raise Refused(Code.CAMPAIGN_HALTED, "the maker halted the campaign during probation")
        self._asked_at = asyncio.get_running_loop().time()

    async def _not_known_halted(self, update: Update) -> None:
        try:
            await self._not_halted(update)
        except Refused as refused:
            if refused.refusal.code is Code.CAMPAIGN_HALTED:
                raise
            log.info("asked during probation: %s", refused)

    async def _await_time(self, not_before: str | None) -> None:
        if not_before is None:
            return
        earliest = datetime.fromisoformat(not_before)
        left = (earliest - await self._parts.now()).total_seconds()
        if left > 0:
            await asyncio.sleep(left)

    async def _install(self, update: Update) -> Event:
        image = await self._image(update)
        await self._installation(update).install(_release(update), image, self._on_progress)
        return Event(kind=Kind.INSTALLED)

    async def _activate(self, update: Update) -> Event:
        release = _release(update)
        found = await self._installation(update).activate(release, await self._image(update))
        return _after_restart(update, found)

    async def _watch(self, update: Update) -> Event:
        release = _release(update)
        if self._soaked != update.activity_id:
            soak = asyncio.sleep(release.facts.soak.minutes * 60)
            await self._meanwhile(update, soak, self._not_known_halted)
            self._soaked, self._asked_at = update.activity_id, -math.inf
        image = await self._image(update)
        checked = self._installation(update).check_health(release, image)
        found, health = await self._meanwhile(update, checked, self._not_known_halted)
        event = _after_restart(update, found)
        if event.kind is not Kind.ACTIVATED:
            return event
        if not health.self_test_passed or health.dtcs:
            faults = ", ".join(health.dtcs) or "no fault code"
            raise Refused(Code.PROBATION_FAILED, f"self-test or fault memory: {faults}")
        if self._is_old():
            await self._not_halted(update)
        await self._installation(update).confirm(found)
        return Event(
            kind=Kind.PROBATION_PASSED, software=found.software_version, rxswin=found.rxswin
        )

    async def _roll_back(self, update: Update) -> Event:
        found = await self._installation(update).roll_back(_release(update))
        if found.software_version != update.software_before:
            raise Refused(
                Code.READBACK_MISMATCH,
                f"after the rollback the controller answers {found.software_version!r}, "
                f"before the update {update.software_before!r}",
            )
        return Event(kind=Kind.ROLLED_BACK, software=found.software_version, rxswin=found.rxswin)

    async def _recover(self, update: Update) -> Event:
        """The way out of recovery: ask the controller what it runs, however long it takes."""
        return _after_restart(update, await self._installation(update).identify())

    def _installation(self, update: Update) -> Installation:
        try:
            return self._parts.installations[update.component]
        except KeyError:
            raise Refused(
                Code.UNKNOWN_COMPONENT, f"{update.component!r} is not in the configuration"
            ) from None

    async def until_quiet(self, update: Update) -> None:
        """Wait for the end of a conversation with the controller that must not be cut."""
        installation = self._parts.installations.get(update.component)
        if installation is not None:
            await installation.until_quiet()


_PROOF_S = 30.0


def _release(update: Update) -> Release:
    if update.release is None:
        raise Refused(Code.INTERNAL_ERROR, f"update in state {update.state} without a release")
    return update.release


def _after_restart(update: Update, found: Identification) -> Event:
    """Decide by the controller's own answer which software runs now."""
    release = _release(update)
    if found.software_version == release.facts.version:
        kind = Kind.ACTIVATED
    elif found.software_version == update.software_before:
        kind = Kind.FELL_BACK
    else:
        raise Refused(
            Code.READBACK_MISMATCH,
            f"F189 answers {found.software_version!r}, wanted {release.facts.version!r}",
        )
    return Event(kind=kind, software=found.software_version, rxswin=found.rxswin)
