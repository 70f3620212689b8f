"""The order of a reprogramming (ISO 14229-1, clause 15) without I/O: see `steps.py` for the form.

Each function returns its result or raises `Refused`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from udsoncan.Request import Request

from vehicle_agent.flashing import requests
from vehicle_agent.flashing.images import Image, Segment
from vehicle_agent.flashing.nrc import Action
from vehicle_agent.flashing.profile import ControllerProfile
from vehicle_agent.flashing.steps import (
    Key,
    NegativeResponse,
    Pause,
    Progress,
    Step,
    Steps,
    ask,
    attempt,
    in_hex,
    read_banks,
    read_text,
    run_routine,
    run_secured,
    unlock,
)
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import MemoryCheck, Readback

SEGMENT_ATTEMPTS = 3

_PASSED = b"\0"
_RESTART_POLL_S = 0.5


class Identification(NamedTuple):
    """What the controller says of itself; without a bank status, bank 0 runs and stays."""

    vin: str
    ecu_serial: str
    hardware_id: str
    software_version: str
    rxswin: str
    active_bank: int
    trial: bool
    revertible: bool
    boot_count: int


class Health(NamedTuple):
    """`dtcs`: failed or confirmed trouble codes, six hex digits each.

    A controller whose profile names no self-test counts as having passed it.
    """

    dtcs: tuple[str, ...]
    self_test_passed: bool
    trial: bool
    boot_count: int


def identify(profile: ControllerProfile) -> Steps[Identification]:
    """Read the identification in whatever session is active; changes nothing."""
    at, names = Progress("identifying"), profile.identifiers
    vin = yield from read_text(names.vin, at)
    serial = yield from read_text(names.ecu_serial, at)
    hardware = yield from read_text(names.hardware_id, at)
    version = yield from read_text(names.software_version, at)
    rxswin = yield from read_text(names.rxswin, at)
    banks = yield from read_banks(profile, at)
    return Identification(
        vin=vin,
        ecu_serial=serial,
        hardware_id=hardware,
        software_version=version,
        rxswin=rxswin,
        active_bank=banks.active,
        trial=banks.trial,
        revertible=banks.revertible,
        boot_count=banks.boot_count,
    )


def program(
    image: Image,
    profile: ControllerProfile,
    *,
    fingerprint: bytes,
    memory_check: MemoryCheck | None,
    key: Key | None,
) -> Steps[None]:
    """Pre-programming and programming, up to and with the dependency check.

    With several segments, `memory_check.expected` is their status records one after the other.
    """
    at = Progress("preparing", 0, image.size)
    yield from ask(Step(requests.session(requests.EXTENDED), at))
    if profile.routines.preconditions is not None:
        step = Step(requests.routine(profile.routines.preconditions), at)
        unmet = yield from run_routine(step)
        if unmet != _PASSED:
            raise Refused(
                Code.CONTROLLER_CONDITIONS,
                f"programming preconditions not met: {in_hex(unmet) or 'no status'}",
            )
    functional = profile.communication_control.target == "functional"
    yield from ask(Step(requests.dtc_setting(on=False), at, functional=functional))
    silence = requests.communication(3, profile.communication_control.type)
    yield from ask(Step(silence, at, functional=functional))
    yield from ask(Step(requests.session(requests.PROGRAMMING), at))
    yield from unlock(profile, key, at)
    yield from ask(Step(requests.write(profile.identifiers.fingerprint, fingerprint), at))
    done, records = 0, b""
    for segment in image.segments:
        records += yield from _segment(segment, profile, memory_check, done, image.size)
        done += len(segment.data)
    at = Progress("checking", done, image.size)
    if memory_check is not None and records.hex() != memory_check.expected.lower():
        raise Refused(Code.MEMORY_CHECK_FAILED, _differs(memory_check, records))
    check = requests.routine(profile.routines.check_dependencies)
    found = yield from run_routine(Step(check, at, gated=True))
    if found[:1] != _PASSED:
        raise Refused(Code.DEPENDENCY_CHECK_FAILED, f"the controller answered {in_hex(found)}")


def extend() -> Steps[None]:
    """Enter the extended session."""
    yield from ask(Step(requests.session(requests.EXTENDED), Progress("activating")))


def activate(profile: ControllerProfile) -> Steps[None]:
    """Reset, wait until the controller is back, restore communication and DTC setting."""
    at = Progress("activating")
    try:
        yield from ask(Step(requests.hard_reset(), at, once=True))
    except Refused as refused:
        if refused.refusal.code is not Code.CONTROLLER_SILENT:
            raise  # silence is allowed: some controllers reset before they answer
    yield Pause(profile.session.reset_s)
    for left in reversed(range(math.ceil(profile.session.restart_s / _RESTART_POLL_S))):
        try:
            yield from ask(Step(requests.session(requests.EXTENDED), at, once=True))
            break
        except Refused:
            if not left:
                raise
            yield Pause(_RESTART_POLL_S)
    functional = profile.communication_control.target == "functional"
    for request in _restoring(profile):
        yield from attempt(Step(request, at, functional=functional))


def read_back(
    facts: Sequence[Readback],
    memory_check: MemoryCheck | None,
    image: Image,
    profile: ControllerProfile,
    key: Key | None,
) -> Steps[dict[int, str]]:
    """Compare what runs with what was signed: identification, then memory of the active bank."""
    at = Progress("reading back")
    yield from ask(Step(requests.session(requests.EXTENDED), at))
    found: dict[int, str] = {}
    for fact in facts:
        found[fact.did] = yield from read_text(fact.did, at)
        if found[fact.did] != fact.equals:
            raise Refused(
                Code.READBACK_MISMATCH,
                f"{fact.did:04X} answers {found[fact.did]!r}, the release says {fact.equals!r}",
            )
    if memory_check is not None:
        records = b""
        for segment in image.segments:
            check = requests.routine(memory_check.routine, _span(segment))
            records += yield from run_secured(Step(check, at), profile, key)
        if records.hex() != memory_check.expected.lower():
            raise Refused(Code.READBACK_MISMATCH, _differs(memory_check, records))
    return found


def revert(profile: ControllerProfile, key: Key | None) -> Steps[None]:
    """Choose the previous bank for the next reset."""
    yield from _bank_routine(profile.routines.revert, "revert", profile, key)


def confirm(profile: ControllerProfile, key: Key | None) -> Steps[None]:
    """End the trial: the controller may give up the previous bank."""
    yield from _bank_routine(profile.routines.confirm, "confirm", profile, key)


def health(profile: ControllerProfile, key: Key | None) -> Steps[Health]:
    """Trouble codes, bank status and self-test."""
    at = Progress("checking health")
    yield from ask(Step(requests.session(requests.EXTENDED), at))
    answer = yield from ask(Step(requests.failed_dtcs(), at))
    records = answer[2:]
    if len(answer) < 2 or len(records) % 4:
        raise Refused(Code.PROTOCOL_ERROR, f"19 02 answered {in_hex(answer)}")
    dtcs = tuple(records[start : start + 3].hex().upper() for start in range(0, len(records), 4))
    banks = yield from read_banks(profile, at)
    passed = True
    if profile.routines.self_test is not None:
        step = Step(requests.routine(profile.routines.self_test), at)
        passed = (yield from run_secured(step, profile, key)) == _PASSED
    return Health(dtcs, passed, banks.trial, banks.boot_count)


def leave(profile: ControllerProfile) -> Steps[None]:
    """Communication and DTC setting restored for all and for one, default session; best effort."""
    at = Progress("leaving")
    for functional in (True, False):
        for request in _restoring(profile):
            yield from attempt(Step(request, at, functional=functional, once=True))
    yield from attempt(Step(requests.session(requests.DEFAULT), at, once=True))


def _segment(
    segment: Segment,
    profile: ControllerProfile,
    memory_check: MemoryCheck | None,
    done: int,
    total: int,
) -> Steps[bytes]:
    """One segment from its erase to its memory check, begun anew a bounded number of times."""
    left = SEGMENT_ATTEMPTS
    while True:
        left -= 1
        try:
            return (yield from _segment_once(segment, profile, memory_check, done, total))
        except Refused as refused:
            lost = refused.refusal.code is Code.CONTROLLER_SILENT
            again = (
                isinstance(refused, NegativeResponse) and refused.action is Action.RESTART_SEGMENT
            )
            if not left or not (lost or again):
                raise


def _segment_once(
    segment: Segment,
    profile: ControllerProfile,
    memory_check: MemoryCheck | None,
    done: int,
    total: int,
) -> Steps[bytes]:
    address, content = segment
    routines = profile.routines
    erase = requests.routine(routines.erase, b"\x44" + _span(segment))
    found = yield from run_routine(Step(erase, Progress("erasing", done, total), gated=True))
    if found[:1] != _PASSED:
        raise Refused(Code.CONTROLLER_REFUSED, f"erase answered {in_hex(found)}")
    at = Progress("programming", done, total)
    download = requests.download(address, len(content))
    answer = yield from ask(Step(download, at, gated=True))
    size = min(_block_length(answer), profile.max_block_length) - 2
    for index, start in enumerate(range(0, len(content), size)):
        transfer = requests.transfer((index + 1) & 0xFF, content[start : start + size])
        yield from ask(Step(transfer, at._replace(done=done + start), gated=True))
    at = Progress("checking", done + len(content), total)
    yield from ask(Step(requests.transfer_exit(), at, gated=True))
    routine = routines.check_memory if memory_check is None else memory_check.routine
    check = requests.routine(routine, _span(segment))
    record = yield from run_routine(Step(check, at, gated=True))
    if record[:1] != _PASSED:
        raise Refused(Code.MEMORY_CHECK_FAILED, f"the controller answered {in_hex(record)}")
    return record


def _block_length(answer: bytes) -> int:
    """maxNumberOfBlockLength of a positive response to 0x34: 1 to 4 bytes."""
    size = answer[0] >> 4 if answer else 0
    length = int.from_bytes(answer[1 : 1 + size])
    if not 1 <= size <= 4 or len(answer) < 1 + size or length < 3:
        raise Refused(Code.PROTOCOL_ERROR, f"34 answered maxNumberOfBlockLength {in_hex(answer)}")
    return length


def _bank_routine(
    routine: int | None, word: str, profile: ControllerProfile, key: Key | None
) -> Steps[None]:
    if routine is None:
        raise Refused(
            Code.CONTROLLER_REFUSED, f"profile {profile.name} names no routine to {word} a bank"
        )
    at = Progress(word)
    yield from ask(Step(requests.session(requests.EXTENDED), at))
    found = yield from run_secured(Step(requests.routine(routine), at), profile, key)
    if found[:1] != _PASSED:
        raise Refused(Code.CONTROLLER_REFUSED, f"{word} was answered with {in_hex(found)}")


def _restoring(profile: ControllerProfile) -> tuple[Request, Request]:
    """What undoes 28 03 and 85 02."""
    return (
        requests.communication(0, profile.communication_control.type),
        requests.dtc_setting(on=True),
    )


def _differs(memory_check: MemoryCheck, records: bytes) -> str:
    return (
        f"routine {memory_check.routine:04X} answered {in_hex(records)}, "
        f"the release says {memory_check.expected}"
    )


def _span(segment: Segment) -> bytes:
    return segment.address.to_bytes(4) + len(segment.data).to_bytes(4)
