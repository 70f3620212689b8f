"""The controller on a bus, talked to by a client that none of us wrote: udsoncan and can-isotp."""

import asyncio
import contextlib
import uuid
from datetime import date
from pathlib import Path

import can
import cantools
import e2e.p01
import isotp
import pytest
import udsoncan
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from hil_rig.controller.command import Controller
from hil_rig.controller.config import Bus, Config, Flash, Identity, SecurityConfig, Status, Timing
from hil_rig.controller.security import key_for
from hil_rig.firmware import make_image, memory_check_expected

DBC = Path(__file__).parents[2] / "dbc" / "adas.dbc"
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


def config(tmp_path, channel, *, fd, interface="virtual"):
    (tmp_path / "key").write_text(KEY.hex())
    return Config(
        bus=Bus(interface=interface, channel=channel, fd=fd),
        identity=Identity(vin="LXMA7000000000001", ecu_serial="ADAS-1", hardware_id="hw-3"),
        memory=Flash(
            file=tmp_path / "flash",
            bank_size=128 << 10,
            version="2.3.1",
            rxswin="RX1",
            image_size=32 << 10,
        ),
        timing=Timing(reset_s=0.02, erase_s=0.06, p2_s=0.05),
        security=SecurityConfig(key_file=tmp_path / "key"),
        status=Status(dbc=DBC),
    )


@contextlib.contextmanager
def uds_client(channel, *, fd, interface="virtual"):
    bus = can.Bus(interface=interface, channel=channel, fd=fd)
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


@pytest.mark.parametrize("fd", [False, True], ids=["classic", "fd"])
@pytest.mark.requirement("B1")
async def test_an_independent_client_reprograms_the_controller(tmp_path, fd):
    channel = uuid.uuid4().hex
    image = make_image("2.4.0", "RX2", "hw-3", 40_000, 7)

    def talk():
        with uds_client(channel, fd=fd) as client:
            reprogram(client, image)
            extended(client)
            version = client.read_data_by_identifier_first(0xF189)
            rxswin = client.read_data_by_identifier_first(0xF1EF)
            client.start_routine(0x0212)
            client.start_routine(0x0211)
            return version, rxswin, client.read_data_by_identifier_first(0xF1F0)

    controller = Controller(config(tmp_path, channel, fd=fd))
    try:
        assert await asyncio.to_thread(talk) == ("2.4.0", "RX2", bytes((1, 0, 1, 0)))
    finally:
        controller.close()


async def test_the_status_frame_is_what_the_dbc_says_and_its_protection_holds(tmp_path):
    channel = uuid.uuid4().hex
    listener = can.Bus(interface="virtual", channel=channel)
    controller = Controller(config(tmp_path, channel, fd=False))
    try:
        message = await asyncio.to_thread(listener.recv, 10)
    finally:
        controller.close()
        listener.shutdown()
    database = cantools.database.load_file(DBC)
    described = database.get_message_by_name("ADAS_Status")
    data_id = described.dbc.attributes["E2EDataId"].value
    assert message.arbitration_id == 0x300
    assert e2e.p01.e2e_p01_check(message.data, data_id)
    signals = described.decode(bytes(message.data), decode_choices=False)
    assert (signals["ADAS_HpaState"], signals["ADAS_Trial"], signals["ADAS_SelfTest"]) == (1, 0, 0)
