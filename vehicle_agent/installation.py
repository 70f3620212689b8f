"""The only place where parking and flashing meet: the controller is talked to in a parked car only.

Each public coroutine of `Installation` carries out one decision of `update.py` and either returns
what the controller itself answered or raises `Refused`. Nothing here decides what comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from vehicle_agent.flashing.images import Image, load_image
from vehicle_agent.flashing.profile import ControllerProfile
from vehicle_agent.flashing.programmer import Health, Identification, Programmer, Progress
from vehicle_agent.identity import EcuIdentity, VehicleIdentity
from vehicle_agent.parking.gate import Verdict
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Release

_WAIT_INHIBITED_S = 30.0
_ASK_AGAIN_S = 0.5

__all__ = ["Identification", "Inhibit", "Installation", "Park", "Progress"]


class Park(Protocol):
    """The park gate as installation needs it (see `parking.monitor.ParkMonitor`)."""

    def verdict(self) -> Verdict:
        """Return the verdict of this instant."""

    async def parked(self) -> Verdict:
        """Wait until the car is provably parked."""

    def guard(self, on_lost: Callable[[Verdict], None]) -> Callable[[], None]:
        """Call `on_lost` in the instant the verdict stops being true; returns the way to end it."""


class Inhibit(Protocol):
    """The drive inhibit as installation needs it (see `parking.inhibit.DriveInhibit`)."""

    @property
    def held(self) -> bool:
        """Whether the drive unit acknowledges, at this instant."""

    async def acquire(self, reason: str) -> None:
        """Ask for the inhibit and wait for the drive unit's acknowledgement."""

    async def release(self) -> None:
        """Let the car drive again."""

    def guard(self, on_lost: Callable[[str], None]) -> Callable[[], None]:
        """Call `on_lost` when the acknowledgement vanishes; returns the way to end it."""


