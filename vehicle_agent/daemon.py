"""Composition root: builds the parts from the configuration and runs them side by side."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sdnotify

from vehicle_agent.agent import Life
from vehicle_agent.attack_report import report_attacks
from vehicle_agent.config import Config
from vehicle_agent.console import server as console
from vehicle_agent.console.status import Status
from vehicle_agent.download import Downloader
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.flashing.programmer import Programmer, Progress
from vehicle_agent.identity import EcuIdentity
from vehicle_agent.installation import Installation
from vehicle_agent.intake import Intake
from vehicle_agent.journal import AuditEntry, Journal, Outgoing
from vehicle_agent.notices.messages import INCOMING, SoftwareNode
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.outbox import tell
from vehicle_agent.parking.inhibit import DriveInhibit
from vehicle_agent.parking.monitor import ParkMonitor
from vehicle_agent.progress_rate import ProgressRate
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.reports import Reporter
from vehicle_agent.snapshot import snapshot
from vehicle_agent.steps import Parts, Steps
from vehicle_agent.timekeeper import Timekeeper
from vehicle_agent.trust.encryption import FileImageKey
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.keys import load_public_key
from vehicle_agent.trust.manifest import build_manifest
from vehicle_agent.trust.signer import open_signer
from vehicle_agent.trust.time_key import TimeKeys
from vehicle_agent.trust.trusted_time import TrustedClock
from vehicle_agent.trust.verifier import Verifier, release_counter
from vehicle_agent.update import Update
from vehicle_agent.version_report import ecu_reports, running_software

log = logging.getLogger("vehicle_agent")

_FINGERPRINT_SERIAL = b"VEHAGENT"


async def run(config: Config) -> None:
    """Run the agent until SIGTERM or SIGINT; a conversation with a controller is finished first.

    Raises `Refused` if a part cannot be built from the configuration.
    """
    with _only_one(config.state_dir), ExitStack() as closing:
        journal = await Journal.open(config.state_dir / "journal.db")
        try:
            await Daemon(config, journal, closing).serve()
        finally:
            await journal.close()


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process alone."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(
            Code.CONFIG_INVALID, f"[agent] state_dir = {str(state_dir)!r}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Refused(
            Code.CONFIG_INVALID, f"[agent] state_dir = {str(state_dir)!r}: in use by another agent"
        ) from error
    finally:
        os.close(lock)


class Daemon:
    """All parts of one car's agent. Answers the console."""

    def __init__(self, config: Config, journal: Journal, closing: ExitStack) -> None:
        """Build the parts in the running loop; `closing` closes what was opened.

        Nothing is sent on any bus here. Raises `Refused`: CONFIG_INVALID, BUS_UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        trust = config.trust
        self._config = config
        self._journal = journal
        self._rate = ProgressRate()
        self._floors = FileMonotonicStore(trust.floors_path(config.base))
        self._signer = open_signer(trust.vehicle_key, config.base)
        self._clock = TrustedClock(
            TimeKeys.open(trust, config.base, self._floors),
            self._floors,
            loop_time=loop.time,
            nonce_bytes=secrets.token_bytes,
            max_age_s=trust.attestation_max_age_s,
            system_time=lambda: datetime.now(UTC),
        )
        self._park = ParkMonitor.open(config.park, config.bus, base=config.base)
        closing.callback(self._park.close)
        self._inhibit = DriveInhibit.open(config.inhibit, config.bus, base=config.base)
        closing.callback(self._inhibit.close)
        downloader = Downloader(
            config.download, ca=config.path(config.download.ca), now=self._clock.now
        )
        jitter = random.Random(secrets.randbits(64))
        self._mailbox = Mailbox(
            config.mqtt, vin=config.vehicle.vin, topics=INCOMING, jitter=jitter.random
        )
        self._timekeeper = Timekeeper(self._clock, self._mailbox, self._clock_is_off)
        self._installations = {
            ecu.component: self._installation(ecu) for ecu in config.vehicle.ecus
        }
        steps = Steps(
            Parts(
                identity=config.vehicle,
                languages=config.consent.languages,
                journal=journal,
                verifier=Verifier(
                    trust,
                    trust.store(config.base),
                    downloader.fetch,
                    config.vehicle,
                    floors=self._floors,
                    now=self._clock.now,
                ),
                downloader=downloader,
                installations=self._installations,
                hmi_key=load_public_key(config.path(config.consent.hmi_key)),
                images=config.state_dir / "images",
                now=self._timekeeper.now,
                image_key=None
                if trust.image_key is None
                else FileImageKey(config.path(trust.image_key)),
                disk_reserve=config.download.disk_reserve,
            ),
            on_progress=self._progressed,
        )
        self._reporter = Reporter(
            now_ms=self._now_ms, manifest=self._manifest, attacks=lambda: journal.noted
        )
        self._life = Life(
            journal=journal,
            steps=steps,
            inhibit=self._inhibit,
            reporter=self._reporter,
            holds_without_controller=self._holds_without_controller,
            on_completed=self._completed,
            at=self._at,
            jitter=jitter,
        )
        self._intake = Intake(
            mailbox=self._mailbox,
            journal=journal,
            life=self._life,
            reporter=self._reporter,
            timekeeper=self._timekeeper,
            current_state=self._current_state,
            components=self._installations.keys(),
            max_packet=config.mqtt.max_packet,
            at=self._at,
        )

    async def serve(self) -> None:
        """Take up what the journal remembers, then serve until told to stop."""
        loop = asyncio.get_running_loop()
        if self._journal.put_aside is not None:
            log.error("the journal was damaged and stands aside as %s", self._journal.put_aside)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._life.stop_when_safe)
        await self._life.start()
        await self._mailbox.start()
        try:
            async with await console.serve(self, self._config.console_socket):
                sdnotify.SystemdNotifier().notify("READY=1")
                log.info("ready: %s", self._config.vehicle.vin)
                await self._run_parts()
        finally:
            await self._mailbox.stop()

    async def _run_parts(self) -> None:
        """Run until the life ends (a stop) or a part fails, which ends all of them."""
        async with asyncio.TaskGroup() as parts:
            others = [
                parts.create_task(self._intake.run()),
                parts.create_task(tell(self._journal, self._mailbox, self._life.told)),
                parts.create_task(self._timekeeper.run()),
                parts.create_task(
                    report_attacks(
                        self._journal,
                        lambda: self._reporter.manifest(self._life.update),
                        self._life.told,
                        self._at,
                    )
                ),
            ]
            await self._life.run()
            sdnotify.SystemdNotifier().notify("STOPPING=1")
            for other in others:
                other.cancel()

    async def status(self) -> Status:
        """Return the agent's state at this instant."""
        return snapshot(
            vin=self._config.vehicle.vin,
            update=self._life.update,
            verdict=self._park.verdict(),
            progress=self._rate.status(),
            broker_connected=self._mailbox.connected.is_set(),
            drive_inhibited=self._inhibit.held,
            trusted_time=self._clock.now(),
            outbox=await self._journal.waiting(),
            message_refused=self._intake.last_refused,
        )

    def _installation(self, ecu: EcuIdentity) -> Installation:
        config = self._config
        profile = load_profile(config.path(ecu.profile))
        key = config.agent.security_key

        def connect() -> Programmer:
            return Programmer.open(
                config.bus[ecu.bus], profile, None if key is None else config.path(key)
            )

        return Installation(
            identity=config.vehicle,
            ecu=ecu,
            profile=profile,
            park=self._park,
            inhibit=self._inhibit,
            connect=connect,
            fingerprint=self._fingerprint,
        )

    def _fingerprint(self) -> bytes:
        """Programming date (BCD YY MM DD by trusted time) and the agent's tester serial."""
        today = self._clock.now() or self._clock.floor
        return bytes.fromhex(f"{today:%y%m%d}") + _FINGERPRINT_SERIAL

    def _progressed(self, progress: Progress | None) -> None:
        now = asyncio.get_running_loop().time()
        if progress is None:
            self._rate.clear()
        else:
            self._rate.note(progress.phase, progress.done, progress.total, now)
            self._life.note_progress(progress)

    def _holds_without_controller(self, update: Update) -> bool:
        installation = self._installations.get(update.component)
        if installation is None:
            return True  # what the car may do without this controller is not known
        return installation.profile.drive_without_controller == "inhibit"

    async def _completed(self, update: Update) -> None:
        """Only a completed update raises the floor below which no release may be installed."""
        if update.release is not None:
            name = release_counter(update.release.ecu_serial)
            counter = update.release.facts.release_counter
            await asyncio.to_thread(self._floors.raise_to, name, counter)

    async def _clock_is_off(self, ahead: timedelta) -> None:
        entry = AuditEntry("system_clock_off", {"ahead_s": int(ahead.total_seconds())})
        await self._journal.record(None, audit=[entry], at=self._at())

    def _at(self) -> str:
        now = self._clock.now()
        return "" if now is None else now.isoformat(timespec="milliseconds")

    def _now_ms(self) -> int:
        now = self._clock.now()
        return 0 if now is None else int(now.timestamp() * 1000)

    def _manifest(self, update: Update | None) -> dict[str, Any]:
        return build_manifest(
            vin=self._config.vehicle.vin,
            primary_serial=self._config.vehicle.ecus[0].serial,
            reports=ecu_reports(self._config.vehicle, update, self._journal.unreported),
            time=self._clock.now(),
            audit_head=self._journal.head,
            floors=self._floors,
            signer=self._signer,
        )

    async def _current_state(self, activity_id: str) -> list[Outgoing]:
        update = self._life.update
        nodes = []
        for ecu in self._config.vehicle.ecus:
            known = update if update is not None and update.component == ecu.component else None
            runs = known and running_software(known)
            nodes.append(
                SoftwareNode(
                    component=ecu.component,
                    version=runs or "unknown",
                    serial=ecu.serial,
                    hardware_id=ecu.hardware_id,
                )
            )
        return self._reporter.current_state(activity_id, nodes)
