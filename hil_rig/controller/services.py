"""The services of the simulated ADAS controller, as entries of a `Server`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hil_rig.controller.boot import Next
from hil_rig.controller.iso14229 import Negative, Nrc, Service, Session
from hil_rig.controller.memory import Memory
from hil_rig.controller.programming import PASSED, Busy, Programmer
from hil_rig.controller.server import (
    ANY,
    EXTENDED,
    NOT_DEFAULT,
    NOT_PROGRAMMING,
    PROGRAMMING,
    Entry,
    Server,
)

FAILED = b"\x01"
UNMET_TRIAL = 0x01
DTC_GROUP_ALL = 0xFFFFFF
DTC_CONFIRMED = 0x2F
DTC_MASK = 0x2F
MAX_DIDS = 16

DID_VIN, DID_SERIAL, DID_HARDWARE = 0xF190, 0xF18C, 0xF191
DID_VERSION, DID_RXSWIN, DID_APPLICATION = 0xF189, 0xF1EF, 0xF181
DID_FINGERPRINT, DID_BANKS, DID_SESSION = 0xF15A, 0xF1F0, 0xF186


class Software(NamedTuple):
    """What runs since the last boot."""

    name: str
    version: str
    rxswin: str
    healthy: bool


class Fixed(NamedTuple):
    """What the maker fixed in hardware and the tester cannot change."""

    vin: str
    ecu_serial: str
    hardware_id: str


class Services:
    """Carries the services out; volatile like the server that it belongs to."""

    def __init__(
        self,
        server: Server,
        *,
        memory: Memory,
        programmer: Programmer,
        fixed: Fixed,
        software: Software,
        dtcs: set[int],
        fingerprint_required: bool,
    ) -> None:
        self._server = server
        self._memory = memory
        self._programmer = programmer
        self._software = software
        self._dtcs = dtcs
        self._fingerprint_missing = fingerprint_required
        self._fingerprint_required = fingerprint_required
        self._confirmed = False
        self.reset_asked = False
        self.transmits = True
        self.sets_dtcs = True
        self._dids: dict[int, Callable[[], bytes]] = {
            DID_VIN: fixed.vin.encode,
            DID_SERIAL: fixed.ecu_serial.encode,
            DID_HARDWARE: fixed.hardware_id.encode,
            DID_VERSION: software.version.encode,
            DID_RXSWIN: software.rxswin.encode,
            DID_APPLICATION: f"{software.name} {software.version}".encode,
            DID_SESSION: lambda: bytes((server.session,)),
            DID_BANKS: self._banks,
        }
        both = {0x01: ANY, 0x03: ANY}
        server.on_session = self._session_changed
        server.services = {
            Service.DIAGNOSTIC_SESSION_CONTROL: Entry(
                self._session, ANY, {1: ANY, 2: NOT_DEFAULT, 3: frozenset(Session)}
            ),
            Service.ECU_RESET: Entry(self._reset, ANY, both),
            Service.CLEAR_DIAGNOSTIC_INFORMATION: Entry(self._clear_dtcs, NOT_PROGRAMMING),
            Service.READ_DTC_INFORMATION: Entry(self._read_dtcs, NOT_PROGRAMMING, {1: ANY, 2: ANY}),
            Service.READ_DATA_BY_IDENTIFIER: Entry(self._read, ANY, least=2),
            Service.COMMUNICATION_CONTROL: Entry(
                self._communication, EXTENDED, dict.fromkeys(range(4), EXTENDED)
            ),
            Service.WRITE_DATA_BY_IDENTIFIER: Entry(self._write, NOT_DEFAULT, least=3),
            Service.ROUTINE_CONTROL: Entry(self._routine, NOT_DEFAULT, {1: NOT_DEFAULT}, least=3),
            Service.REQUEST_DOWNLOAD: Entry(self._request_download, PROGRAMMING, least=4),
            Service.TRANSFER_DATA: Entry(self._transfer, PROGRAMMING, least=2),
            Service.REQUEST_TRANSFER_EXIT: Entry(self._exit, PROGRAMMING, least=0),
            Service.TESTER_PRESENT: Entry(self._tester_present, ANY, {0: ANY}),
            Service.CONTROL_DTC_SETTING: Entry(
                self._dtc_setting, EXTENDED, {1: EXTENDED, 2: EXTENDED}
            ),
        }
        if server.security is not None:
            server.services[Service.SECURITY_ACCESS] = Entry(
                self._security, PROGRAMMING, {1: PROGRAMMING, 2: PROGRAMMING}
            )

    def _session_changed(self, session: Session) -> None:
        self._programmer.abort()
        self._fingerprint_missing = self._fingerprint_required
        if session is Session.DEFAULT:
            self.transmits = True
            self.sets_dtcs = True

    def _session(self, body: bytes) -> bytes:
        _exactly(body, 1)
        self._server.enter(Session(body[0]))
        timings = self._server.timings
        p2 = round(timings.p2 * 1000).to_bytes(2)
        return body + p2 + round(timings.p2_star * 100).to_bytes(2)

    def _reset(self, body: bytes) -> bytes:
        _exactly(body, 1)
        self.reset_asked = True
        return body

    def _tester_present(self, body: bytes) -> bytes:
        _exactly(body, 1)
        return body

    def _read(self, body: bytes) -> bytes:
        if len(body) % 2 or len(body) > 2 * MAX_DIDS:
            raise Negative(Nrc.INCORRECT_LENGTH)
        answer = b""
        for start in range(0, len(body), 2):
            did = body[start : start + 2]
            reader = self._dids.get(int.from_bytes(did))
            if reader is not None:
                answer += did + reader()
            elif did == DID_FINGERPRINT.to_bytes(2) and self._memory.state.fingerprint:
                answer += did + bytes.fromhex(self._memory.state.fingerprint)
        if not answer:
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        return answer

    def _banks(self) -> bytes:
        state = self._memory.state
        return bytes((state.active, state.trial, state.boots, state.revertible))

    def _write(self, body: bytes) -> bytes:
        did, data = body[:2], body[2:]
        in_programming = self._server.session is Session.PROGRAMMING
        if did != DID_FINGERPRINT.to_bytes(2) or not in_programming:
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        self._server.require_unlocked()
        if len(data) != 11:
            raise Negative(Nrc.INCORRECT_LENGTH)
        if not _is_bcd_date(data[:3]):
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        state = self._memory.state
        self._memory.keep(msgspec.structs.replace(state, fingerprint=data.hex()))
        self._fingerprint_missing = False
        return did

    def _security(self, body: bytes) -> bytes:
        lock = self._server.security
        assert lock is not None
        if body[0] == 1:
            _exactly(body, 1)
            return body + lock.request_seed(self._server.now)
        _exactly(body, 17)
        lock.send_key(self._server.now, body[1:])
        return body[:1]

    def _communication(self, body: bytes) -> bytes:
        _exactly(body, 2)
        kind = body[1] & 0x0F
        if kind not in {1, 2, 3}:
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        if kind & 1:
            self.transmits = body[0] in {0x00, 0x02}
        return body[:1]

    def _dtc_setting(self, body: bytes) -> bytes:
        _exactly(body, 1)
        self.sets_dtcs = body[0] == 1
        return body

    def _clear_dtcs(self, body: bytes) -> bytes:
        _exactly(body, 3)
        if int.from_bytes(body) != DTC_GROUP_ALL:
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        self._dtcs.clear()
        return b""

    def _read_dtcs(self, body: bytes) -> bytes:
        _exactly(body, 2)
        found = sorted(self._dtcs) if body[1] & DTC_CONFIRMED else []
        if body[0] == 1:
            return bytes((1, DTC_MASK, 1)) + len(found).to_bytes(2)
        records = b"".join(dtc.to_bytes(3) + bytes((DTC_CONFIRMED,)) for dtc in found)
        return bytes((2, DTC_MASK)) + records

    def _request_download(self, body: bytes) -> bytes:
        self._server.require_unlocked()
        return self._programmer.request_download(body)

    def _transfer(self, body: bytes) -> Busy:
        self._server.require_unlocked()
        return self._programmer.transfer(body)

    def _exit(self, body: bytes) -> bytes:
        self._server.require_unlocked()
        return self._programmer.exit(body)

    def _routine(self, body: bytes) -> Busy:
        """0x31 01: the routine must exist in this session; then lock, then its own checks."""
        rid, option = int.from_bytes(body[1:3]), body[3:]
        in_programming = self._server.session is Session.PROGRAMMING
        simple: dict[int, Callable[[bytes], bytes]] = {0x0212: self._self_test, 0x0202: self._check}
        if in_programming:
            simple[0xFF01] = self._programmer.check_dependencies
        else:
            simple |= {0x0203: self._preconditions, 0x0210: self._revert, 0x0211: self._confirm}
        if rid not in simple and not (in_programming and rid == 0xFF00):
            raise Negative(Nrc.REQUEST_OUT_OF_RANGE)
        if in_programming:
            self._server.require_unlocked()
        if rid == 0xFF00:
            if self._fingerprint_missing:
                raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
            status = yield from self._programmer.erase(option)
        else:
            status = simple[rid](option)
        return body[:3] + status

    def _check(self, option: bytes) -> bytes:
        running = self._server.session is not Session.PROGRAMMING
        return self._programmer.check_memory(option, running=running)

    def _preconditions(self, option: bytes) -> bytes:
        _exactly(option, 0)
        unmet = self._server.faults.unmet
        if self._memory.state.trial:
            unmet = bytes((UNMET_TRIAL,)) + unmet
        return unmet or PASSED

    def _self_test(self, option: bytes) -> bytes:
        _exactly(option, 0)
        return PASSED if self._software.healthy else FAILED

    def _revert(self, option: bytes) -> bytes:
        _exactly(option, 0)
        state = self._memory.state
        if state.next is Next.TRIAL:
            self._memory.keep(
                msgspec.structs.replace(state.with_hash(state.inactive, None), next=Next.SAME)
            )
        elif state.revertible:
            if state.next is not Next.REVERT:
                self._memory.keep(msgspec.structs.replace(state, next=Next.REVERT))
        else:
            raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
        return PASSED

    def _confirm(self, option: bytes) -> bytes:
        """Ends the trial; a repeated request (its answer was lost) is answered alike."""
        _exactly(option, 0)
        state = self._memory.state
        if state.trial and state.next is Next.SAME:
            self._memory.keep(msgspec.structs.replace(state, trial=False, revertible=False))
            self._confirmed = True
        if not self._confirmed:
            raise Negative(Nrc.CONDITIONS_NOT_CORRECT)
        return PASSED


def _exactly(body: bytes, length: int) -> None:
    if len(body) != length:
        raise Negative(Nrc.INCORRECT_LENGTH)


def _is_bcd_date(date: bytes) -> bool:
    if any(byte >> 4 > 9 or byte & 0xF > 9 for byte in date):
        return False
    return 1 <= int(f"{date[1]:02x}") <= 12 and 1 <= int(f"{date[2]:02x}") <= 31
