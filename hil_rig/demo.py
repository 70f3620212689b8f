"""`hil-rig demo`: recall S2025M0149I for one car, from the notice to the software read back.

Every part is a process of its own: broker, backend, driver's display, car, ADAS controller, the
software wire where there is no CAN, and `vehicle-agent run`. Live on a terminal, else in plain
lines. Exit 0 if the update is completed and the controller itself says so; 1 if not; 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hil_rig import demo_summary
from hil_rig.backend.broker import BrokerFailed
from hil_rig.bench_files import Bench
from hil_rig.control import ControlError
from hil_rig.demo_moment import WAY, Moment, Observer
from hil_rig.demo_show import Live, Plain, Show, picture
from hil_rig.demo_story import Act, Story
from hil_rig.demo_view import Heading
from hil_rig.firmware import FirmwareError
from hil_rig.launch import Rig, RigTimeout
from hil_rig.part import PartFailed

TICK_S = 0.1
SIZE = 1 << 20
VCAN_SIZE = 1 << 18
VCAN_PROGRAM_S = 0.02
"""A block of 4 KiB takes the controller that long on vcan: no bit rate slows flashing down there,
and in a guest with a single processor the car has to get its frames out meanwhile."""
VCAN = "vcan0"
RECALL = "S2025M0149I"
_PICTURED = 0.6


class Failed(Exception):
    """The demo cannot go on; the message is one line."""


class Stopped(Exception):
    """A signal asked the demo to end."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP as something to look at between two steps.

    A process that is just being started is then never forgotten. A second signal does not wait.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def install(self) -> None:
        """Take the signals of this process."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number


class Demo:
    """One run on a rig; what was seen stands in `moment` and, for a picture, in `pictured`."""

    def __init__(self, rig: Rig, show: Show, story: Story, signals: Signals) -> None:
        self.moment = Moment(at=0.0)
        self.pictured: Moment | None = None
        self.meter = demo_summary.Meter()
        self._rig = rig
        self._show = show
        self._story = story
        self._signals = signals

    def run(self) -> None:
        """Play the story to its end. Raises `Failed`, `PartFailed`, `ControlError`, `Stopped`."""
        began, observer = time.monotonic(), Observer(self._rig)
        while True:
            self._signals.check()
            self.moment = moment = observer.look(time.monotonic() - began)
            self.meter.note(moment.at, moment.progress)
            if self.pictured is None and _is_picturesque(moment):
                self.pictured = moment
            self._show.moment(moment)
            act = self._story.next_act(moment)
            if act is not None:
                self._carry_out(act)
            elif self._story.is_over(moment):
                return
            self._check_parts()
            still = self._story.stalled_s(moment)
            if still is not None:
                raise Failed(f"nothing has changed for {still:.0f} s in state {moment.state}")
            time.sleep(TICK_S)

    def _carry_out(self, act: Act) -> None:
        match act:
            case Act.NOTIFY:
                self._rig.notify()
            case Act.AGREE:
                self._rig.tell("hmi", "answer", status="APPROVED")
            case Act.PARK:
                self._rig.tell("car", "park")
            case Act.KILL_AGENT:
                self._show.say(f"the agent is killed (SIGKILL) in state {self.moment.state}")
                self._rig.agent.kill()
            case Act.START_AGENT:
                self._show.say("the agent is started again")
                self._rig.agent.start()

    def _check_parts(self) -> None:
        for part in self._rig.parts:
            if part.exit_code is not None:
                raise PartFailed(f"{part.name} ended with {part.exit_code}: {part.last_words()}")


def main(argv: list[str]) -> int:
    """Run the demo; the exit code."""
    options = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a log in ASCII gets no Chinese, but no traceback
    signals = Signals()
    signals.install()
    try:
        return _run(options, signals)
    except (Failed, FirmwareError) as error:
        sys.stderr.write(f"hil-rig demo: {error}\n")
        return 1
    except Stopped:
        sys.stderr.write("hil-rig demo: stopped; nothing is left running\n")
        return 128 + (signals.number or signal.SIGINT)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(options: argparse.Namespace, signals: Signals) -> int:
    """Raises `Failed`, `FirmwareError` or `Stopped` before and after the parts have run."""
    vcan = options.bus == "vcan"
    if vcan:
        _need_interface(VCAN)
    with _folder(options.folder) as folder:
        bench = Bench(
            bus=VCAN if vcan else "wire",
            image=options.image and options.image.resolve(),
            image_size=options.size or (VCAN_SIZE if vcan else SIZE),
            soak_minutes=options.soak_minutes,
            consent="ask",
            program_s=VCAN_PROGRAM_S if vcan else 0.0,
        )
        rig = Rig(bench, folder.path, broker=options.broker)
        plain = not sys.stdout.isatty()
        show: Show = Plain(sys.stdout) if plain else Live()
        found = _play(options, rig, show, signals)
        for problem in found:
            show.say(f"problem: {problem}")
        if found:
            show.say(f"logs: {', '.join(map(str, sorted(folder.path.rglob('*.log'))))}")
        folder.keep = folder.keep or bool(found)
        return 1 if found else 0


def _play(options: argparse.Namespace, rig: Rig, show: Show, signals: Signals) -> list[str]:
    """Start the parts, run, sum up and stop everything; what went wrong. Raises `Stopped`."""
    demo = None
    try:
        began = time.monotonic()
        show.say("starting broker, backend, display, car, controller and agent")
        rig.start()
        start_s = time.monotonic() - began
        signals.check()
        heading = _heading(rig)
        story = Story(kill_at=options.kill_agent_at, soak_s=60.0 * options.soak_minutes)
        with show.opened(heading):
            demo = Demo(rig, show, story, signals)
            demo.run()
        facts = demo_summary.gather(rig, demo.moment, demo.meter, start_s)
    except (Failed, PartFailed, BrokerFailed, RigTimeout, ControlError) as error:
        signals.check()
        return [str(error)]
    finally:
        if signals.number is not None:
            rig.agent.kill()  # else it would first finish what it has begun with the controller
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        rig.stop()
    found = demo_summary.problems(facts)
    rows = demo_summary.rows(facts)
    show.summary(rows, good=not found)
    if options.svg is not None:
        picture(options.svg, heading, demo.pictured or demo.moment, rows, good=not found)
    return found


def _is_picturesque(moment: Moment) -> bool:
    progress = moment.progress
    if progress is None or progress.phase != demo_summary.PHASE:
        return False
    return progress.done >= _PICTURED * progress.total


def _heading(rig: Rig) -> Heading:
    bench, broker = rig.bench, rig.broker
    wire = f"software wire {bench.bitrate // 1000}k/{bench.data_bitrate // 1_000_000}M"
    version = {5: "5", 4: "3.1.1"}
    return Heading(
        recall=RECALL,
        vin=bench.vin,
        bus=wire if rig.wire is not None else bench.bus,
        broker=f"{broker.kind} MQTT {version[broker.version]}" if broker else "",
    )


def _need_interface(name: str) -> None:
    state = Path("/sys/class/net") / name / "operstate"
    if not state.exists() or state.read_text().strip() == "down":
        raise Failed(
            f"no CAN interface {name} is up here; `make demo BUS=vcan` brings one, "
            "`make demo` needs none"
        )


class _Folder:
    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path = path
        self.keep = keep


@contextmanager
def _folder(given: Path | None) -> Iterator[_Folder]:
    """The folder of the run: kept if it was asked for or its `keep` is set. Raises `Failed`."""
    if given is not None and given.is_dir() and any(given.iterdir()):
        raise Failed(f"folder {given} is not empty; name a new one")
    path = given.resolve() if given else Path(tempfile.mkdtemp(prefix="hil-rig-demo-"))
    folder = _Folder(path, keep=given is not None)
    try:
        yield folder
    finally:
        if not folder.keep:
            shutil.rmtree(path, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hil-rig demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bus", choices=("wire", "vcan"), default="wire")
    parser.add_argument("--image", type=Path, help="any firmware: ELF, S-record, HEX or binary")
    parser.add_argument("--size", type=_size, help="bytes of a generated image")
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), help="default: what is there")
    parser.add_argument("--folder", type=Path, help="for files and logs; kept")
    parser.add_argument("--soak-minutes", type=int, default=0, help="length of the probation")
    parser.add_argument("--svg", type=Path, help="write a picture of the screen")
    parser.add_argument(
        "--kill-agent-at", choices=WAY, metavar="STATE", help=f"one of {', '.join(WAY)}"
    )
    return parser


def _size(text: str) -> int:
    size = int(text, 0)
    if not 1024 <= size <= 16 << 20:
        raise argparse.ArgumentTypeError("1024 to 16777216 bytes")
    return size
