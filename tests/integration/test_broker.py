"""Both brokers: what a client with a lasting session misses is delivered when it is back."""

import asyncio
import json
from contextlib import ExitStack

import pytest

from hil_rig.backend.broker import Broker, BrokerFailed, find_mosquitto
from hil_rig.backend.mqtt_link import MqttConfig, MqttLink

KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed"),
    ),
    "amqtt",
]


@pytest.fixture
def start():
    """Starts brokers, and ends them whatever the test does."""
    with ExitStack() as stack:

        def start(folder, port=0, *, kind):
            broker = Broker.start(folder, port, kind=kind)
            stack.callback(broker.stop)
            return broker

        yield start


@pytest.fixture(params=KINDS)
def broker(request, tmp_path, start):
    return start(tmp_path / "broker", kind=request.param)


def _link(broker, client_id, topics=(), on_message=lambda topic, payload: None):
    config = MqttConfig(port=broker.port, version=broker.version)
    return MqttLink(config, client_id=client_id, topics=topics, on_message=on_message)


async def test_message_sent_while_away_arrives_on_return(broker):
    arrived = asyncio.Queue()
    car = _link(broker, "car", ["to/car"], lambda *message: arrived.put_nowait(message))
    await car.open()
    await car.close()
    desk = _link(broker, "desk", ["seen"], lambda *message: arrived.put_nowait(message))
    await desk.open()
    desk.publish("to/car", b"notice")
    desk.publish("seen", b"by the broker")
    assert await arrived.get() == ("seen", b"by the broker")
    car = _link(broker, "car", ["to/car"], lambda *message: arrived.put_nowait(message))
    await car.open()
    assert await arrived.get() == ("to/car", b"notice")
    await desk.close()
    await car.close()


async def test_clients_come_back_to_a_restarted_broker(broker):
    arrived = asyncio.Queue()
    car = _link(broker, "car", ["to/car"], lambda topic, payload: arrived.put_nowait(payload))
    await car.open()
    await asyncio.to_thread(broker.restart)
    desk = _link(broker, "desk")
    await desk.open()
    await car.reconnected()
    desk.publish("to/car", json.dumps({"after": "restart"}).encode())
    assert json.loads(await arrived.get()) == {"after": "restart"}
    await desk.close()
    await car.close()


@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
async def test_mosquitto_keeps_undelivered_messages_over_a_restart(tmp_path, start):
    broker = start(tmp_path, kind="mosquitto")
    arrived = asyncio.Queue()
    car = _link(broker, "car", ["to/car"])
    await car.open()
    await car.close()
    desk = _link(broker, "desk", ["seen"], lambda topic, payload: arrived.put_nowait(payload))
    await desk.open()
    desk.publish("to/car", b"notice")
    desk.publish("seen", b"by the broker")
    await arrived.get()
    await desk.close()
    await asyncio.to_thread(broker.restart)
    car = _link(broker, "car", ["to/car"], lambda topic, payload: arrived.put_nowait(payload))
    await car.open()
    assert await arrived.get() == b"notice"
    await car.close()


def test_port_of_another_broker_is_refused(tmp_path, start):
    taken = start(tmp_path / "first", kind="amqtt")
    with pytest.raises(BrokerFailed, match="taken"):
        start(tmp_path / "second", taken.port, kind="amqtt")


def test_broker_that_ends_at_once_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("hil_rig.backend.broker.find_mosquitto", lambda: "/bin/false")
    with pytest.raises(BrokerFailed, match=r"broker\.log"):
        Broker.start(tmp_path, kind="mosquitto")
