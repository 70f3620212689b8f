"""Buses on a real hub process: what python-can programs may rely on."""

import errno
import itertools
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import can
import pytest

from hil_rig.wire.bits import Rates, frame_bits
from hil_rig.wire.frame import Frame
from hil_rig.wire.interface import WireBus

WIRE = [sys.executable, "-c", "from hil_rig.cli import main; raise SystemExit(main())", "wire"]
SOON = 10.0
BLOCKER = can.Message(arbitration_id=0, is_extended_id=False, data=bytes(64), is_fd=True)

StartHub = Callable[..., subprocess.Popen[str]]
Join = Callable[..., WireBus]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.sock"


@pytest.fixture
def start_hub(path: Path) -> Iterator[StartHub]:
    hubs = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [*WIRE, "--socket", str(path), *arguments]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        hubs.append(hub)
        assert hub.stdout is not None
        assert hub.stdout.readline() == f"ready {path}\n"
        return hub

    yield start
    for hub in hubs:
        hub.terminate()
        hub.communicate(timeout=SOON)


@pytest.fixture
def join(path: Path) -> Iterator[Join]:
    buses = []

    def open_bus(**options: object) -> WireBus:
        bus = can.Bus(interface="wire", channel=str(path), **options)
        assert isinstance(bus, WireBus)
        buses.append(bus)
        return bus

    yield open_bus
    for bus in buses:
        bus.shutdown()


def message(frame_id: int, data: bytes = b"", **more: object) -> can.Message:
    return can.Message(arbitration_id=frame_id, is_extended_id=False, data=data, **more)


def receive(bus: can.BusABC, count: int) -> list[can.Message]:
    got = [bus.recv(SOON) for _ in range(count)]
    assert None not in got, f"{count} messages expected"
    return got


def ids(messages: list[can.Message]) -> list[int]:
    return [each.arbitration_id for each in messages]


def nanoseconds(msg: can.Message) -> int:
    return round(msg.timestamp * 1e9)


def test_every_other_node_gets_the_message_as_it_was_sent(start_hub: StartHub, join: Join) -> None:
    start_hub("--fd")
    sender, others = join(), [join(), join()]
    sent = [
        message(0x123, b"12345678"),
        can.Message(arbitration_id=0x1ABCDE01, is_extended_id=True, data=b"x"),
        message(0x321, is_remote_frame=True, dlc=5),
        message(0x7A0, bytes(range(64)), is_fd=True, bitrate_switch=True),
        message(0x7A0, bytes(12), is_fd=True, error_state_indicator=True),
    ]
    for msg in sent:
        sender.send(msg)
    for bus in others:
        for got, wanted in zip(receive(bus, len(sent)), sent, strict=True):
            assert got.equals(wanted, timestamp_delta=None, check_channel=False)
            assert got.channel == bus.channel
    assert sender.recv(0) is None


def test_lowest_id_goes_first_under_contention(start_hub: StartHub, join: Join) -> None:
    start_hub("--fd", "--bitrate", "5000")
    blocker, first, second, watcher = join(), join(), join(), join()
    blocker.send(BLOCKER)
    for low, high in ((0x105, 0x700), (0x205, 0x300)):
        first.send(message(high))
        second.send(message(low))
    assert ids(receive(watcher, 5)) == [0, 0x105, 0x205, 0x700, 0x300]


@pytest.mark.parametrize(("nominal", "data"), [(500_000, 2_000_000), (500_000, 5_000_000)])
def test_finish_times_of_a_full_bus_differ_by_exactly_their_bits(
    start_hub: StartHub, join: Join, nominal: int, data: int
) -> None:
    start_hub("--fd", "--bitrate", str(nominal), "--data-bitrate", str(data))
    rates = Rates(nominal, data)
    senders, watcher = [join(), join()], join()
    senders[0].send(BLOCKER)
    for number in range(40):
        size = (8, 64, 20, 0)[number % 4]
        payload = bytes((number * 37 + place) % 256 for place in range(size))
        brs = number % 3 > 0
        senders[number % 2].send(
            message(0x100 + number, payload, is_fd=True, bitrate_switch=brs), timeout=SOON
        )
    for before, after in itertools.pairwise(receive(watcher, 41)):
        frame = Frame(
            after.arbitration_id, bytes(after.data), fd=True, bitrate_switch=after.bitrate_switch
        )
        assert nanoseconds(after) - nanoseconds(before) == rates.duration_ns(frame_bits(frame))


def test_timestamps_are_of_the_clock_of_event_loops(start_hub: StartHub, join: Join) -> None:
    start_hub()
    sender, watcher = join(), join()
    before = time.monotonic()
    sender.send(message(1))
    assert before < receive(watcher, 1)[0].timestamp < time.monotonic()


