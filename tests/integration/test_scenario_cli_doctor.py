"""`vehicle-agent doctor` and `status` at a running bench, and with each outside part missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import family, message_refused, publish, update_in

pytestmark = pytest.mark.scenario

bench = family(driving=False, consent="silence")


def run(rig: Rig, *arguments: str, config: str = "agent.toml") -> subprocess.CompletedProcess[str]:
    """Run the installed program as a person would, in the bench's folder."""
    return subprocess.run(
        [sys.executable, "-m", "vehicle_agent", *arguments, "--config", config],
        cwd=rig.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def examine(rig: Rig, config: str = "agent.toml") -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by part; no traceback, and words for what to do where it is bad."""
    done = run(rig, "doctor", "--json", config=config)
    assert "Traceback" not in done.stderr, done.stderr
    findings = {f["part"]: f for f in json.loads(done.stdout)["findings"]}
    for finding in findings.values():
        assert finding["result"] != "bad" or finding["to_do"]
        assert "\n" not in finding["found"]
    bad = [part for part, finding in findings.items() if finding["result"] == "bad"]
    assert done.returncode == int(bool(bad))
    return done.returncode, findings


def with_change(rig: Rig, old: str, new: str) -> str:
    """Write a second configuration, with `old` exchanged for `new`, and return its name."""
    text = (rig.folder / "agent.toml").read_text()
    assert old in text
    (rig.folder / "changed.toml").write_text(text.replace(old, new, 1))
    return "changed.toml"


@contextmanager
def exchanged(path: Path, content: bytes, mode: int = 0o600) -> Iterator[None]:
    before, mode_before = path.read_bytes(), path.stat().st_mode & 0o777
    path.write_bytes(content)
    path.chmod(mode)
    try:
        yield
    finally:
        path.write_bytes(before)
        path.chmod(mode_before)


def test_the_doctor_finds_a_running_bench_well(rig: Rig) -> None:
    rig.wait(lambda s: s.trusted_time is not None and s.parked == "true", "time and parked")
    code, findings = examine(rig)
    assert code == 0, findings
    assert {f["result"] for f in findings.values()} == {"good"}
    assert "2.3.1" in findings["controller adas-controller"]["found"]
    table = run(rig, "doctor")
    assert table.returncode == 0
    assert "park signals" in table.stdout


def test_status_is_one_object_for_programs_and_lines_for_people(rig: Rig) -> None:
    publish(rig, "desiredstate", b"hello")
    message_refused(rig, "NoticeNotJson")
    told = json.loads(run(rig, "status", "--json").stdout)
    assert (told["vin"], told["state"]) == (rig.bench.vin, "idle")
    assert told["message_refused"]["code"] == "NoticeNotJson"
    rig.tell("backend", "assign", campaign={"filing": ""})
    activity = rig.notify()
    update_in(rig, activity, "rejected")
    rig.tell("backend", "assign")
    told = json.loads(run(rig, "status", "--json").stdout)
    assert (told["activity_id"], told["state"]) == (activity, "rejected")
    assert told["refusal"]["code"] == "FilingMissing"
    assert told["refusal"]["lifted_by"]
    shown = run(rig, "status").stdout
    assert re.search("^refused .*FilingMissing", shown, re.MULTILINE), shown
    assert re.search("^message refused .*NoticeNotJson", shown, re.MULTILINE), shown
    assert run(rig, "park").stdout.startswith("parked: true\n")


def test_a_can_interface_that_is_absent_is_named(rig: Rig) -> None:
    text = (rig.folder / "agent.toml").read_text()
    channel = next(line for line in text.splitlines() if line.startswith("channel"))
    config = with_change(rig, channel, 'channel = "nocan7"')
    code, findings = examine(rig, config)
    assert code == 1
    bad = findings["park signals"]
    assert bad["result"] == "bad"
    assert "BusUnavailable" in bad["found"]
    assert "nocan7" in bad["found"]
    assert findings["controller adas-controller"]["result"] == "open"


def test_a_broker_that_is_absent_is_named(rig: Rig) -> None:
    assert rig.broker is not None
    config = with_change(rig, f"port = {rig.broker.port}", "port = 1")
    changed = rig.folder / config
    changed.write_text(changed.read_text().replace('socket = "', 'socket = "/no'))
    code, findings = examine(rig, config)
    assert code == 1
    assert findings["broker"]["result"] == "bad"
    assert ":1: no connection" in findings["broker"]["found"]
    assert findings["agent"]["result"] == "open"


KEYS = {
    "vehicle.key": "vehicle key",
    "time.pub": "time key",
    "hmi.pub": "HMI key",
    "ca.pem": "image server CA",
    "director-root.json": "director root",
    "image-root.json": "image root",
}


def test_every_key_file_that_is_none_is_named(rig: Rig) -> None:
    folder = rig.folder / "backend" / "cars" / rig.bench.vin
    config = with_change(rig, '[trust]\ndirectory = "state/trust"', '[trust]\ndirectory = "new"')
    with ExitStack() as spoilt:
        for name in KEYS:
            none = b"-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n"
            spoilt.enter_context(exchanged(folder / name, none))
        code, findings = examine(rig, config)
    assert code == 1
    named = {part for part in KEYS.values() if findings[part]["result"] == "bad"}
    assert named == set(KEYS.values())
    assert {p for p, f in findings.items() if f["result"] == "bad"} <= named | {"clock"}


def test_a_private_key_that_others_can_read_is_named(rig: Rig) -> None:
    vehicle = rig.folder / "backend" / "cars" / rig.bench.vin / "vehicle.key"
    security = rig.folder / "adas.key"
    with ExitStack() as opened:
        for path in (vehicle, security):
            opened.enter_context(exchanged(path, path.read_bytes(), mode=0o644))
        code, findings = examine(rig)
    assert code == 1
    for part, path in (("vehicle key", vehicle), ("security key", security)):
        finding = findings[part]
        assert finding["result"] == "bad"
        assert "0600" in finding["found"] + finding["to_do"]
        assert not set(path.read_text().splitlines()) & set(finding["found"].split())


def test_a_misspelt_signal_is_named(rig: Rig) -> None:
    config = with_change(rig, 'message = "DU_InhibitStatus"', 'message = "DU_InhibitStats"')
    code, findings = examine(rig, config)
    assert code == 1
    assert "DU_InhibitStats" in findings["drive inhibit"]["found"]


def test_a_silent_controller_is_named(rig: Rig) -> None:
    rig.tell("controller", "fault", kind="silent")
    try:
        code, findings = examine(rig)
    finally:
        rig.tell("controller", "clear")
    assert code == 1
    assert "ControllerSilent" in findings["controller adas-controller"]["found"]


def test_a_controller_of_another_car_is_named(rig: Rig) -> None:
    config = with_change(rig, 'serial = "ADAS-24051700149"', 'serial = "ADAS-00000000000"')
    code, findings = examine(rig, config)
    assert code == 1
    assert "ADAS-24051700149" in findings["controller adas-controller"]["found"]


def test_a_sleeping_car_is_named_signal_by_signal(rig: Rig) -> None:
    rig.car.stop()
    try:
        code, findings = examine(rig)
    finally:
        rig.car.start()
    assert code == 1
    assert findings["park signals"]["result"] == "open"
    assert any(part.startswith("signal ") for part in findings)


def test_a_parked_car_is_well_before_the_agent_runs(rig: Rig) -> None:
    rig.agent.stop()
    code, findings = examine(rig)
    rig.agent.start()
    rig.wait(lambda s: s.broker_connected, "a broker connection")
    assert code == 0, findings
    assert findings["agent"]["result"] == "open"
    assert findings["clock"]["result"] == "good"
    assert findings["controller adas-controller"]["result"] == "good"
    update_in(rig, rig.notify(), "ready")


def test_status_of_an_agent_that_does_not_run_says_so(rig: Rig) -> None:
    rig.agent.stop()
    done = run(rig, "status", "--json")
    rig.agent.start()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vehicle-agent: AgentUnreachable: ")
    assert done.stderr.count("\n") == 1
