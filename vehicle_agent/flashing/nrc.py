"""What each negative response code (ISO 14229-1, annex A) leads to: one line each, one table."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from vehicle_agent.refusals import Code


class Action(Enum):
    """What the programmer does next.

    STOP: the update ends here. REPEAT_AFTER_BACKOFF: same request again, bounded. WAIT_PENDING:
    the answer comes later, bounded. NEW_SEED_AFTER_DELAY: wait, then ask for a new seed, bounded.
    RESTART_SEGMENT: again from the segment's erase, bounded; elsewhere it stops. PARK_GATE,
    ENERGY_GATE: stop; the same step is tried anew only through that gate.
    """

    STOP = auto()
    REPEAT_AFTER_BACKOFF = auto()
    WAIT_PENDING = auto()
    NEW_SEED_AFTER_DELAY = auto()
    RESTART_SEGMENT = auto()
    PARK_GATE = auto()
    ENERGY_GATE = auto()


class Policy(NamedTuple):
    """The code's name in the standard, what to do, and the refusal where that ends the attempt."""

    name: str
    action: Action
    code: Code


# fmt: off
POLICIES: dict[int, Policy] = {
    0x10: Policy("generalReject", Action.STOP, Code.CONTROLLER_REFUSED),
    0x11: Policy("serviceNotSupported", Action.STOP, Code.CONTROLLER_REFUSED),
    0x12: Policy("subFunctionNotSupported", Action.STOP, Code.CONTROLLER_REFUSED),
    0x13: Policy("incorrectMessageLengthOrInvalidFormat", Action.STOP, Code.CONTROLLER_REFUSED),
    0x21: Policy("busyRepeatRequest", Action.REPEAT_AFTER_BACKOFF, Code.CONTROLLER_CONDITIONS),
    0x22: Policy("conditionsNotCorrect", Action.PARK_GATE, Code.CONTROLLER_CONDITIONS),
    0x24: Policy("requestSequenceError", Action.RESTART_SEGMENT, Code.PROTOCOL_ERROR),
    0x31: Policy("requestOutOfRange", Action.STOP, Code.CONTROLLER_REFUSED),
    0x33: Policy("securityAccessDenied", Action.STOP, Code.SECURITY_DENIED),
    0x34: Policy("authenticationRequired", Action.STOP, Code.SECURITY_DENIED),
    0x35: Policy("invalidKey", Action.STOP, Code.SECURITY_DENIED),
    0x36: Policy("exceededNumberOfAttempts", Action.STOP, Code.SECURITY_DENIED),
    0x37: Policy("requiredTimeDelayNotExpired", Action.NEW_SEED_AFTER_DELAY, Code.SECURITY_DENIED),
    0x70: Policy("uploadDownloadNotAccepted", Action.STOP, Code.CONTROLLER_REFUSED),
    0x71: Policy("transferDataSuspended", Action.RESTART_SEGMENT, Code.PROTOCOL_ERROR),
    0x72: Policy("generalProgrammingFailure", Action.STOP, Code.CONTROLLER_REFUSED),
    0x73: Policy("wrongBlockSequenceCounter", Action.RESTART_SEGMENT, Code.PROTOCOL_ERROR),
    0x78: Policy("responsePending", Action.WAIT_PENDING, Code.CONTROLLER_SILENT),
    0x7E: Policy("subFunctionNotSupportedInActiveSession", Action.STOP, Code.PROTOCOL_ERROR),
    0x7F: Policy("serviceNotSupportedInActiveSession", Action.STOP, Code.PROTOCOL_ERROR),
    0x88: Policy("vehicleSpeedTooHigh", Action.PARK_GATE, Code.CONTROLLER_CONDITIONS),
    0x8F: Policy("brakeSwitchNotClosed", Action.PARK_GATE, Code.CONTROLLER_CONDITIONS),
    0x90: Policy("shifterLeverNotInPark", Action.PARK_GATE, Code.CONTROLLER_CONDITIONS),
    0x92: Policy("voltageTooHigh", Action.ENERGY_GATE, Code.CONTROLLER_VOLTAGE),
    0x93: Policy("voltageTooLow", Action.ENERGY_GATE, Code.CONTROLLER_VOLTAGE),
}
# fmt: on


def policy(nrc: int) -> Policy:
    """The line for `nrc`; a code that stands in no line stops the update."""
    return POLICIES.get(
        nrc, Policy("reserved or unknown code", Action.STOP, Code.CONTROLLER_REFUSED)
    )
