"""Messages off the broker: notices, time attestations, statements, consent answers."""

from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.attestation import time_key_statement
from hil_rig.backend.consent_answer import Policy, answer
from hil_rig.backend.desk import desired_state, envelope
from hil_rig.backend.repository import canonical
from tests.fuzz.mutation import mutated, unhandled
from tests.unit.release_maker import make_release
from tests.unit.time_world import TimeWorld
from vehicle_agent.consent import build_request, check_answer
from vehicle_agent.notices.messages import parse_notice, salvage_activity_id
from vehicle_agent.refusals import Refused

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_COMPONENTS = ("adas-controller",)
_ODD = (None, True, -1, 0, 1 << 80, "", "x" * 300, "\ud800", [], {}, [[]], {"": None}, "9999-12-31")


def run(seed: int, count: int) -> tuple[int, int]:
    """`count` messages, each changed, to each reader; a third of them well signed nonsense."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        car = TimeWorld(Path(folder))
        request = build_request(make_release(), "activity-1", "bb" * 16, 25)
        notice = json.dumps(envelope("a-1", _NOW, desired_state("2.4.0", "https://d", "https://i")))
        said = answer(
            request, Policy.APPROVE, key=_KEY, locale="en", now=_NOW, randomness=chance.randbytes
        )
        bad = 0
        for number in range(count):
            what = f"fuzz_messages: seed {seed}, input {number}"
            match number % 3:
                case 0:
                    data = mutated(notice.encode(), chance)
                    bad += unhandled(what, lambda d=data: _read_notice(d), Refused)
                case 1:
                    data = _time_message(car, chance)
                    bad += unhandled(what, lambda d=data: car.clock.accept(d), Refused)
                case _:
                    data = _consent(said, chance)
                    bad += unhandled(
                        what, lambda d=data: check_answer(d, request, _KEY.public_key()), Refused
                    )
        return count, bad


def _read_notice(data: bytes) -> None:
    salvage_activity_id(data)
    parse_notice(data, 1 << 18, _COMPONENTS)


def _time_message(car: TimeWorld, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        message = car.server.attest(car.clock.ask())
        sign = [car.server._signer]
    else:
        key = Ed25519PrivateKey.generate().public_key()
        sign = list(car.image.signers["root"])
        message = time_key_statement(key, chance.randint(1, 3), _NOW, sign)
    if chance.random() < 0.5:
        return mutated(json.dumps(message).encode(), chance)
    message["signed"][chance.choice(list(message["signed"]))] = chance.choice(_ODD)
    try:
        payload = canonical(message["signed"])
    except Exception:  # what has no canonical form nobody can sign
        return json.dumps(message).encode()
    message["signatures"] = [
        {"keyid": each.keyid, "sig": each.signature} for each in (s.sign(payload) for s in sign)
    ]
    return json.dumps(message).encode()


def _consent(said: dict, chance: random.Random) -> bytes:
    message = dict(said)
    if chance.random() < 0.5:
        return mutated(json.dumps(message).encode(), chance)
    message[chance.choice(list(message))] = chance.choice(_ODD)
    rest = {name: value for name, value in message.items() if name != "signature"}
    try:
        message["signature"] = _KEY.sign(canonical(rest)).hex()
    except Exception:  # what has no canonical form nobody can sign
        message["signature"] = ""
    return json.dumps(message).encode()