def test_own_messages_come_back_confirmed_only_if_asked_for(
    start_hub: StartHub, join: Join
) -> None:
    start_hub()
    plain, confirmed = join(), join(receive_own_messages=True)
    plain.send(message(0x100))
    (other,) = receive(confirmed, 1)
    confirmed.send(message(0x200))
    (own,) = receive(confirmed, 1)
    (seen,) = receive(plain, 1)
    assert (other.is_rx, own.is_rx, seen.is_rx) == (True, False, True)
    assert own.timestamp == seen.timestamp
    assert plain.recv(0) is None


def test_filters_hold_in_the_hub_from_the_first_message_on(start_hub: StartHub, join: Join) -> None:
    start_hub()
    sender = join()
    one = {"can_id": 0x7A8, "can_mask": 0x7FF, "extended": False}
    many = [{"can_id": each, "can_mask": 0x7FF} for each in range(0x100, 0x120)]
    narrow, wide, open_ = join(can_filters=[one]), join(can_filters=[one, *many]), join()
    for frame_id in (0x7A8, 0x111, 0x200):
        sender.send(message(frame_id))
    sender.send(can.Message(arbitration_id=0x7A8, is_extended_id=True))
    assert ids(receive(open_, 4)) == [0x7A8, 0x111, 0x200, 0x7A8]
    assert ids(receive(narrow, 1)) == [0x7A8]
    assert ids(receive(wide, 2)) == [0x7A8, 0x111]
    assert narrow.recv(0) is None
    assert wide.recv(0) is None
    narrow.set_filters(None)
    sender.send(message(0x200))
    assert ids(receive(narrow, 1)) == [0x200]


def test_own_messages_pass_the_filters_too_as_on_socketcan(start_hub: StartHub, join: Join) -> None:
    start_hub()
    bus = join(receive_own_messages=True, can_filters=[{"can_id": 0x1, "can_mask": 0x7FF}])
    bus.send(message(2))
    bus.send(message(1))
    assert ids(receive(bus, 1)) == [1]


def test_a_full_queue_is_enobufs_unless_there_is_time_to_wait(
    start_hub: StartHub, join: Join
) -> None:
    start_hub("--fd", "--bitrate", "5000", "--queue", "4")
    sender, watcher = join(), join()
    sender.send(BLOCKER)
    for number in range(3):
        sender.send(message(0x100 + number))
    with pytest.raises(can.CanOperationError) as full:
        sender.send(message(0x200))
    assert full.value.error_code == errno.ENOBUFS
    with pytest.raises(can.CanOperationError) as still_full:
        sender.send(message(0x200), timeout=0.001)
    assert still_full.value.error_code == errno.ENOBUFS
    sender.send(message(0x300), timeout=SOON)
    assert ids(receive(watcher, 5)) == [0, 0x100, 0x101, 0x102, 0x300]


def test_a_program_that_only_sends_is_never_stuck(start_hub: StartHub, join: Join) -> None:
    start_hub("--bitrate", "1000000", "--queue", "2")
    sender, watcher = join(), join()
    for number in range(500):
        sender.send(message(number), timeout=SOON)
    assert ids(receive(watcher, 500)) == list(range(500))


def test_a_flush_drops_what_is_not_yet_on_the_bus(start_hub: StartHub, join: Join) -> None:
    start_hub("--fd", "--bitrate", "5000", "--queue", "8")
    sender, other, watcher = join(receive_own_messages=True), join(), join()
    sender.send(BLOCKER)
    other.send(message(0x050))
    for number in range(7):
        sender.send(message(0x100 + number))
    sender.flush_tx_buffer()
    for number in range(7):
        sender.send(message(0x200 + number))
    expected = [0, 0x050, *range(0x200, 0x207)]
    assert ids(receive(watcher, 9)) == expected
    assert ids(receive(sender, 9)) == expected