class Installation:
    """Brings one release into one controller, step by step, behind the park gate.

    `connect` opens a fresh `Programmer`; nothing is sent before one of the coroutines is called.
    """

    def __init__(
        self,
        *,
        identity: VehicleIdentity,
        ecu: EcuIdentity,
        profile: ControllerProfile,
        park: Park,
        inhibit: Inhibit,
        connect: Callable[[], Programmer],
        fingerprint: Callable[[], bytes],
    ) -> None:
        self.profile = profile
        self._identity = identity
        self._ecu = ecu
        self._park = park
        self._inhibit = inhibit
        self._connect = connect
        self._fingerprint = fingerprint
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def talking(self) -> bool:
        """Whether a conversation with the controller is going on, or a held car is given back."""
        return self._busy > 0

    async def until_quiet(self) -> None:
        """Wait until nothing is going on that must not be cut; at once if nothing is."""
        while self._busy:
            await self._quiet.wait()

    @contextmanager
    def _not_to_be_cut(self) -> Iterator[None]:
        self._busy += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def identify(self) -> Identification:
        """Read the controller's identification in a parked car and compare it with the car's file.

        Raises CONTROLLER_IDENTITY if VIN (F190), serial (F18C) or hardware (F191) differ: the
        configuration or the controller is not what the release was signed for (requirement B4).
        """
        await self._park.parked()
        async with self._conversation() as programmer:
            found = await programmer.identify()
            await programmer.leave()
        self._compare(found)
        return found

    async def install(
        self, release: Release, image: Path, on_progress: Callable[[Progress], None]
    ) -> None:
        """Erase, program and verify (requirements C3, C4, D3); the old bank stays as it is.

        A controller that runs the release already is not written: activation reads it back.
        Raises PARK_LOST or INHIBIT_LOST if the car stops being parked or inhibited: from that
        instant nothing more is sent and the controller's session ends by itself (S3). Raises
        NOT_PARKED if the car has been moved before it began: what was granted then is old.
        """
        loaded = await self._load(release, image)
        async with (
            self._held("UPDATE", patient=False),
            self._conversation(inhibited=True) as programmer,
        ):
            found = await programmer.identify()
            self._compare(found)
            if found.software_version == release.facts.version:
                return  # accepted before an interruption, and restarted by itself since
            await programmer.program(
                loaded,
                fingerprint=self._fingerprint(),
                memory_check=release.facts.memory_check,
                on_progress=on_progress,
                start_gate=self._require_parked,
            )

    async def activate(self, release: Release, image: Path) -> Identification:
        """Restart into the programmed bank and read back identification and checksum.

        Returns what the controller answers after the restart, which may be the old software: the
        caller decides by comparing. Raises READBACK_MISMATCH if it runs the release's version but
        not its content.
        """
        loaded = await self._load(release, image)
        async with self._held("UPDATE"), self._conversation(inhibited=True) as programmer:
            found = await self._identify_patiently(programmer)
            if found.software_version != release.facts.version:
                await programmer.activate()
                found = await programmer.identify()
            if found.software_version == release.facts.version:
                await programmer.read_back(
                    release.facts.readback, release.facts.memory_check, loaded
                )
            await programmer.leave()
        return found

    async def _identify_patiently(self, programmer: Programmer) -> Identification:
        """Identify a controller that may still be in a restart asked for before."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.profile.session.restart_s
        while True:
            try:
                return await programmer.identify()
            except Refused as refused:
                silent = refused.refusal.code is Code.CONTROLLER_SILENT
                if not silent or loop.time() >= deadline:
                    raise
            await asyncio.sleep(_ASK_AGAIN_S)

    async def check_health(self, release: Release, image: Path) -> tuple[Identification, Health]:
        """Read identification, checksum, DTCs and self-test at the end of the soak."""
        loaded = await self._load(release, image)
        await self._park.parked()
        async with self._conversation() as programmer:
            found = await programmer.identify()
            health = await programmer.health()
            if found.software_version == release.facts.version:
                await programmer.read_back(
                    release.facts.readback, release.facts.memory_check, loaded
                )
            await programmer.leave()
        return found, health

    async def confirm(self, found: Identification) -> None:
        """End the trial: the controller may give up the previous bank.

        Nothing is asked of a controller that has no such routine, or that (`found`) says that its
        trial has ended: its answer to an earlier request may have been lost with the power.
        """
        ended = self.profile.identifiers.bank_status is not None and not found.trial
        if self.profile.routines.confirm is None or ended:
            return
        await self._park.parked()
        async with self._conversation() as programmer:
            await programmer.confirm()
            await programmer.leave()

    async def roll_back(self, release: Release) -> Identification:
        """Bring the previous bank back, restart and return what the controller then answers."""
        async with self._held("RECOVERY"), self._conversation(inhibited=True) as programmer:
            found = await programmer.identify()
            # On trial is the new bank, whatever version it claims to be.
            if found.trial or found.software_version == release.facts.version:
                await programmer.revert()
                await programmer.activate()
                found = await programmer.identify()
            await programmer.leave()
        return found

    async def check_image(self, release: Release, image: Path) -> None:
        """Raise IMAGE_UNREADABLE or IMAGE_OUTSIDE_MEMORY before anything is begun."""
        await self._load(release, image)

    async def _load(self, release: Release, image: Path) -> Image:
        """Parse what was hashed, in a thread, so that the gate is never late."""
        return await asyncio.to_thread(load_image, image, self.profile, sha256=release.sha256)

    @asynccontextmanager
    async def _held(self, reason: str, *, patient: bool = True) -> AsyncIterator[None]:
        """Wait for a parked car and hold it: the drive inhibit is acknowledged inside.

        After success it stays held, for what follows or for `release_inhibit`; after a refusal it
        is given back, so that a car waiting for its next try can be driven. A cancellation is a
        restart of the daemon, which the drive unit's own hold covers.
        """
        await self._parked_in_time(patient=patient)
        await self._inhibit.acquire(reason)
        with self._not_to_be_cut():
            try:
                yield
            except Exception:
                await self._inhibit.release()
                raise

    async def _parked_in_time(self, *, patient: bool) -> None:
        """Wait for a parked car; an inhibit asserted after a restart is not kept meanwhile."""
        try:
            async with asyncio.timeout(_WAIT_INHIBITED_S):
                await self._park.parked()
        except TimeoutError:
            if self._inhibit.held:
                await self._inhibit.release()
            if not patient:
                raise Refused(Code.NOT_PARKED, self._park.verdict().reasons()) from None
            await self._park.parked()

    @asynccontextmanager
    async def _conversation(self, *, inhibited: bool = False) -> AsyncIterator[Programmer]:
        """Talk to the controller while the car is parked (and inhibited), not an instant longer."""
        programmer = self._connect()
        lost: list[Refused] = []

        def stop(code: Code, why: str) -> None:
            if not lost:
                lost.append(Refused(code, why))
                programmer.abort()

        with self._not_to_be_cut():
            guards = [self._park.guard(lambda verdict: stop(Code.PARK_LOST, verdict.reasons()))]
            if inhibited:
                guards.append(self._inhibit.guard(lambda why: stop(Code.INHIBIT_LOST, why)))
            try:
                if not lost:  # abort silences what runs; a conversation must not begin after it
                    self._require_parked()
                    yield programmer
            except Refused as refused:
                raise (lost[0] if lost else refused) from None
            finally:
                for end in guards:
                    end()
                await programmer.close()
            if lost:
                raise lost[0]

    def _require_parked(self) -> None:
        verdict = self._park.verdict()
        if not verdict.is_parked:
            raise Refused(Code.PARK_LOST, verdict.reasons())

    def _compare(self, found: Identification) -> None:
        wanted = {
            "VIN (F190)": (found.vin, self._identity.vin),
            "ECU serial (F18C)": (found.ecu_serial, self._ecu.serial),
            "hardware id (F191)": (found.hardware_id, self._ecu.hardware_id),
        }
        for name, (answered, configured) in wanted.items():
            if answered != configured:
                raise Refused(
                    Code.CONTROLLER_IDENTITY,
                    f"{name} is {answered!r} in the controller, {configured!r} in [vehicle]",
                )
