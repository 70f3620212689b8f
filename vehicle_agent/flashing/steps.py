"""The vocabulary of the sequences: one step, its answer, and what a few of them make.

A sequence is a generator without I/O: it yields a `Step` (a request) or a `Pause`, and is sent the
final response, positive or negative, or thrown the `Refused` that stands for silence.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

from udsoncan.Request import Request
from udsoncan.Response import Response

from vehicle_agent.flashing import requests
from vehicle_agent.flashing.nrc import Action, policy
from vehicle_agent.flashing.profile import ControllerProfile
from vehicle_agent.refusals import Code, Refused

SEED_ATTEMPTS = 3

_SECURITY_ACCESS_DENIED = 0x33
_SHOWN_BYTES = 64


class Progress(NamedTuple):
    """What is being done, and how many of the image's bytes the controller has acknowledged."""

    phase: str
    done: int = 0
    total: int = 0


class Step(NamedTuple):
    """One request. `gated`: the park gate is asked right before it. `once`: never repeated."""

    request: Request
    at: Progress
    gated: bool = False
    functional: bool = False
    once: bool = False


class Pause(NamedTuple):
    """Wait so long, sending nothing."""

    seconds: float


class NegativeResponse(Refused):
    """The controller's final negative response; `action` is its line in the NRC table."""

    def __init__(self, request: Request, nrc: int) -> None:
        found = policy(nrc)
        self.nrc = nrc
        self.action = found.action
        super().__init__(
            found.code, f"{requests.shown(request)} was answered with 0x{nrc:02X} {found.name}"
        )


class Banks(NamedTuple):
    """Bank status (F1F0); the default is that of a controller without banks."""

    active: int = 0
    trial: bool = False
    boot_count: int = 0
    revertible: bool = False


Key = Callable[[bytes], bytes]
"""Answers a seed; made by a security provider."""

T = TypeVar("T")
Steps = Generator[Step | Pause, Response | None, T]


def ask(step: Step) -> Steps[bytes]:
    """Data of the positive response, without its service byte. Raises NegativeResponse."""
    response = yield step
    assert response is not None, "a step is sent its response"
    if not response.positive:
        raise NegativeResponse(step.request, response.code or 0)
    return bytes(response.data or b"")


def attempt(step: Step) -> Steps[None]:
    """Ask, and accept any answer and none."""
    try:
        yield from ask(step)
    except NegativeResponse:
        return
    except Refused as refused:
        if refused.refusal.code is not Code.CONTROLLER_SILENT:
            raise


def run_routine(step: Step) -> Steps[bytes]:
    """The status record of a routine: everything after its identifier."""
    return (yield from ask(step))[3:]


def read_data(did: int, at: Progress) -> Steps[bytes]:
    """The data of one identifier."""
    return (yield from ask(Step(requests.read(did), at)))[2:]


def read_text(did: int, at: Progress) -> Steps[str]:
    """ASCII without its padding; what is not printable ASCII is shown as hex."""
    found = (yield from read_data(did, at)).rstrip(b"\0 ")
    text = found.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else f"0x{found.hex()}"


def read_banks(profile: ControllerProfile, at: Progress) -> Steps[Banks]:
    """Bank status, where the profile names an identifier for it. Raises PROTOCOL_ERROR."""
    did = profile.identifiers.bank_status
    if did is None:
        return Banks()
    found = yield from read_data(did, at)
    if len(found) != 4 or max(found[0], found[1], found[3]) > 1:
        raise Refused(Code.PROTOCOL_ERROR, f"{did:04X} answers {in_hex(found)}")
    return Banks(found[0], found[1] == 1, found[2], found[3] == 1)


def unlock(profile: ControllerProfile, key: Key | None, at: Progress) -> Steps[None]:
    """Security access as the profile says. Raises SECURITY_DENIED, PROTOCOL_ERROR."""
    if profile.security.access == "none":
        return
    if key is None:
        raise Refused(Code.SECURITY_DENIED, "the profile wants 0x27 and there is no provider")
    level = profile.security.level
    for left in reversed(range(SEED_ATTEMPTS)):
        try:
            seed = (yield from ask(Step(requests.security(level), at)))[1:]
            if not seed:
                raise Refused(Code.PROTOCOL_ERROR, f"27 {level:02X} answered without a seed")
            if any(seed):  # zeros: it is unlocked already
                yield from ask(Step(requests.security(level + 1, key(seed)), at))
            return
        except NegativeResponse as negative:
            if negative.action is not Action.NEW_SEED_AFTER_DELAY or not left:
                raise
            yield Pause(profile.session.seed_delay_s)


def run_secured(step: Step, profile: ControllerProfile, key: Key | None) -> Steps[bytes]:
    """`run_routine`, after security access if the controller asks for it."""
    try:
        return (yield from run_routine(step))
    except NegativeResponse as negative:
        if negative.nrc != _SECURITY_ACCESS_DENIED or profile.security.access == "none":
            raise
    yield from unlock(profile, key, step.at)
    return (yield from run_routine(step))


def in_hex(found: bytes) -> str:
    """Bytes for a message, cut where they are many."""
    return found[:_SHOWN_BYTES].hex() + ("…" if len(found) > _SHOWN_BYTES else "")
