"""The controller on a bus, talked to by a client that none of us wrote."""

import asyncio
import uuid
from pathlib import Path

import can
import cantools
import e2e.p01
import pytest

from hil_rig.controller.command import Controller
from hil_rig.controller.config import Bus, Config, Flash, Identity, SecurityConfig, Status, Timing
from hil_rig.firmware import make_image
from tests.integration.controller_client import KEY, extended, reprogram, uds_client

DBC = Path(__file__).parents[2] / "dbc" / "adas.dbc"


def config(tmp_path, channel, *, fd):
    (tmp_path / "key").write_text(KEY.hex())
    return Config(
        bus=Bus(interface="virtual", channel=channel, fd=fd),
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
