"""Faults that a test puts into the controller: a pure table asked by the server and the boot.

A fault on requests names them by `match` (hex, the first bytes: "31 01 FF00") or by `service`,
starts at the `nth` such request (1 = the next one) and then holds for `count` of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec


class Kind(StrEnum):
    """Faults by name, as in the control request `fault`."""

    SILENT = "silent"
    NRC = "nrc"
    DROP_RESPONSE = "drop_response"
    DELAY = "delay"
    REFUSE_BOOT = "refuse_boot"
    PRECONDITIONS = "preconditions"
    DTC = "dtc"
    POWER_CUT = "power_cut"


class BootRefusal(StrEnum):
    """How new software fails."""

    NO_BOOT = "no_boot"
    SELF_TEST = "self_test"
    WRONG_VERSION = "wrong_version"


Count = Annotated[int, msgspec.Meta(ge=1)]
ByteValue = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault as asked for; which fields count depends on `kind`.

    silent: from the matching request on (all without one) the server is mute until `clear`.
    nrc: `nrc` is answered instead. drop_response: carried out, the last response is lost.
    delay: `seconds` more before the answer, with 0x78 as usual. refuse_boot: software on trial
    behaves as `mode` says, wrong_version answers `version`. preconditions: 0203 answers `codes`.
    dtc: sets the trouble code `dtc` (24 bit). power_cut: power is lost right after the
    operation `nth` on flash or bootloader state, counted from now.
    """

    kind: Kind
    service: ByteValue | None = None
    match: str = ""
    nth: Count = 1
    count: Count = 1
    nrc: ByteValue = 0x10
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    mode: BootRefusal = BootRefusal.NO_BOOT
    version: str = "0.0.0"
    codes: list[ByteValue] = []
    dtc: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFF)] = 0

    @property
    def prefix(self) -> bytes:
        """First bytes of the requests meant; raises `ValueError` for a `match` that is not hex."""
        if self.match:
            return bytes.fromhex(self.match)
        return b"" if self.service is None else bytes((self.service,))


@dataclass(slots=True)
class _Armed:
    fault: Fault
    prefix: bytes
    seen: int = 0

    def strikes(self, request: bytes) -> bool:
        if not request.startswith(self.prefix):
            return False
        self.seen += 1
        past = self.seen - self.fault.nth
        return past >= 0 and (self.fault.kind is Kind.SILENT or past < self.fault.count)


@dataclass(slots=True, frozen=True)
class Verdict:
    """What the faults make of one request."""

    silent: bool = False
    nrc: int | None = None
    drop: bool = False
    delay_s: float = 0.0


class Faults:
    """All faults that are set; they live outside of the controller and survive its resets."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Take all faults away."""
        self._armed: list[_Armed] = []
        self._silent = False
        self.refusal: Fault | None = None
        self.unmet: bytes = b""

    def add(self, fault: Fault) -> None:
        """Set one fault; power cuts and trouble codes are the unit's own matter.

        Raises `ValueError` for a `match` that is not hex.
        """
        if fault.kind is Kind.REFUSE_BOOT:
            self.refusal = fault
        elif fault.kind is Kind.PRECONDITIONS:
            self.unmet = bytes(fault.codes)
        elif fault.kind is Kind.SILENT and not fault.prefix:
            self._silent = True
        elif fault.kind not in {Kind.POWER_CUT, Kind.DTC}:
            self._armed.append(_Armed(fault, fault.prefix))

    def on_request(self, request: bytes) -> Verdict:
        """What becomes of this request; every matching fault counts it."""
        struck = [armed.fault for armed in self._armed if armed.strikes(request)]
        self._silent = self._silent or any(fault.kind is Kind.SILENT for fault in struck)
        return Verdict(
            silent=self._silent,
            nrc=next((fault.nrc for fault in struck if fault.kind is Kind.NRC), None),
            drop=any(fault.kind is Kind.DROP_RESPONSE for fault in struck),
            delay_s=sum(fault.seconds for fault in struck if fault.kind is Kind.DELAY),
        )

    def refuses(self, mode: BootRefusal) -> bool:
        """Whether software on trial is to fail in this way."""
        return self.refusal is not None and self.refusal.mode is mode
