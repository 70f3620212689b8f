"""vcan0 behaves as the rig needs it: CAN FD, echo of own frames, visible to other programs."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

CHANNEL = "vcan0"
FRAME = can.Message(
    arbitration_id=0x7A0,
    is_extended_id=False,
    is_fd=True,
    bitrate_switch=True,
    data=bytes(range(64)),
)

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(
        not Path("/sys/class/net", CHANNEL).exists(), reason=f"this machine has no {CHANNEL}"
    ),
]


def opened(**options: bool) -> can.BusABC:
    return can.Bus(interface="socketcan", channel=CHANNEL, fd=True, **options)


@pytest.fixture
def sender() -> Iterator[can.BusABC]:
    with opened(receive_own_messages=True) as bus:
        yield bus


@pytest.fixture
def receiver() -> Iterator[can.BusABC]:
    with opened() as bus:
        yield bus


def same(message: can.Message | None) -> bool:
    return message is not None and message.equals(
        FRAME, timestamp_delta=None, check_channel=False, check_direction=False
    )


def test_a_long_fd_frame_arrives_and_is_confirmed_to_its_sender(
    sender: can.BusABC, receiver: can.BusABC
) -> None:
    sender.send(FRAME)
    assert same(receiver.recv(10.0))
    assert same(sender.recv(10.0))


def test_the_direction_flag_does_not_tell_own_frames_from_those_of_local_programs(
    sender: can.BusABC, receiver: can.BusABC
) -> None:
    sender.send(FRAME)
    arrived, confirmed = receiver.recv(10.0), sender.recv(10.0)
    assert arrived is not None
    assert confirmed is not None
    assert (arrived.is_rx, confirmed.is_rx) == (False, False)


def test_the_device_itself_echoes(sender: can.BusABC) -> None:
    flags = int(Path("/sys/class/net", CHANNEL, "flags").read_text(), 16)
    assert flags & 0x40000, "vcan was loaded without echo=1: a shaped queue confirms too early"


def test_candump_sees_the_frame(sender: can.BusABC) -> None:
    if shutil.which("candump") is None:
        pytest.skip("candump (can-utils) is not installed")
    command = ["candump", "-L", "-n", "1", f"{CHANNEL},7A0:7FF"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as candump:
        printed: list[str] = []
        watcher = threading.Thread(target=lambda: printed.extend(candump.stdout or ()))
        watcher.start()
        # candump does not say when it listens, so the frame is sent until it has ended.
        while candump.poll() is None:
            sender.send(FRAME)
            sender.recv(1.0)
        watcher.join()
    assert printed
    channel, frame = printed[0].split()[1:3]
    identifier, flags, data = frame[:3], int(frame[5], 16), frame[6:]
    assert (channel, identifier, data) == (CHANNEL, "7A0", FRAME.data.hex().upper())
    assert flags & 1, "the bit rate switch was lost"
