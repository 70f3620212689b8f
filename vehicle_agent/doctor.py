"""`vehicle-agent doctor`: looks at the configuration and every outside part, and says what to do.

It changes nothing. What the running agent knows better (time, broker session) it is asked for;
the controller is asked for its identification only in a car that is provably parked.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vehicle_agent.config import Config, load_config
from vehicle_agent.console.client import ask_status
from vehicle_agent.console.status import Status
from vehicle_agent.download import Downloader
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.flashing.security import load_provider
from vehicle_agent.identity import EcuIdentity
from vehicle_agent.notices.messages import Topic, time_request
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.parking.gate import Verdict
from vehicle_agent.parking.inhibit import DriveInhibit
from vehicle_agent.parking.monitor import ParkMonitor
from vehicle_agent.parking.park_config import resolve
from vehicle_agent.refusals import Refused
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.keys import load_public_key
from vehicle_agent.trust.signer import open_signer
from vehicle_agent.trust.time_key import TimeKeys
from vehicle_agent.trust.trusted_time import Outcome, TrustedClock
from vehicle_agent.update import CHANGING

LISTEN_S = 2.0
"""How long the doctor listens, beyond the longest hold time of a park condition."""
_ANSWER_S = 5.0


class Result(StrEnum):
    """How a check ended; only `BAD` makes the doctor exit 1."""

    GOOD = "good"
    OPEN = "open"
    BAD = "bad"


class Finding(NamedTuple):
    """One line of the doctor: what was looked at, what was found, what to do about it."""

    part: str
    result: Result
    found: str
    to_do: str = ""


def main(path: Path, *, as_json: bool) -> int:
    """Check everything and print it; 0 if nothing is bad, 1 otherwise."""
    findings = asyncio.run(examine(path))
    if as_json:
        rows = [finding._asdict() for finding in findings]
        sys.stdout.write(json.dumps({"findings": rows}, ensure_ascii=False, indent=2) + "\n")
    else:
        _print(findings)
    return int(any(finding.result is Result.BAD for finding in findings))


async def examine(path: Path) -> list[Finding]:
    """Look at everything that the configuration at `path` names, in the order of dependence."""
    try:
        config = load_config(path)
    except Refused as refused:
        return [_bad("configuration", refused)]
    findings = [Finding("configuration", Result.GOOD, str(path))]
    findings += _files(config)
    running = _running(config)
    findings.append(_agent(running, config))
    verdict, seen = await _park(config)
    findings += seen
    findings += await _backend(config, running)
    for ecu in config.vehicle.ecus:
        findings.append(await _controller(config, ecu, verdict, running))
    return findings


def _bad(part: str, refused: Refused) -> Finding:
    refusal = refused.refusal
    return Finding(part, Result.BAD, f"{refusal.code}: {refusal.detail}", refusal.rule.lifted_by)


def _files(config: Config) -> Iterator[Finding]:
    """Every file that the configuration names can be read and is what it should be."""
    trust, key = config.trust, config.agent.security_key
    checks: list[tuple[str, str, Callable[[], object]]] = [
        ("vehicle key", trust.vehicle_key, lambda: open_signer(trust.vehicle_key, config.base)),
        ("time key", trust.time_key, lambda: load_public_key(config.path(trust.time_key))),
        (
            "HMI key",
            config.consent.hmi_key,
            lambda: load_public_key(config.path(config.consent.hmi_key)),
        ),
        (
            "image server CA",
            config.download.ca,
            lambda: Downloader(config.download, ca=config.path(config.download.ca)),
        ),
        (
            "director root",
            trust.director_root,
            lambda: trust.store(config.base).trusted("director"),
        ),
        ("image root", trust.image_root, lambda: trust.store(config.base).trusted("image")),
        ("trust floors", trust.directory, lambda: _floors(config)),
    ]
    checks += [
        ("profile", ecu.profile, partial(load_profile, config.path(ecu.profile)))
        for ecu in config.vehicle.ecus
    ]
    if key is not None:
        checks.append(("security key", key, lambda: load_provider("aes-cmac", config.path(key))))
    for name, where, check in checks:
        try:
            check()
        except Refused as refused:
            yield _bad(name, refused)
        else:
            yield Finding(name, Result.GOOD, where)
    yield _space(config)


def _floors(config: Config) -> FileMonotonicStore:
    return FileMonotonicStore(config.trust.floors_path(config.base))


def _space(config: Config) -> Finding:
    folder = config.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(
            "state folder",
            Result.BAD,
            f"{folder}: {error.strerror}",
            "make [agent] state_dir a folder that the agent may write",
        )
    if free < config.download.disk_reserve:
        return Finding(
            "state folder",
            Result.BAD,
            f"{free >> 20} MiB free",
            f"free at least {config.download.disk_reserve >> 20} MiB and room for an image",
        )
    return Finding("state folder", Result.GOOD, f"{free >> 20} MiB free")


def _running(config: Config) -> Status | None:
    try:
        return ask_status(config.console_socket)
    except (Refused, msgspec.DecodeError):
        return None


def _agent(running: Status | None, config: Config) -> Finding:
    if running is None:
        return Finding("agent", Result.OPEN, f"not running ({config.console_socket})")
    return Finding("agent", Result.GOOD, f"running, state {running.state}")


async def _park(config: Config) -> tuple[Verdict | None, list[Finding]]:
    """Listen to the buses for a while: does every condition get a valid value?"""
    findings = []
    try:
        inhibit = DriveInhibit.open(config.inhibit, config.bus, base=config.base)
        inhibit.close()
        findings.append(Finding("drive inhibit", Result.GOOD, f"bus {config.inhibit.bus}"))
    except Refused as refused:
        findings.append(_bad("drive inhibit", refused))
    try:
        park = ParkMonitor.open(config.park, config.bus, base=config.base)
    except Refused as refused:
        return None, [*findings, _bad("park signals", refused)]
    try:
        async with asyncio.timeout(LISTEN_S + _longest_hold_s(config)):
            await park.parked()
    except TimeoutError:
        pass
    verdict = park.verdict()
    park.close()
    if not verdict.complete:
        lacking = f"the conditions lack {'; '.join(verdict.missing)}"
        findings.append(
            Finding("park conditions", Result.BAD, lacking, "add them to [park]; see the docs")
        )
    unknown = [c for c in verdict.conditions if c.required and c.value == "unknown"]
    findings += [
        Finding(
            f"signal {condition.name}",
            Result.BAD,
            condition.reason,
            "check bus, bit rate, DBC and that the sender is awake",
        )
        for condition in unknown
    ]
    known = len(verdict.conditions) - len(unknown)
    result = Result.OPEN if unknown else Result.GOOD
    findings.append(
        Finding("park signals", result, f"{known} of {len(verdict.conditions)} have valid values")
    )
    return verdict, findings


def _longest_hold_s(config: Config) -> float:
    return max(c.hold_s for c in resolve(config.park, config.base).conditions)


async def _backend(config: Config, running: Status | None) -> list[Finding]:
    """Is the broker there, and does the time server answer through it?"""
    broker = f"{config.mqtt.host}:{config.mqtt.port}"
    if running is not None and running.broker_connected:
        time = running.trusted_time
        return [
            Finding("broker", Result.GOOD, f"{broker}, the agent is connected"),
            Finding("clock", Result.GOOD, f"attested: {time}")
            if time
            else Finding("clock", Result.BAD, "no attestation yet", "check the time server"),
        ]
    settings = msgspec.structs.replace(
        config.mqtt, client_id=f"doctor-{secrets.token_hex(4)}", session_expiry_s=0
    )
    mailbox = Mailbox(
        settings, vin=config.vehicle.vin, topics=[Topic.TIME], jitter=random.Random().random
    )
    await mailbox.start()
    try:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await mailbox.connected.wait()
        except TimeoutError:
            return [
                Finding(
                    "broker", Result.BAD, f"{broker}: no connection", "check [mqtt] and network"
                )
            ]
        found = Finding("broker", Result.GOOD, f"{broker}, MQTT {mailbox.protocol}")
        return [found, await _clock(config, mailbox)]
    finally:
        await mailbox.stop()


async def _clock(config: Config, mailbox: Mailbox) -> Finding:
    try:
        floors = _floors(config)
        clock = TrustedClock(
            TimeKeys.open(config.trust, config.base, floors),
            floors,
            loop_time=asyncio.get_running_loop().time,
            nonce_bytes=secrets.token_bytes,
            max_age_s=config.trust.attestation_max_age_s,
        )
        await mailbox.publish(Topic.TIME_GET, time_request(clock.ask()))
        async with asyncio.timeout(_ANSWER_S):
            async for delivery in mailbox.deliveries:
                delivery.acknowledge()
                if clock.accept(delivery.payload) is not Outcome.ATTESTED:
                    continue
                time = clock.require_now()
                return Finding("clock", Result.GOOD, f"attested: {time:%Y-%m-%d %H:%M:%S} UTC")
    except (TimeoutError, ConnectionError):
        pass
    except Refused as refused:
        return _bad("clock", refused)
    return Finding("clock", Result.BAD, "no answer from the time server", "check the time server")


async def _controller(
    config: Config, ecu: EcuIdentity, verdict: Verdict | None, running: Status | None
) -> Finding:
    part = f"controller {ecu.component}"
    if running is not None and running.state in CHANGING:
        return Finding(part, Result.OPEN, f"not asked: the agent is {running.state}")
    if verdict is None or not verdict.is_parked:
        why = verdict.reasons() if verdict is not None else "park conditions cannot be read"
        return Finding(part, Result.OPEN, f"not asked: {why}", "park the car, then ask again")
    key = config.agent.security_key
    try:
        programmer = Programmer.open(
            config.bus[ecu.bus],
            load_profile(config.path(ecu.profile)),
            None if key is None else config.path(key),
        )
        try:
            found = await programmer.identify()
        finally:
            await programmer.close()
    except Refused as refused:
        return _bad(part, refused)
    answered = (found.vin, found.ecu_serial, found.hardware_id)
    if answered != (config.vehicle.vin, ecu.serial, ecu.hardware_id):
        return Finding(
            part,
            Result.BAD,
            f"answers VIN, serial, hardware {answered}",
            "correct [vehicle]: it must name this car and this controller",
        )
    return Finding(part, Result.GOOD, f"software {found.software_version}, RXSWIN {found.rxswin}")


def _print(findings: list[Finding]) -> None:
    table = Table("part", "", "found", "what to do")
    style = {Result.GOOD: "green", Result.OPEN: "yellow", Result.BAD: "bold red"}
    for finding in findings:
        mark = Text(finding.result, style[finding.result])
        # Text, not markup: findings name tables of the configuration in square brackets.
        table.add_row(Text(finding.part), mark, Text(finding.found), Text(finding.to_do))
    Console().print(table)
