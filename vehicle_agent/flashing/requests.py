"""The UDS requests that the sequences make, encoded by udsoncan."""

from __future__ import annotations

from udsoncan.common.MemoryLocation import MemoryLocation
from udsoncan.Request import Request
from udsoncan.services.CommunicationControl import CommunicationControl
from udsoncan.services.ControlDTCSetting import ControlDTCSetting
from udsoncan.services.DiagnosticSessionControl import DiagnosticSessionControl
from udsoncan.services.ECUReset import ECUReset
from udsoncan.services.ReadDataByIdentifier import ReadDataByIdentifier
from udsoncan.services.ReadDTCInformation import ReadDTCInformation
from udsoncan.services.RequestDownload import RequestDownload
from udsoncan.services.RequestTransferExit import RequestTransferExit
from udsoncan.services.RoutineControl import RoutineControl
from udsoncan.services.SecurityAccess import SecurityAccess
from udsoncan.services.TransferData import TransferData
from udsoncan.services.WriteDataByIdentifier import WriteDataByIdentifier

DEFAULT, PROGRAMMING, EXTENDED = 1, 2, 3


def session(kind: int) -> Request:
    """0x10: DEFAULT, PROGRAMMING or EXTENDED."""
    return Request(DiagnosticSessionControl, subfunction=kind)


def hard_reset() -> Request:
    """0x11 01."""
    return Request(ECUReset, subfunction=1)


def failed_dtcs() -> Request:
    """0x19 02 for codes that are failed (testFailed) or confirmed (confirmedDTC)."""
    return Request(ReadDTCInformation, subfunction=2, data=b"\x09")


def read(did: int) -> Request:
    """0x22 for one data identifier."""
    return Request(ReadDataByIdentifier, data=did.to_bytes(2))


def security(level: int, data: bytes = b"") -> Request:
    """0x27: seed at an odd level, key at the even one after it."""
    return Request(SecurityAccess, subfunction=level, data=data)


def communication(control: int, kind: int) -> Request:
    """0x28: 0 enables, 3 disables the messages of communicationType `kind`."""
    return Request(CommunicationControl, subfunction=control, data=bytes((kind,)))


def write(did: int, data: bytes) -> Request:
    """0x2E."""
    return Request(WriteDataByIdentifier, data=did.to_bytes(2) + data)


def routine(identifier: int, option: bytes = b"") -> Request:
    """0x31 01: start."""
    return RoutineControl.make_request(identifier, 1, option)


def download(address: int, length: int) -> Request:
    """0x34, not compressed, not encrypted, 32-bit address and length."""
    place = MemoryLocation(address, length, address_format=32, memorysize_format=32)
    return RequestDownload.make_request(place)


def transfer(counter: int, block: bytes) -> Request:
    """0x36."""
    return TransferData.make_request(counter, block)


def transfer_exit() -> Request:
    """0x37."""
    return Request(RequestTransferExit)


def dtc_setting(*, on: bool) -> Request:
    """0x85."""
    return Request(ControlDTCSetting, subfunction=1 if on else 2)


def shown(request: Request) -> str:
    """Service and parameters for a message; never keys, never blocks of data."""
    payload = request.get_payload()
    return payload[: 2 if payload[0] in {0x27, 0x36} else 4].hex(" ")
