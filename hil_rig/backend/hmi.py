"""The driver's display: shows what the agent must tell, and returns the driver's signed answer.

Configuration (TOML): `vin`, `key` (PKCS8 PEM file), `control` (socket), `policy`, `locale`,
`prefix` (default `vehicles/<vin>/`), table `[mqtt]` with host, port, version.

Control requests: `state` → what is shown and was answered; `answer status=APPROVED|DENIED|POSTPONED
[not_before=…]` under policy "ask"; `policy policy=…`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from hil_rig import control
from hil_rig.backend.consent_answer import NotShown, Policy, answer, shown_texts
from hil_rig.backend.desk import envelope
from hil_rig.backend.mqtt_link import MqttConfig, MqttLink
from hil_rig.backend.pki import load_key
from hil_rig.backend.process import read_config, run, say_ready

_log = logging.getLogger(__name__)
_BY_STATUS = {
    "APPROVED": Policy.APPROVE,
    "DENIED": Policy.DENY,
    "POSTPONED": Policy.POSTPONE,
}


class HmiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configuration of one car's display; paths as in the file."""

    vin: str
    key: str
    control: str
    mqtt: MqttConfig
    policy: Policy = Policy.ASK
    locale: str = "zh-CN"
    prefix: str | None = None


class Display:
    """The display at work; what it shows stands in `showing` and `results`."""

    def __init__(self, config: HmiConfig) -> None:
        """Read the key and prepare the connection; needs a running loop."""
        self._config = config
        self._key = load_key(Path(config.key))
        self._room = (config.prefix or f"vehicles/{config.vin}/") + "adasupdate/"
        self.policy = config.policy
        self.showing: dict[str, Any] | None = None
        self.answers: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self._question: dict[str, Any] | None = None
        topics = [self._room + "ownerconsent", self._room + "desiredstatefeedback"]
        self._link = MqttLink(
            config.mqtt,
            client_id=f"hmi-{config.vin}",
            topics=topics,
            on_message=self._receive,
        )

    async def open(self) -> None:
        """Connect; TimeoutError if there is no broker."""
        await self._link.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    async def control(self, do: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out one control request."""
        if do == "state":
            return {
                "policy": self.policy,
                "showing": self.showing,
                "answers": self.answers,
                "results": self.results,
            }
        if do == "policy":
            self.policy = Policy(request["policy"])
            return {"policy": self.policy}
        if do == "answer":
            return self._answer(_BY_STATUS[request["status"]], request.get("not_before"))
        raise control.ControlError(f"no request {do!r}; one of state, policy, answer")

    def _receive(self, topic: str, payload: bytes) -> None:
        try:
            message = json.loads(payload)["payload"]
            if topic.endswith("/desiredstatefeedback"):
                self.results.append(
                    {"status": message["status"], "message": message.get("message")}
                )
            else:
                self._ask(message)
        except NotShown as error:
            _log.warning("question not shown: %s", error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("%s: not understood: %s: %s", topic, type(error).__name__, error)

    def _ask(self, question: dict[str, Any]) -> None:
        texts = shown_texts(question, self._config.locale)
        self.showing = {
            "activityId": question["activityId"],
            "recall": question["recall"],
            "minutes": question["minutes"],
            "locale": self._config.locale,
            "texts": texts,
        }
        self._question = question
        for name, text in texts.items():
            _log.info("shows %s: %s", name, text)
        if self.policy not in {Policy.ASK, Policy.SILENCE}:
            self._answer(self.policy, None)

    def _answer(self, policy: Policy, not_before: str | None) -> dict[str, Any]:
        if self._question is None:
            raise control.ControlError("nothing is being asked")
        now = datetime.now(UTC)
        said = answer(
            self._question,
            policy,
            key=self._key,
            locale=self._config.locale,
            now=now,
            randomness=secrets.token_bytes,
            not_before=not_before,
        )
        message = envelope(str(said["activityId"]), now, said)
        self._link.publish(self._room + "ownerconsentfeedback", json.dumps(message).encode())
        self.answers.append(said)
        _log.info("answers %s", said["status"])
        return {"answered": said}


def main(argv: list[str]) -> int:
    """Run the display until SIGTERM; exit 1 if it cannot start."""
    parser = argparse.ArgumentParser(
        prog="hil-rig hmi",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    options = parser.parse_args(argv)

    async def part(ended: asyncio.Event) -> None:
        config = read_config(options.config, HmiConfig)
        display = Display(config)
        await display.open()
        server = await control.serve(Path(config.control), display.control)
        say_ready()
        await ended.wait()
        server.close()
        await display.close()

    return run(part, "hmi")
