"""The mailbox on real brokers: nothing is acknowledged before its time, and nothing is lost."""

import asyncio

import msgspec
import pytest

from hil_rig.backend.broker import Broker, find_mosquitto
from vehicle_agent.notices.messages import INCOMING, Topic, parse_notice
from vehicle_agent.notices.mqtt import Mailbox, MqttConfig
from vehicle_agent.refusals import Code, Refused

VIN = "LXMA7AEB1R0000042"
TOPICS = [*INCOMING]

mosquitto = pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
KINDS = [pytest.param("mosquitto", marks=mosquitto), "amqtt"]


@pytest.fixture
def broker(request, tmp_path):
    kind = getattr(request, "param", "mosquitto")
    broker = Broker.start(tmp_path / "broker", kind=kind)
    yield broker
    broker.stop()


@pytest.fixture
async def mailboxes(broker):
    started = []

    async def start(*, connected=True, topics=TOPICS, **config):
        settings = {
            "host": "127.0.0.1",
            "port": broker.port,
            "retry_first_s": 0.05,
            "connack_s": 2.0,
        } | config
        mailbox = Mailbox(MqttConfig(**settings), vin=VIN, topics=topics, jitter=lambda: 0.5)
        await mailbox.start()
        started.append(mailbox)
        if connected:
            await mailbox.connected.wait()
        return mailbox

    yield start
    for mailbox in started:
        await mailbox.stop()


async def desk(start, **config):
    """The backend's side: another client that publishes below the same prefix."""
    return await start(client_id="desk", topics=[Topic.FEEDBACK], **config)


@pytest.mark.parametrize("broker", KINDS, indirect=True)
async def test_notice_arrives_under_its_plain_topic_and_reports_go_out(mailboxes):
    car, backend = await mailboxes(), await desk(mailboxes)
    await backend.publish(Topic.DESIRED_STATE, b"notice")
    got = await anext(car.deliveries)
    assert (got.topic, got.payload) == (Topic.DESIRED_STATE, b"notice")
    got.acknowledge()
    await car.publish(Topic.FEEDBACK, b"feedback")
    assert (await anext(backend.deliveries)).payload == b"feedback"


@mosquitto
async def test_notice_that_was_not_acknowledged_comes_again(mailboxes):
    car, backend = await mailboxes(), await desk(mailboxes)
    for number in range(3):
        await backend.publish(Topic.DESIRED_STATE, b"%d" % number)
    first, second = await anext(car.deliveries), await anext(car.deliveries)
    first.acknowledge()
    await car.publish(Topic.FEEDBACK, b"after the acknowledgement")
    await anext(backend.deliveries)
    await car.stop()
    second.acknowledge()
    again = await mailboxes()
    assert [(await anext(again.deliveries)).payload for _ in range(2)] == [b"1", b"2"]


@mosquitto
async def test_acknowledgement_from_an_old_connection_confirms_nothing_in_the_new(
    mailboxes, broker
):
    car, backend = await mailboxes(), await desk(mailboxes)
    await backend.publish(Topic.DESIRED_STATE, b"notice")
    old = await anext(car.deliveries)
    await asyncio.to_thread(broker.restart)
    new = await anext(car.deliveries)
    old.acknowledge()
    await car.stop()
    again = await mailboxes()
    assert (await anext(again.deliveries)).payload == new.payload == b"notice"


@mosquitto
async def test_notice_sent_while_the_car_is_away_is_delivered(mailboxes):
    car, backend = await mailboxes(), await desk(mailboxes)
    await car.stop()
    await backend.publish(Topic.DESIRED_STATE, b"while away")
    again = await mailboxes()
    assert (await anext(again.deliveries)).payload == b"while away"


@pytest.mark.parametrize("broker", KINDS, indirect=True)
async def test_broker_may_be_away_at_the_start_and_in_between(mailboxes, broker):
    broker.stop()
    car = await mailboxes(connected=False)
    with pytest.raises(ConnectionError):
        await car.publish(Topic.FEEDBACK, b"lost")
    await asyncio.to_thread(broker.restart)
    await car.connected.wait()
    await asyncio.to_thread(broker.restart)
    backend = await desk(mailboxes)
    await car.connected.wait()
    while True:
        try:
            await car.publish(Topic.FEEDBACK, b"arrives")
            break
        except ConnectionError:
            await car.connected.wait()
    assert (await anext(backend.deliveries)).payload == b"arrives"


