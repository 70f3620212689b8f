"""A UDS client that none of us wrote, udsoncan over can-isotp, for tests of the controller."""

import contextlib
import functools
from datetime import date

import can
import isotp
import udsoncan
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from hil_rig.controller.security import key_for
from hil_rig.firmware import memory_check_expected

KEY = bytes(range(16))
WINDOW = 0x0800_0000


class AsciiCodec(udsoncan.DidCodec):
    def encode(self, value):
        return value.encode()

    def decode(self, payload):
        return payload.decode()

    def __len__(self):
        raise udsoncan.DidCodec.ReadAllRemainingData


class RawCodec(AsciiCodec):
    def encode(self, value):
        return value

    def decode(self, payload):
        return payload


@contextlib.contextmanager
def uds_client(channel, *, fd, interface="virtual"):
    bus = can.Bus(interface=interface, channel=channel, fd=fd)
    # can-isotp's thread would end at the first full transmit buffer.
    bus.send = functools.partial(bus.send, timeout=5.0)
    notifier = can.Notifier(bus, [])
    stack = isotp.NotifierBasedCanStack(
        bus,
        notifier,
        address=isotp.Address(isotp.AddressingMode.Normal_11bits, txid=0x7A0, rxid=0x7A8),
        params={
            "tx_padding": 0xCC,
            "can_fd": fd,
            "bitrate_switch": fd,
            "tx_data_length": 64 if fd else 8,
            "blocking_send": False,
        },
    )
    settings = dict(udsoncan.configs.default_client_config)
    settings |= {
        "request_timeout": 20,
        "use_server_timing": False,  # counts P2 before the request is through on the bus
        "p2_timeout": 5,
        "data_identifiers": {
            0xF189: AsciiCodec,
            0xF1EF: AsciiCodec,
            0xF190: AsciiCodec,
            0xF1F0: RawCodec,
            0xF15A: RawCodec,
        },
        "security_algo": lambda level, seed, params: key_for(KEY, seed),
    }
    try:
        with Client(PythonIsoTpConnection(stack), config=settings) as client:
            yield client
    finally:
        notifier.stop()
        bus.shutdown()


def extended(client):
    """Enter the extended session; a controller in its reset says nothing, so ask until it does."""
    client.config["request_timeout"] = 0.2
    while True:
        with contextlib.suppress(udsoncan.exceptions.TimeoutException):
            client.change_session(3)
            break
    client.config["request_timeout"] = 20


def reprogram(client, image):
    """The sequence of docs/contracts.md §5, up to the trial boot."""
    extended(client)
    client.start_routine(0x0203)
    client.control_dtc_setting(2)
    client.communication_control(3, 1)
    client.change_session(2)
    client.unlock_security_access(1)
    today = date(2026, 11, 22)
    client.write_data_by_identifier(0xF15A, bytes.fromhex(today.strftime("%y%m%d")) + b"TESTER01")
    location = udsoncan.MemoryLocation(WINDOW, len(image), 32, 32)
    where = WINDOW.to_bytes(4) + len(image).to_bytes(4)
    client.start_routine(0xFF00, b"\x44" + where)
    size = client.request_download(location).service_data.max_length - 2
    for index, start in enumerate(range(0, len(image), size), start=1):
        client.transfer_data(index & 0xFF, image[start : start + size])
    client.request_transfer_exit()
    check = client.start_routine(0x0202, where).service_data.routine_status_record
    assert check.hex() == memory_check_expected(image)
    client.start_routine(0xFF01)
    client.ecu_reset(1)
