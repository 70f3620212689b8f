"""The campaign desk: sends notices, answers time requests, and enters what cars report.

Every report is on disk (`reports.jsonl`) before the broker hears that it arrived, so that a desk
started anew counts on from where it was.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hil_rig.backend.attestation import TimeServer
from hil_rig.backend.ledger import REPORTS, Ledger
from hil_rig.backend.mqtt_link import MqttConfig, MqttLink
from hil_rig.backend.repository import canonical

_log = logging.getLogger(__name__)
_ROOM = "adasupdate"


def envelope(activity_id: str, now: datetime, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope of the Unified Update Agent API around `payload`; `timestamp` in ms."""
    return {
        "activityId": activity_id,
        "timestamp": int(now.timestamp() * 1000),
        "payload": dict(payload),
    }


def desired_state(
    version: str, director_url: str, image_url: str, component: str = "adas-controller"
) -> dict[str, Any]:
    """The payload of a notice (contracts §6)."""
    config = {"uptane.director_url": director_url, "uptane.image_url": image_url}
    return {
        "baselines": [],
        "domains": [
            {
                "id": "adas",
                "components": [
                    {
                        "id": component,
                        "version": version,
                        "config": [{"key": key, "value": value} for key, value in config.items()],
                    }
                ],
            }
        ],
    }


def approves(answer: Mapping[str, Any], hmi: Ed25519PublicKey) -> bool:
    """Whether the display of the car has signed this owner's answer."""
    rest = {name: value for name, value in answer.items() if name != "signature"}
    try:
        hmi.verify(bytes.fromhex(answer["signature"]), canonical(rest))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True


class Desk:
    """The desk at work; with `answers_time` false, cars get no attested time.

    `hmis` maps VINs to the public keys of the cars' displays: only their answers count.
    """

    def __init__(
        self,
        config: MqttConfig,
        ledger: Ledger,
        *,
        folder: Path,
        time_server: TimeServer,
        hmis: Mapping[str, Ed25519PublicKey],
        clock: Callable[[], datetime],
    ) -> None:
        """Read the reports of earlier runs from `folder`; needs a running loop."""
        self.ledger = ledger
        self.answers_time = True
        self._time_server = time_server
        self._hmis = hmis
        self._clock = clock
        self._book = folder / "reports.jsonl"
        self._read_book()
        topics = [f"vehicles/+/{_ROOM}/{name}" for name in (*REPORTS, "time/get")]
        self._link = MqttLink(
            config, client_id="campaign-desk", topics=topics, on_message=self.receive
        )

    async def open(self) -> None:
        """Connect; TimeoutError if there is no broker."""
        await self._link.open()

    async def close(self) -> None:
        """Disconnect; the broker keeps what arrives meanwhile."""
        await self._link.close()

    def notify(self, vin: str, payload: Mapping[str, Any], activity_id: str | None = None) -> str:
        """Send a notice to one car and return its activityId, a new one if none is given."""
        chosen = activity_id or str(uuid.uuid4())
        message = envelope(chosen, self._clock(), payload)
        self.send(vin, "desiredstate", json.dumps(message, ensure_ascii=False).encode())
        if vin in self.ledger.cars:
            self._enter({"vin": vin, "notified": chosen})
        return chosen

    def send(self, vin: str, topic: str, payload: bytes) -> None:
        """Send any bytes on one of a car's topics."""
        self._link.publish(f"vehicles/{vin}/{_ROOM}/{topic}", payload)

    def receive(self, topic: str, payload: bytes) -> None:
        """Take one message of a car; what is no report is logged and left."""
        _, vin, _, name = topic.split("/", 3)
        try:
            message = json.loads(payload)
            if name == "time/get":
                self._answer_time(vin, message)
            elif name != "ownerconsentfeedback" or self._from_display(vin, message["payload"]):
                self._enter({"vin": vin, "report": name, "envelope": message})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("%s: not a report: %s: %s", topic, type(error).__name__, error)

    def _from_display(self, vin: str, answer: Mapping[str, Any]) -> bool:
        return vin in self._hmis and approves(answer, self._hmis[vin])

    def _answer_time(self, vin: str, message: Mapping[str, Any]) -> None:
        if self.answers_time:
            attestation = self._time_server.attest(str(message["payload"]["nonce"]))
            answer = envelope(str(message["activityId"]), self._clock(), attestation)
            self.send(vin, "time", json.dumps(answer).encode())

    def _enter(self, entry: dict[str, Any]) -> None:
        if self._take(entry):
            with self._book.open("a") as book:
                book.write(json.dumps(entry, ensure_ascii=False) + "\n")
                book.flush()
                os.fsync(book.fileno())

    def _take(self, entry: Mapping[str, Any]) -> bool:
        if "notified" in entry:
            self.ledger.notified(entry["vin"])
            return True
        return self.ledger.take(entry["vin"], entry["report"], entry["envelope"])

    def _read_book(self) -> None:
        """Enter what stands in the book; a line cut off by a power failure was never confirmed."""
        content = self._book.read_bytes() if self._book.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._book.write_bytes(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))
