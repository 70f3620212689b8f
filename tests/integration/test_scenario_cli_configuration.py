"""A configuration that cannot be used: one line with file, key, value and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hil_rig.bench_files import Bench, write_agent

COMMANDS = ("run", "doctor", "status")

CHANGES = {
    "unknown-key": ("[mqtt]\n", "[mqtt]\nprot = 1883\n", ("mqtt", "prot")),
    "unknown-table": ("[mqtt]\n", "[mqt]\nport = 1\n[mqtt]\n", ("mqt",)),
    "wrong-type": ("port = 1883", 'port = "1883"', ("mqtt.port", "int", "str")),
    "wrong-date": ("production_date = 2024-05-17", "production_date = 17", ("vehicle", "date")),
    "wrong-choice": ("version = 5", "version = 6", ("mqtt.version", "6")),
    "missing-key": ('hmi_key = "', 'hmi_ky = "', ("consent", "hmi_ky")),
    "missing-table": ("[inhibit]\n", "[inhibi]\n", ("inhibi",)),
    "unknown-bus": (
        'profile = "adas.toml"\nbus = "adas"',
        'profile = "adas.toml"\nbus = "adsa"',
        ("vehicle.ecus[adas-controller].bus", "'adsa'", "'vehicle', 'adas'"),
    ),
    "unknown-park-bus": (
        'condition_set = "project"\nbus = "vehicle"',
        'condition_set = "project"\nbus = "body"',
        ("park.bus", "'body'"),
    ),
}


def run(command: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vehicle_agent", command, "--config", str(path)],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def refused(command: str, path: Path, *words: str) -> None:
    done = run(command, path)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    flat = " ".join(said.replace("│", " ").split())
    if command != "doctor":
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("vehicle-agent: ConfigInvalid: ")
        for word in words:
            assert word in flat
    else:
        assert "bad" in flat


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_absent_is_named(tmp_path: Path, command: str) -> None:
    refused(command, tmp_path / "agent.toml", "agent.toml", "No such file")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", [b"port: 1883\n", b"\xff\xfe", b"[mqtt\n", b""])
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, command: str, content: bytes
) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    refused(command, path, "agent.toml")


@pytest.mark.parametrize("case", CHANGES)
def test_an_error_names_file_key_value_and_what_is_allowed(tmp_path: Path, case: str) -> None:
    path = write_agent(Bench(), tmp_path, mqtt_port=1883, mqtt_version=5)
    old, new, words = CHANGES[case]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for command in COMMANDS:
        refused(command, path, "agent.toml", *words)