def test_a_killed_client_takes_its_queue_along(start_hub: StartHub, join: Join, path: Path) -> None:
    start_hub("--fd", "--bitrate", "5000")
    watcher = join()
    program = (
        "import can, os, signal, sys\n"
        "from can import Message\n"
        "bus = can.Bus(interface='wire', channel=sys.argv[1])\n"
        "bus.send(Message(arbitration_id=0, is_extended_id=False, data=bytes(64), is_fd=True))\n"
        "for n in range(20): bus.send(Message(arbitration_id=n + 1, is_extended_id=False))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    victim = subprocess.run([sys.executable, "-c", program, path], check=False, timeout=SOON)
    assert victim.returncode == -signal.SIGKILL
    heir = join()
    heir.send(message(0x7FF))
    assert ids(receive(watcher, 2)) == [0, 0x7FF]


def test_what_was_queued_before_an_orderly_shutdown_still_goes_out(
    start_hub: StartHub, join: Join
) -> None:
    start_hub()
    watcher, sender = join(), join()
    watcher.send(message(0x7FF))
    for number in range(20):
        sender.send(message(number))
    sender.shutdown()
    assert ids(receive(watcher, 20)) == list(range(20))
    with pytest.raises(can.CanOperationError, match="shut down"):
        sender.send(message(1))
    with pytest.raises(can.CanOperationError, match="shut down"):
        sender.recv(0)


def test_a_client_that_never_reads_does_not_hold_up_the_others(
    start_hub: StartHub, join: Join
) -> None:
    start_hub("--bitrate", "1000000")
    sender, deaf, watcher = join(), join(), join()
    reader = threading.Thread(target=receive, args=(watcher, 12_000))
    reader.start()
    for number in range(12_000):
        sender.send(message(number % 0x7FF), timeout=SOON)
    reader.join(SOON)
    assert not reader.is_alive()
    assert sender.statistics().dropped > 0
    assert deaf.recv(0) is not None


def test_the_descriptor_tells_when_there_is_something_to_receive(
    start_hub: StartHub, join: Join
) -> None:
    start_hub("--queue", "1")
    bus, other = join(), join()
    other.send(message(0x123))
    assert select.select([bus.fileno()], [], [], SOON)[0]
    bus.send(message(1), timeout=SOON)
    bus.send(message(2), timeout=SOON)
    bus.flush_tx_buffer()
    assert select.select([bus.fileno()], [], [], 0)[0], "sending reads nothing that recv would"
    assert ids(receive(bus, 1)) == [0x123]
    assert bus.recv(0) is None


def test_when_the_hub_goes_receiving_and_sending_say_so(start_hub: StartHub, join: Join) -> None:
    hub = start_hub()
    bus = join()
    hub.terminate()
    assert hub.wait(SOON) == 0
    for attempt in (lambda: bus.recv(SOON), lambda: bus.send(message(1)), bus.flush_tx_buffer):
        with pytest.raises(can.CanOperationError, match="lost its hub") as lost:
            attempt()
        assert lost.value.error_code == errno.ENETDOWN


def test_no_hub_at_the_path_is_one_clear_line(join: Join, path: Path) -> None:
    with pytest.raises(can.CanInitializationError, match=f"hil-rig wire --socket {path}"):
        join()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fd": True}, "is classic; start it with --fd"),
        ({"bitrate": 250_000}, "bitrate 500000, not 250000"),
        ({"data_bitrate": 5_000_000}, "data_bitrate 2000000, not 5000000"),
    ],
)
def test_a_wire_that_is_not_as_asked_is_refused(
    start_hub: StartHub, join: Join, options: dict[str, object], says: str
) -> None:
    start_hub()
    with pytest.raises(can.CanInitializationError, match=says):
        join(**options)


@pytest.mark.parametrize(
    ("msg", "says"),
    [
        (message(1, bytes(12), is_fd=True), "classic wire has no CAN FD"),
        (can.Message(is_error_frame=True), "error frame"),
        (message(0x123456), "11 bits"),
    ],
)
def test_a_message_that_cannot_go_over_this_wire_is_refused_and_takes_no_room(
    start_hub: StartHub, join: Join, msg: can.Message, says: str
) -> None:
    start_hub("--queue", "1")
    bus = join(receive_own_messages=True)
    with pytest.raises(can.CanOperationError, match=says) as refused:
        bus.send(msg)
    assert refused.value.error_code == errno.EINVAL
    bus.send(message(1))
    assert ids(receive(bus, 1)) == [1]


def test_a_bus_opened_as_classic_neither_sends_nor_gets_fd_frames(
    start_hub: StartHub, join: Join
) -> None:
    start_hub("--fd")
    modern, classic = join(), join(fd=False)
    modern.send(message(1, bytes(12), is_fd=True))
    modern.send(message(2))
    assert ids(receive(classic, 1)) == [2]
    with pytest.raises(can.CanOperationError, match="fd=False"):
        classic.send(message(1, is_fd=True))


@pytest.mark.parametrize("junk", [b"", b"hello", bytes(80), b"\x03" * 80, b"\xff" * 200])
def test_junk_from_a_stranger_leaves_the_wire_alive(
    start_hub: StartHub, join: Join, path: Path, junk: bytes
) -> None:
    start_hub()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(path))
        stranger.send(junk)
        bus = join(receive_own_messages=True)
        bus.send(message(1))
        assert ids(receive(bus, 1)) == [1]


def test_statistics_count_frames_and_load(start_hub: StartHub, join: Join) -> None:
    start_hub("--queue", "16")
    bus = join(receive_own_messages=True)
    for number in range(16):
        bus.send(message(number, b"12345678"))
    receive(bus, 16)
    statistics = bus.statistics()
    assert statistics.frames == 16
    assert statistics.dropped == 0
    assert statistics.load > 0
    assert 0 < statistics.lateness_p50_ns <= statistics.lateness_p99_ns
