"""An MQTT client in an asyncio program: lasting session, QoS 1, acknowledged when handled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_log = logging.getLogger(__name__)
_SESSION_S = 7 * 24 * 3600

OnMessage = Callable[[str, bytes], None]


class MqttConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The broker; `version` 5, or 4 for MQTT 3.1.1."""

    host: str = "127.0.0.1"
    port: int = 1883
    version: Literal[4, 5] = 5


class MqttLink:
    """Keeps a connection; `on_message(topic, payload)` runs in the event loop.

    A message is acknowledged to the broker after `on_message` has returned.
    """

    def __init__(
        self, config: MqttConfig, *, client_id: str, topics: Sequence[str], on_message: OnMessage
    ) -> None:
        self._config = config
        self._topics = topics
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._subscribed = asyncio.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTv5 if config.version == 5 else MQTTv311,
            manual_ack=True,
            clean_session=None if config.version == 5 else False,
        )
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._has_subscribed
        self._client.on_message = self._received

    async def open(self, limit_s: float = 15.0) -> None:
        """Connect and subscribe. TimeoutError if the broker does not answer in `limit_s`."""
        session: dict[str, Any] = {}
        if self._config.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S
            session = {"clean_start": False, "properties": properties}
        self._client.connect_async(self._config.host, self._config.port, keepalive=20, **session)
        self._client.loop_start()
        try:
            async with asyncio.timeout(limit_s):
                await self._subscribed.wait()
        except TimeoutError:
            await self.close()
            where = f"{self._config.host}:{self._config.port}"
            raise TimeoutError(f"no MQTT broker answers at {where}") from None

    async def close(self) -> None:
        """Disconnect; the broker keeps the session."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def reconnected(self) -> None:
        """Wait until there is a connection with all subscriptions."""
        await self._subscribed.wait()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1; while there is no connection it waits in memory."""
        self._client.publish(topic, payload, qos=1)

    def _connected(self, client: Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            _log.error("broker refuses: %s", reason)
        elif self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
        else:
            self._loop.call_soon_threadsafe(self._subscribed.set)

    def _disconnected(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.clear)

    def _has_subscribed(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.set)

    def _received(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._handle, client, message)

    def _handle(self, client: Client, message: MQTTMessage) -> None:
        try:
            self._on_message(message.topic, bytes(message.payload))
        except Exception:
            _log.exception("message on %s not handled", message.topic)
        client.ack(message.mid, message.qos)
