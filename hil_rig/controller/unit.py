"""The whole controller without its bus: power, boots, the server in between, and what it tells.

`now` is passed in, nothing sleeps; the caller asks again at `deadline`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from hil_rig.controller import boot
from hil_rig.controller.config import Config
from hil_rig.controller.faults import BootRefusal, Fault, Faults, Kind
from hil_rig.controller.iso14229 import Session
from hil_rig.controller.memory import Memory, PowerLost
from hil_rig.controller.programming import Programmer
from hil_rig.controller.security import Security
from hil_rig.controller.server import Server, Timings
from hil_rig.controller.services import Fixed, Services, Software


class StatusValues(NamedTuple):
    """Signals of `ADAS_Status` that the controller's state decides (docs/contracts.md §4)."""

    hpa_state: int
    active_bank: int
    trial: int
    boot_count: int
    self_test: int


STANDBY, FAULT, UPDATING = 1, 3, 4
PASSED, FAILED = 0, 2
BOOTLOADER = "bootloader"


class Unit:
    """One controller: flash that stays, faults from outside, and a server from boot to reset."""

    def __init__(
        self,
        config: Config,
        memory: Memory,
        *,
        key: bytes | None,
        random: Callable[[int], bytes],
    ) -> None:
        self.memory = memory
        self.faults = Faults()
        self.dtcs: set[int] = set()
        self.powered = False
        self._config = config
        self._security = (
            Security(key, config.security.attempts, config.security.delay_s, random)
            if key is not None and config.security is not None
            else None
        )
        self._server: Server | None = None
        self._services: Services | None = None
        self._software = Software(BOOTLOADER, BOOTLOADER, "", healthy=False)
        self._boot_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `due` has something to do next."""
        return self._server.deadline if self._server is not None else self._boot_at

    def power_on(self, now: float) -> None:
        """Start to boot; nothing happens if it is on already."""
        if not self.powered:
            self.powered = True
            self._start_boot(now)

    def power_off(self) -> None:
        """Lose everything but flash, bootloader state and the security delay."""
        self.powered = False
        self._server = None
        self._services = None
        self._boot_at = None

    def request(self, now: float, data: bytes, *, functional: bool = False) -> list[bytes]:
        """Take a request; returns the responses that are due at once."""
        out = self.due(now)
        server = self._server
        if server is not None:
            out += self._guarded(lambda: server.request(now, data, functional=functional), now)
        return out

    def due(self, now: float) -> list[bytes]:
        """Boot, answer, run timers out: everything up to `now`; returns the responses."""
        while self._boot_at is not None and self._boot_at <= now:
            self._guarded(partial(self._attempt_boot, self._boot_at), now)
        server = self._server
        return [] if server is None else self._guarded(lambda: server.due(now), now)

    def add_fault(self, fault: Fault) -> None:
        """Set a fault. Raises `ValueError` if it makes no sense."""
        self.faults.add(fault)
        if fault.kind is Kind.POWER_CUT:
            self.memory.lose_power_after = fault.nth
        elif fault.kind is Kind.DTC:
            self.dtcs.add(fault.dtc)

    def clear_faults(self) -> None:
        """Take all faults away; trouble codes stay until they are cleared by 0x14."""
        self.faults.clear()
        self.memory.lose_power_after = None

    def status(self) -> StatusValues | None:
        """What `ADAS_Status` says now; None while the controller does not send it."""
        if self._server is None or self._services is None or not self._services.transmits:
            return None
        state = self.memory.state
        healthy = self._software.healthy
        hpa = STANDBY if healthy else FAULT
        if self._server.session is Session.PROGRAMMING:
            hpa = UPDATING
        return StatusValues(
            hpa, state.active, state.trial, state.boots, PASSED if healthy else FAILED
        )

    def facts(self) -> dict[str, Any]:
        """What the control request `state` answers."""
        state = self.memory.state
        return {
            "powered": self.powered,
            "running": self._server is not None,
            "session": None if self._server is None else self._server.session.name.lower(),
            "busy": self._server is not None and self._server.busy,
            "version": self._software.version,
            "rxswin": self._software.rxswin,
            "selfTest": self._software.healthy,
            "active": state.active,
            "next": str(state.next),
            "trial": state.trial,
            "revertible": state.revertible,
            "bootCount": state.boots,
            "banks": [self._version(bank) for bank in (0, 1)],
            "hashes": list(state.hashes),
            "erases": self.memory.erases,
            "programs": self.memory.programs,
            "writes": self.memory.writes,
            "dtcs": sorted(self.dtcs),
        }

    def _guarded(self, act: Callable[[], list[bytes]], now: float) -> list[bytes]:
        try:
            out = act()
        except PowerLost:
            self.power_off()
            return []
        if self._services is not None and self._services.reset_asked:
            self._start_boot(now)
        return out

    def _start_boot(self, now: float) -> None:
        self._server = None
        self._services = None
        self._boot_at = now + self._config.timing.reset_s

    def _attempt_boot(self, now: float) -> list[bytes]:
        state = boot.at_reset(self.memory.state)
        state, outcome = boot.attempt(state, self._bootable)
        self.memory.keep(state)
        if outcome is boot.Outcome.AGAIN:
            self._boot_at = now + self._config.timing.reset_s
            return []
        self._boot_at = None
        self._software = (
            self._software_of(state)
            if outcome is boot.Outcome.RUNS
            else Software(BOOTLOADER, BOOTLOADER, state.rxswins[state.active], healthy=False)
        )
        self._serve()
        return []

    def _bootable(self, state: boot.BootState, bank: int) -> bool:
        digest = state.hashes[bank]
        if digest is None or self.memory.digest(bank) != digest:
            return False
        return not (state.trial and self.faults.refuses(BootRefusal.NO_BOOT))

    def _software_of(self, state: boot.BootState) -> Software:
        descriptor = self.memory.descriptor(state.active)
        version = self._version(state.active)
        healthy = True
        if state.trial:
            healthy = not self.faults.refuses(BootRefusal.SELF_TEST)
            if self.faults.refusal is not None and self.faults.refuses(BootRefusal.WRONG_VERSION):
                version = self.faults.refusal.version
        name = "adas-controller" if descriptor is None else descriptor.name
        return Software(name, version, state.rxswins[state.active], healthy)

    def _version(self, bank: int) -> str:
        descriptor = self.memory.descriptor(bank)
        if descriptor is not None:
            return descriptor.version
        return f"crc32:{self.memory.crc32(bank):08x}"

    def _serve(self) -> None:
        config = self._config
        timing = config.timing
        self._server = Server(
            Timings(timing.p2_s, timing.p2_star_s, timing.pending_every_s, timing.s3_s),
            self.faults,
            self._security,
        )
        programmer = Programmer(
            self.memory,
            window=config.memory.window,
            hardware_id=config.identity.hardware_id,
            block_length=config.transfer.block_length,
            erase_s=timing.erase_s,
            program_s=timing.program_s,
        )
        identity = config.identity
        self._services = Services(
            self._server,
            memory=self.memory,
            programmer=programmer,
            fixed=Fixed(identity.vin, identity.ecu_serial, identity.hardware_id),
            software=self._software,
            dtcs=self.dtcs,
            fingerprint_required=config.transfer.fingerprint_required,
        )
