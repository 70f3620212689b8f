"""The mailbox: MQTT at the edge. A persistent session, and no acknowledgement before its time.

The library runs in a thread of its own; its callbacks do nothing but hand over to the loop. Each
connection has a client of its own, so that nothing of an old one is left in a new one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_log = logging.getLogger(__name__)

_REFUSED = 128
_UNSUPPORTED_VERSION = 132
_RECEIVE_MAXIMUM = 16
_MOST_WAITING = 64
"""More than an honest broker has in flight; what is dropped beyond is not acknowledged."""


class MqttConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table `[mqtt]`.

    `version` 5 falls back to 3.1.1 (4 on the wire) where the broker has no 5. `mode`: "autonomous"
    puts `vehicles/{vin}/` before each topic, "managed" nothing. `max_packet` bounds what is taken
    in. A broker has `connack_s` to answer CONNECT (some that know only 3.1.1 keep silent to 5).
    Reconnecting waits from `retry_first_s` doubling up to `retry_most_s`.
    """

    host: str = "localhost"
    port: int = 1883
    version: Literal[5, 4] = 5
    client_id: str = ""
    mode: Literal["autonomous", "managed"] = "autonomous"
    max_packet: int = 262_144
    keepalive_s: int = 30
    session_expiry_s: int = 30 * 86_400
    connack_s: float = 5.0
    retry_first_s: float = 0.5
    retry_most_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ValueError("host is empty")
        for name, least, most in (
            ("port", 1, 65_535),
            ("max_packet", 1024, 268_435_455),
            ("keepalive_s", 1, 65_535),
            ("session_expiry_s", 0, 0xFFFF_FFFF),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed is {least} to {most}")
        if self.retry_first_s <= 0 or self.retry_most_s < self.retry_first_s:
            raise ValueError("retry_first_s must be above 0 and not above retry_most_s")

    def prefix(self, vin: str) -> str:
        """What stands before each topic."""
        return f"vehicles/{vin}/" if self.mode == "autonomous" else ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message: `topic` without prefix. The broker keeps it until `acknowledge()` is called.

    `payload` is cut after `max_packet` + 1 bytes: enough to see that it is too large.

    Acknowledging after the connection was lost does nothing: the broker delivers it again.
    """

    topic: str
    payload: bytes
    acknowledge: Callable[[], None]


class Mailbox:
    """Receives and publishes at QoS 1, over reconnects, for as long as it is started."""

    def __init__(
        self,
        config: MqttConfig,
        *,
        vin: str,
        topics: Sequence[str],
        jitter: Callable[[], float],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`topics` (without prefix) are subscribed to; `jitter()` is random, from 0 to 1.

        With `tls` the broker is spoken to over TLS.
        """
        self._config = config
        self._client_id = config.client_id or f"vehicle-agent-{vin}"
        self._prefix = config.prefix(vin)
        self._topics = [self._prefix + topic for topic in topics]
        self._jitter = jitter
        self._tls = tls
        self._version: int = config.version
        self._line: _Line | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Delivery] = asyncio.Queue(_MOST_WAITING)
        self.connected = asyncio.Event()
        """Set while the session stands and the subscriptions are acknowledged."""

    @property
    def protocol(self) -> str:
        """The MQTT version in use or tried next."""
        return "5" if self._version == 5 else "3.1.1"

    async def start(self) -> None:
        """Begin to connect, and go on with it until `stop`; the broker may be away."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="mailbox")

    async def stop(self) -> None:
        """Disconnect. What was not acknowledged stays with the broker."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None

    @property
    def deliveries(self) -> AsyncIterator[Delivery]:
        """Messages in the order of their arrival, without end."""
        return self._deliveries()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        Raises ConnectionError if there is no connection, if it is lost meanwhile, or if the broker
        says no; the message may or may not have arrived then.
        """
        line = self._line
        if line is None or not self.connected.is_set():
            raise ConnectionError("no connection to the broker")
        await line.publish(self._prefix + topic, payload)

    async def _keep_connected(self) -> None:
        wait = self._config.retry_first_s
        while True:
            line = _Line(self._config, self._client_id, self._version, self._tls, self._received)
            self._line = line
            try:
                await line.open()
                await line.subscribe(self._topics)
                wait = self._config.retry_first_s
                self.connected.set()
                _log.info("connected to the broker, MQTT %s", self.protocol)
                await line.lost.wait()
                _log.warning("connection to the broker lost")
            except VersionError:
                if self._config.version == 5:
                    self._version = 4 if self._version == 5 else 5
                _log.info("the broker did not take this version, trying MQTT %s", self.protocol)
            except (OSError, ValueError) as error:
                _log.info("no connection to the broker: %s", error)
            finally:
                self.connected.clear()
                await line.close()
            await asyncio.sleep(wait * (0.5 + self._jitter() / 2))
            wait = min(wait * 2, self._config.retry_most_s)

    async def _deliveries(self) -> AsyncIterator[Delivery]:
        while True:
            yield await self._inbox.get()

    def _received(self, topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        if self._inbox.full():
            _log.warning("message on %s dropped: %d wait already", topic, _MOST_WAITING)
            return
        topic = topic.removeprefix(self._prefix)
        payload = payload[: self._config.max_packet + 1]
        self._inbox.put_nowait(Delivery(topic, payload, acknowledge))


class VersionError(ConnectionError):
    """The broker was reached and did not take a CONNECT of this protocol version."""


class _Client(paho.Client):
    """The library's client for one connection; tells when its thread ends, whatever ended it."""

    def __init__(
        self,
        on_end: Callable[[], None],
        client_id: str,
        *,
        clean_session: bool | None,
        protocol: MQTTProtocolVersion,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean_session,
            protocol=protocol,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._on_end = on_end

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """The body of the thread. A packet that the library cannot read ends the connection."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:
            _log.warning("the broker sent what is no MQTT: %s", type(error).__name__)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            self._on_end()


class _Line:
    """One connection, from CONNECT to its loss."""

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        version: int,
        tls: ssl.SSLContext | None,
        received: Callable[[str, bytes, Callable[[], None]], None],
    ) -> None:
        self.lost = asyncio.Event()
        self._config = config
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._connack: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._waiting: dict[tuple[str, int], asyncio.Future[list[ReasonCode]]] = {}
        five = version == 5
        self._five = five
        self._client = _Client(
            lambda: self._hand_over(self._lose),
            client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        )
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe

    async def open(self) -> None:
        """Connect and wait for CONNACK; raises OSError, VersionError."""
        await asyncio.to_thread(self._connect)
        self._client.loop_start()
        await asyncio.wait({self._connack}, timeout=self._config.connack_s)
        if not self._connack.done():
            raise VersionError("no answer to CONNECT")
        reason = self._connack.result()
        if reason.value in (1, _UNSUPPORTED_VERSION):
            raise VersionError(str(reason))
        if reason.is_failure:
            raise ConnectionError(f"the broker refuses: {reason}")

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe at QoS 1; raises ConnectionError."""
        _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        for topic, reason in zip(topics, await self._answer("suback", mid), strict=False):
            if reason.is_failure:
                raise ConnectionError(f"subscription to {topic}: {reason}")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish and wait for PUBACK; raises ConnectionError."""
        info = self._client.publish(topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"not published: {paho.error_string(info.rc)}")
        for reason in await self._answer("puback", info.mid):
            if reason.is_failure:
                raise ConnectionError(f"the broker does not take it: {reason}")

    async def close(self) -> None:
        """Disconnect and end the thread."""
        self._lose()
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def _connect(self) -> None:
        config = self._config
        if not self._five:
            self._client.connect(config.host, config.port, config.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = config.max_packet
        properties.SessionExpiryInterval = config.session_expiry_s
        properties.ReceiveMaximum = _RECEIVE_MAXIMUM
        self._client.connect(
            config.host,
            config.port,
            config.keepalive_s,
            clean_start=False,
            properties=properties,
        )

    async def _answer(self, kind: str, mid: int | None) -> list[ReasonCode]:
        if mid is None or self.lost.is_set():
            raise ConnectionError("the connection is lost")
        key = (kind, mid)
        self._waiting[key] = self._loop.create_future()
        try:
            return await self._waiting[key]
        finally:
            self._waiting.pop(key, None)

    def _lose(self) -> None:
        """On the loop: nothing that was waited for will come any more."""
        self.lost.set()
        if not self._connack.done():
            self._connack.set_exception(VersionError("closed without an answer to CONNECT"))
            self._connack.exception()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectionError("the connection was lost"))

    def _acknowledger(self, mid: int) -> Callable[[], None]:
        def acknowledge() -> None:
            if not self.lost.is_set():
                self._client.ack(mid, 1)

        return acknowledge

    def _answered(self, reason: ReasonCode) -> None:
        if not self._connack.done():
            self._connack.set_result(reason)

    def _settle(self, key: tuple[str, int], reasons: list[ReasonCode]) -> None:
        waiter = self._waiting.get(key)
        if waiter is not None and not waiter.done():
            waiter.set_result(reasons)

    def _hand_over(self, call: Callable[..., object], *arguments: Any) -> None:
        """From the library's thread to the loop; a loop that is closed wants nothing more."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self._hand_over(self._answered, reason)

    def _on_disconnect(self, *_arguments: Any) -> None:
        self._hand_over(self._lose)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._hand_over(
            self._received, message.topic, message.payload, self._acknowledger(message.mid)
        )

    def _on_publish(
        self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._hand_over(self._settle, ("puback", mid), [reason])

    def _on_subscribe(
        self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._hand_over(self._settle, ("suback", mid), reasons)
