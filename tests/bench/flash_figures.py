"""The agent's programmer against the rig's controller, to what the wire allows.

The limit of a transfer is the sum of its own frames (requests, flow control, responses) back to
back on the same medium in virtual time. The frames are recorded in a run of their own; hub and
controller are processes. Where the wire itself was late the figure is absent.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import can

from hil_rig.firmware import make_image, memory_check_expected
from hil_rig.wire.bits import Rates
from hil_rig.wire.frame import Frame
from hil_rig.wire.medium import Medium
from tests.bench.figures import Figures
from vehicle_agent.bus import BusConfig
from vehicle_agent.flashing.images import load_image
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.release import MemoryCheck

RUNS = 5
_LATEST_S = 0.001
_PROFILE = Path("vehicle_agent") / "flashing" / "adas.toml"
_RIG = "from hil_rig.cli import main; raise SystemExit(main())"


class Setting(NamedTuple):
    """A bus and an image that takes some seconds on it; `limit` is what the ratio must reach."""

    name: str
    rates: Rates
    fd: bool
    size: int
    limit: str


SETTINGS = (
    Setting("flash.classic_500k", Rates(500_000, 2_000_000), False, 64 << 10, ""),
    Setting("flash.fd_500k_2m", Rates(500_000, 2_000_000), True, 384 << 10, ""),
    Setting("flash.fd_500k_5m", Rates(500_000, 5_000_000), True, 768 << 10, ""),
)


class Transfer(NamedTuple):
    """When the data phase began and ended, on the clock of the wire."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def measure(figures: Figures) -> None:
    """One ratio a bus; no peer yet."""
    for setting in SETTINGS:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            _measure(figures, setting, Path(folder))


def _measure(figures: Figures, setting: Setting, folder: Path) -> None:
    _write_files(setting, folder)
    name = f"{setting.name}.ratio"
    options = ["--bitrate", str(setting.rates.nominal), "--data-bitrate", str(setting.rates.data)]
    options += ["--fd"] if setting.fd else []
    socket = folder / "hub.sock"
    with _part("wire", "--socket", str(socket), "--stats", *options) as hub:
        with _part("controller", "--config", str(folder / "controller.toml")):
            ideal = asyncio.run(_ideal(setting, folder))
            runs = [asyncio.run(_program(setting, folder)).seconds for _ in range(RUNS)]
        hub.send_signal(signal.SIGTERM)
        late_s = json.loads(hub.stdout.readline())["lateness_p99_ns"] / 1e9
        hub.wait()
    shown = " ".join(f"{run:.3f}" for run in runs)
    if late_s > _LATEST_S:
        why = f"the wire was {late_s * 1000:.1f} ms late at p99 ({shown} s, limit {ideal:.3f} s)"
        figures.absent(name, why)
        return
    rate = setting.size / statistics.median(runs)
    detail = (
        f"{setting.size >> 10} KiB: {shown} s, limit {ideal:.3f} s, {rate:,.0f} bytes/s, "
        f"wire p99 {late_s * 1e6:.0f} us late"
    )
    figures.add(name, [ideal / run for run in runs], limit=setting.limit, detail=detail)


async def _ideal(setting: Setting, folder: Path) -> float:
    """Seconds that the frames of one transfer take back to back, nobody waiting for anybody."""
    loop = asyncio.get_running_loop()
    spy = can.Bus(interface="wire", channel=str(folder / "hub.sock"))
    frames: list[can.Message] = []

    def look() -> None:
        while (message := spy.recv(0)) is not None:
            frames.append(message)

    loop.add_reader(spy.fileno(), look)
    try:
        transfer = await _program(setting, folder)
        look()
    finally:
        loop.remove_reader(spy.fileno())
        spy.shutdown()
    medium = Medium(setting.rates, len(frames))
    node = medium.join()
    for each in frames:
        if transfer.begin < each.timestamp <= transfer.end:
            frame = Frame(
                each.arbitration_id,
                bytes(each.data),
                extended=each.is_extended_id,
                fd=each.is_fd,
                bitrate_switch=each.bitrate_switch,
            )
            medium.enqueue(node, frame, 0)
    return medium.advance(1 << 62)[-1].finish_ns / 1e9


async def _program(setting: Setting, folder: Path) -> Transfer:
    """One whole programming; the data phase is what counts."""
    loop = asyncio.get_running_loop()
    profile = load_profile(folder / "profile.toml")
    bus = BusConfig(interface="wire", channel=str(folder / "hub.sock"), fd=setting.fd)
    image_file = folder / "image.bin"
    times: dict[str, float] = {}
    programmer = Programmer.open(bus, profile, folder / "adas.key")
    try:
        await programmer.program(
            load_image(image_file, profile),
            fingerprint=bytes.fromhex("260301") + b"BENCH001",
            memory_check=MemoryCheck(
                routine=0x0202, expected=memory_check_expected(image_file.read_bytes())
            ),
            on_progress=lambda progress: times.setdefault(progress.phase, loop.time()) and None,
            start_gate=lambda: None,
        )
        await programmer.leave()
    finally:
        await programmer.close()
    return Transfer(times["programming"], times["checking"])


def _write_files(setting: Setting, folder: Path) -> None:
    (folder / "adas.key").touch(0o600)
    (folder / "adas.key").write_text(bytes(16).hex())
    text = _PROFILE.read_text()
    if setting.fd:
        text = text.replace("tx_data_length = 8", "tx_data_length = 64\nbitrate_switch = true")
    (folder / "profile.toml").write_text(text)
    (folder / "image.bin").write_bytes(make_image("2.4.0", "RX2", "hw-3", setting.size, 7))
    (folder / "controller.toml").write_text(
        f"""
        control_socket = "adas.sock"
        bus = {{ interface = "wire", channel = "{folder}/hub.sock", fd = {json.dumps(setting.fd)} }}
        identity = {{ vin = "LXMA7000000000001", ecu_serial = "ADAS-1", hardware_id = "hw-3" }}
        security = {{ key_file = "adas.key" }}
        [memory]
        file = "adas.flash"
        bank_size = 0x200000
        version = "2.3.1"
        rxswin = "RX1"
        image_size = 0x2000
        [timing]
        reset_s = 0.05
        erase_s = 0.0
        """
    )


@contextmanager
def _part(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _RIG, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not process.stdout.readline().startswith("ready"):
                raise RuntimeError(f"{arguments[0]} is not ready")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
