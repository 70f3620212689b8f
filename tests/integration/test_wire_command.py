"""`hil-rig wire` as a process, and python-can's own programs on it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import can
import pytest

from hil_rig.wire.command import main

WIRE = [sys.executable, "-c", "from hil_rig.cli import main; raise SystemExit(main())", "wire"]
SOON = 10.0


def start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*WIRE, "--socket", str(path), *arguments]
    hub = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    assert hub.stdout.readline() == f"ready {path}\n"
    return hub


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "hub.sock"
    hub = start(path, "--stats")
    with can.Bus(interface="wire", channel=str(path), receive_own_messages=True) as bus:
        bus.send(can.Message(arbitration_id=1, is_extended_id=False))
        assert bus.recv(SOON) is not None
        hub.send_signal(number)
        out, err = hub.communicate(timeout=SOON)
    assert hub.returncode == 0
    assert not path.exists()
    assert json.loads(out)["frames"] == 1
    assert err == ""


def test_a_live_hub_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    hub = start(path)
    try:
        second = subprocess.run(
            [*WIRE, "--socket", str(path)],
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert "serves it already" in second.stderr
        can.Bus(interface="wire", channel=str(path)).shutdown()
    finally:
        hub.terminate()
        hub.communicate(timeout=SOON)


def test_the_socket_of_a_dead_hub_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    hub = start(path)
    hub.kill()
    hub.communicate(timeout=SOON)
    assert path.exists()
    hub = start(path)
    hub.terminate()
    hub.communicate(timeout=SOON)
    assert hub.returncode == 0


def test_a_file_at_the_path_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    assert main(["--socket", str(path)]) == 1
    assert "no socket" in capsys.readouterr().err
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--socket"),
        (["--socket", "x", "--bitrate", "fast"], "--bitrate"),
        (["--socket", "x", "--bitrate", "0"], "--bitrate 0: allowed are 5000 to 1000000"),
        (["--socket", "x", "--fd", "--data-bitrate", "100000"], "allowed are 500000 to 8000000"),
        (["--socket", "x", "--queue", "0"], "--queue 0"),
        (["--socket", "x", "--fd", "--classic"], "not allowed with"),
        (["--socket", "x", "--speed"], "--speed"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("where", ["missing/hub.sock", "x" * 120])
def test_a_path_that_cannot_be_served_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert main(["--socket", str(tmp_path / where)]) == 1
    err = capsys.readouterr().err
    assert "choose another --socket" in err
    assert err.count("\n") == 1


def test_the_programs_of_python_can_log_and_play(tmp_path: Path) -> None:
    path, log, copy = tmp_path / "hub.sock", tmp_path / "first.log", tmp_path / "second.log"
    hub = start(path, "--fd")
    try:
        sent = [
            can.Message(arbitration_id=each, is_extended_id=False, data=bytes([each]))
            for each in range(30)
        ]
        with can.Logger(log) as writer:
            for msg in sent:
                writer(msg)
        logger = subprocess.Popen(
            [
                sys.executable,
                "-u",
                "-m",
                "can.logger",
                "-i",
                "wire",
                "-c",
                str(path),
                "-f",
                str(copy),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert logger.stdout is not None
        assert "Connected" in logger.stdout.readline()
        play = [sys.executable, "-m", "can.player", "-i", "wire", "-c", str(path), str(log)]
        with can.Bus(interface="wire", channel=str(path)) as watcher:
            subprocess.run(play, check=True, timeout=SOON, stdout=subprocess.DEVNULL)
            for msg in sent:
                got = watcher.recv(SOON)
                assert got is not None
                assert got.arbitration_id == msg.arbitration_id
        logger.send_signal(signal.SIGINT)
        logger.communicate(timeout=SOON)
    finally:
        hub.terminate()
        hub.communicate(timeout=SOON)
    with can.LogReader(copy) as reader:
        logged = list(reader)
    assert [(each.arbitration_id, each.data) for each in logged] == [
        (each.arbitration_id, each.data) for each in sent
    ]


def test_a_client_may_only_be_a_socket_with_a_second_one(tmp_path: Path) -> None:
    """A descriptor that is no socket is closed and its owner turned away."""
    path = tmp_path / "hub.sock"
    hub = start(path)
    from hil_rig.wire.records import VERSION, Kind, plain

    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(path))
        stranger.settimeout(SOON)
        socket.send_fds(stranger, [plain(Kind.JOIN, number=VERSION)], [reader])
        assert stranger.recv(80) == b""
    os.close(reader)
    os.close(writer)
    hub.terminate()
    hub.communicate(timeout=SOON)
    assert hub.returncode == 0
