"""The messages of the Unified Update Agent API: notices read, reports built. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import parse_object

DOMAIN = "adas"


class Topic(StrEnum):
    """Topics after the prefix (contracts §6)."""

    DESIRED_STATE = "adasupdate/desiredstate"
    COMMAND = "adasupdate/desiredstate/command"
    FEEDBACK = "adasupdate/desiredstatefeedback"
    CURRENT_STATE_GET = "adasupdate/currentstate/get"
    CURRENT_STATE = "adasupdate/currentstate"
    CONSENT_REQUEST = "adasupdate/ownerconsent"
    CONSENT_ANSWER = "adasupdate/ownerconsentfeedback"
    TIME_GET = "adasupdate/time/get"
    TIME = "adasupdate/time"
    MANIFEST = "adasupdate/manifest"
    INCIDENT = "adasupdate/incident"


INCOMING = (
    Topic.DESIRED_STATE,
    Topic.COMMAND,
    Topic.CURRENT_STATE_GET,
    Topic.CONSENT_ANSWER,
    Topic.TIME,
)
"""What the agent subscribes to."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A desired state for one component. Nothing in it is trusted; it says where to look.

    `raw_sha256` is the digest of the message as it came, in hex.
    """

    activity_id: str
    component: str
    version: str
    director_url: str
    image_url: str
    raw_sha256: str


_ACTIVITY_ID = re.compile(r"[\x21-\x7e]{1,128}")
_SALVAGE = re.compile(rb'"activityId"\s*:\s*"([\x21\x23-\x5b\x5d-\x7e]{1,128})"')
_SALVAGE_WITHIN = 4096


class _KeyValue(msgspec.Struct, frozen=True):
    key: str
    value: str


class _Component(msgspec.Struct, frozen=True):
    id: str
    version: str
    config: list[_KeyValue] = []


class _Domain(msgspec.Struct, frozen=True):
    id: str
    components: list[_Component] = []


class _DesiredState(msgspec.Struct, frozen=True):
    domains: list[_Domain]


class _DesiredStateMessage(msgspec.Struct, frozen=True, rename="camel"):
    activity_id: str
    payload: _DesiredState


def parse_notice(payload: bytes, limit: int, components: Collection[str]) -> Notice:
    """Read a `desiredstate` message of at most `limit` bytes.

    `components` are the ids in the configuration. Raises Refused: NOTICE_TOO_LARGE,
    NOTICE_NOT_JSON, NOTICE_SHAPE, UNKNOWN_COMPONENT; `salvage_activity_id` then tells to whom
    the answer goes.
    """
    if len(payload) > limit:
        raise Refused(
            Code.NOTICE_TOO_LARGE, f"notice: longer than the {limit} bytes that are allowed"
        )
    try:
        document = parse_object(payload)
    except ValueError as error:
        raise Refused(Code.NOTICE_NOT_JSON, f"notice: {error}") from None
    try:
        message = msgspec.convert(document, _DesiredStateMessage)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: lone surrogates
        raise _shape(str(error)[:160]) from None
    if not _ACTIVITY_ID.fullmatch(message.activity_id):
        raise _shape("activityId is not 1 to 128 printable ASCII characters without spaces")
    offered = [
        (domain, component) for domain in message.payload.domains for component in domain.components
    ]
    if len(offered) != 1:
        raise _shape(f"{len(offered)} components, exactly one is allowed")
    domain, component = offered[0]
    if domain.id != DOMAIN or component.id not in components:
        raise Refused(
            Code.UNKNOWN_COMPONENT,
            f"notice: component {component.id[:64]!r} in domain {domain.id[:32]!r}; "
            f"this car has {', '.join(sorted(components))} in domain {DOMAIN!r}",
        )
    if not 1 <= len(component.version) <= 64 or not component.version.isprintable():
        raise _shape("version is not 1 to 64 printable characters")
    config = {entry.key: entry.value for entry in component.config}
    return Notice(
        activity_id=message.activity_id,
        component=component.id,
        version=component.version,
        director_url=_config_value(config, "uptane.director_url"),
        image_url=_config_value(config, "uptane.image_url"),
        raw_sha256=hashlib.sha256(payload).hexdigest(),
    )


def salvage_activity_id(payload: bytes) -> str | None:
    """The activityId of a message that cannot be read as a notice, from its beginning."""
    found = _SALVAGE.search(payload[:_SALVAGE_WITHIN])
    return found[1].decode("ascii") if found else None


def envelope(
    payload: Mapping[str, Any], *, activity_id: str, message_id: str, timestamp_ms: int
) -> dict[str, Any]:
    """A message as it is published; the journal adds `seq` to what it queues.

    `message_id` (UUID) lets the backend count it once; `timestamp_ms` is wall time in milliseconds
    since 1970, 0 where none is trusted.
    """
    return {
        "activityId": activity_id,
        "timestamp": timestamp_ms,
        "messageId": message_id,
        "payload": dict(payload),
    }


def feedback(
    *,
    status: str,
    message: str,
    component: str,
    version: str,
    action_status: str | None,
    progress: int | None = None,
) -> dict[str, Any]:
    """Payload of `desiredstatefeedback`; `progress` in percent, `message` for people to read."""
    action = {
        "component": {"id": component, "version": version},
        "status": action_status,
        "progress": progress,
        "message": message,
    }
    kept = {name: value for name, value in action.items() if value is not None}
    actions = [kept] if action_status is not None else []
    return {"baseline": "", "status": status, "message": message, "actions": actions}


class SoftwareNode(msgspec.Struct, frozen=True, kw_only=True):
    """One controller and the software that it answers with; for `currentstate`."""

    component: str
    version: str
    serial: str
    hardware_id: str


def current_state(nodes: Sequence[SoftwareNode]) -> dict[str, Any]:
    """Payload of `currentstate`: the controllers, their software, and which runs where."""
    return {
        "hardwareNodes": [
            {
                "id": node.serial,
                "type": "ECU",
                "parameters": [{"key": "hardwareId", "value": node.hardware_id}],
            }
            for node in nodes
        ],
        "softwareNodes": [
            {"id": f"{DOMAIN}:{node.component}", "version": node.version, "type": "FIRMWARE"}
            for node in nodes
        ],
        "associations": [
            {"sourceId": node.serial, "targetId": f"{DOMAIN}:{node.component}"} for node in nodes
        ],
    }


def time_request(nonce: str) -> bytes:
    """The message `time/get`; `nonce` in hex. It is no report and has no `seq`."""
    message = envelope({"nonce": nonce}, activity_id="", message_id=nonce, timestamp_ms=0)
    return msgspec.json.encode(message)


def _config_value(config: Mapping[str, str], key: str) -> str:
    value = config.get(key, "")
    if not 1 <= len(value) <= 2048:
        raise _shape(f"config {key!r} is missing or longer than 2048 characters")
    return value


def _shape(what: str) -> Refused:
    return Refused(Code.NOTICE_SHAPE, f"notice: {what}")