@mosquitto
async def test_publishing_raises_when_the_broker_goes_before_its_answer(mailboxes, broker):
    car = await mailboxes()
    asked = asyncio.Event()
    car._line._client.on_publish = None
    car._line._client.on_log = lambda *_: car._line._loop.call_soon_threadsafe(asked.set)
    sending = asyncio.create_task(car.publish(Topic.FEEDBACK, b"feedback"))
    await asked.wait()
    broker.stop()
    with pytest.raises(ConnectionError):
        await sending


@pytest.mark.requirement("A4")
@mosquitto
async def test_ten_megabytes_do_not_reach_the_agent_over_mqtt_5(mailboxes):
    car, backend = await mailboxes(), await desk(mailboxes)
    assert car.protocol == "5"
    await backend.publish(Topic.DESIRED_STATE, bytes(10_000_000))
    await backend.publish(Topic.DESIRED_STATE, b"small")
    assert (await anext(car.deliveries)).payload == b"small"


@pytest.mark.requirement("A4")
@mosquitto
async def test_ten_megabytes_are_refused_by_parsing_over_mqtt_3_1_1(mailboxes):
    car, backend = await mailboxes(version=4), await desk(mailboxes)
    assert car.protocol == "3.1.1"
    await backend.publish(Topic.DESIRED_STATE, bytes(10_000_000))
    got = await anext(car.deliveries)
    with pytest.raises(Refused) as caught:
        parse_notice(got.payload, 262_144, ["adas-controller"])
    assert caught.value.refusal.code is Code.NOTICE_TOO_LARGE
    assert len(got.payload) == 262_145
    got.acknowledge()
    await backend.publish(Topic.DESIRED_STATE, b"small")
    assert (await anext(car.deliveries)).payload == b"small"


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_broker_without_mqtt_5_gets_3_1_1(mailboxes):
    car = await mailboxes(version=5)
    assert car.protocol == "3.1.1"


@mosquitto
async def test_managed_mode_has_no_prefix(mailboxes):
    car = await mailboxes(mode="managed")
    other = await mailboxes(mode="managed", client_id="manager", topics=[Topic.FEEDBACK])
    await car.publish(Topic.FEEDBACK, b"plain")
    assert (await anext(other.deliveries)).topic == Topic.FEEDBACK
    assert car._topics == [str(topic) for topic in TOPICS]


CONNACK_5 = b"\x20\x03\x00\x00\x00"


@pytest.mark.requirement("A4")
@pytest.mark.parametrize("answer", [b"\xff" * 64, CONNACK_5 + b"\x30\x02\x00\xff", b"\x20\x00"])
async def test_broker_that_speaks_no_mqtt_is_tried_again(answer):
    calls = asyncio.Queue()

    async def talk(reader, writer):
        calls.put_nowait(await reader.read(1))
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = MqttConfig(host="127.0.0.1", port=port, retry_first_s=0.01, connack_s=1.0)
        mailbox = Mailbox(config, vin=VIN, topics=TOPICS, jitter=lambda: 0.0)
        await mailbox.start()
        for _ in range(3):
            assert await calls.get() == b"\x10"
        await mailbox.stop()


@pytest.mark.requirement("A4")
async def test_flood_is_bounded():
    mailbox = Mailbox(MqttConfig(), vin=VIN, topics=TOPICS, jitter=lambda: 0.0)
    for number in range(1000):
        mailbox._received(f"vehicles/{VIN}/{Topic.TIME}", b"%d" % number, lambda: None)
    assert mailbox._inbox.qsize() == 64
    assert (await anext(mailbox.deliveries)).payload == b"0"


@pytest.mark.parametrize(
    "change",
    [
        {"port": 0},
        {"port": 65_536},
        {"host": " "},
        {"keepalive_s": 0},
        {"max_packet": 10},
        {"session_expiry_s": -1},
        {"retry_first_s": 0.0},
        {"retry_most_s": 0.1},
        {"version": 3},
        {"mode": "both"},
        {"ca": "ca.pem"},
    ],
)
def test_configuration_out_of_range_is_refused(change):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(change, MqttConfig)
