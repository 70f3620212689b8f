"""One car's update life on a bench: real decisions, steps and journal; the outside in memory.

Time jumps, executor calls run inline, and whatever reaches the controller without a parked and
held car is remembered as a breach.
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.consent_answer import Policy, answer
from tests.unit.jumping_loop import JumpingLoop
from tests.unit.release_maker import make_release
from tests.unit.trust_world import HARDWARE, IDENTITY, PROFILE, SERIAL, VIN
from vehicle_agent.agent import HELD, Life
from vehicle_agent.flashing.profile import load_profile
from vehicle_agent.flashing.programmer import Health, Identification, Progress
from vehicle_agent.installation import Installation
from vehicle_agent.journal import Journal
from vehicle_agent.notices.messages import Notice
from vehicle_agent.parking.gate import Verdict
from vehicle_agent.parking.ternary import Ternary
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.reports import Reporter, consent_request
from vehicle_agent.steps import Parts, Steps
from vehicle_agent.update import ENDED, State

OLD, NEW = "2.3.1", "2.4.0"
HMI = Ed25519PrivateKey.from_private_bytes(bytes(32))
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADAS = Path(__file__).parents[2] / "vehicle_agent" / "flashing" / "adas.toml"
BLOCKS = 4


class InlineLoop(JumpingLoop):
    """Executor calls run at once, so that the journal takes no (virtual) time."""

    def run_in_executor(self, executor, func, *args):
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def in_virtual_time(main):
    with asyncio.Runner(loop_factory=InlineLoop) as runner:
        return runner.run(main)


def a_notice(activity="a1", component="adas-controller", version=NEW) -> Notice:
    return Notice(
        activity_id=activity,
        component=component,
        version=version,
        director_url="https://localhost:8443/director",
        image_url="https://localhost:8443/image",
        raw_sha256="00",
    )


class Car:
    """What outlives the agent: the controller's memory, the park state, the drive unit."""

    def __init__(self):
        self.parked = True
        self.acknowledges = True
        self.held = False
        self.life: Life | None = None
        self.running, self.other, self.trial = OLD, None, False
        self.healthy = True
        self.breaches: list[str] = []
        self.frames: list[tuple[str, State | None]] = []
        self.calls: list[str] = []
        self.refuse: dict[str, list[Code]] = {}
        self.loses_park_at: str | None = None
        self.park_guards: dict[object, Any] = {}
        self.hold_guards: dict[object, Any] = {}
        self.park_waiters: list[asyncio.Future[None]] = []

    @property
    def state(self) -> State | None:
        return self.life.update.state if self.life and self.life.update else None

    def verdict(self) -> Verdict:
        value = Ternary.TRUE if self.parked else Ternary.FALSE
        return Verdict(parked=value, complete=True, missing=(), conditions=())

    def park(self, parked: bool) -> None:
        self.parked = parked
        if parked:
            waiters, self.park_waiters = self.park_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        else:
            guards, self.park_guards = self.park_guards, {}
            for guard in guards.values():
                guard(self.verdict())

    def lose_hold(self) -> None:
        self.held = False
        guards, self.hold_guards = self.hold_guards, {}
        for guard in guards.values():
            guard("no acknowledgement")

    def touch(self, what: str, *, held: bool = True) -> None:
        """Something goes to the controller now."""
        self.calls.append(what)
        if not self.parked:
            self.breaches.append(f"{what} in a car that is not parked")
        if held and not self.held:
            self.breaches.append(f"{what} without the inhibit")


class Park:
    def __init__(self, car):
        self.car = car

    def verdict(self):
        return self.car.verdict()

    async def parked(self):
        while not self.car.parked:
            waiter = asyncio.get_running_loop().create_future()
            self.car.park_waiters.append(waiter)
            await waiter
        return self.car.verdict()

    def guard(self, on_lost):
        token = object()
        if self.car.parked:
            self.car.park_guards[token] = on_lost
        else:
            on_lost(self.car.verdict())
        return lambda: self.car.park_guards.pop(token, None)


class Inhibit:
    def __init__(self, car):
        self.car = car

    @property
    def held(self):
        return self.car.held

    async def acquire(self, reason):
        self.car.frames.append((reason, self.car.state))
        await asyncio.sleep(0.1)
        if not (self.car.acknowledges and self.car.parked):
            await self.release()
            raise Refused(Code.INHIBIT_NOT_ACKNOWLEDGED, "drive unit says no")
        self.car.held = True

    async def release(self):
        self.car.frames.append(("RELEASE", self.car.state))
        self.car.held = False
        await asyncio.sleep(0.25)

    def guard(self, on_lost):
        token = object()
        if self.car.held:
            self.car.hold_guards[token] = on_lost
        else:
            on_lost("not held")
        return lambda: self.car.hold_guards.pop(token, None)


class FakeProgrammer:
    def __init__(self, car):
        self.car = car
        self.aborted = False
        self.closed = False

    async def _go(self, what, *, held=True):
        car = self.car
        if car.refuse.get(what):
            raise Refused(car.refuse[what].pop(0), f"{what} in the test")
        car.touch(what, held=held)
        epoch = self.aborted
        if car.loses_park_at == what:
            car.loses_park_at = None
            car.park(False)
        await asyncio.sleep(0.2)
        if self.aborted and not epoch:
            self.aborted = False  # as the real one: silent until the next explicit call
            raise Refused(Code.BUS_UNAVAILABLE, "the conversation was aborted")

    async def identify(self):
        await self._go("identify", held=False)
        return Identification(
            vin=VIN,
            ecu_serial=SERIAL,
            hardware_id=HARDWARE,
            software_version=self.car.running,
            rxswin="R2" if self.car.running == NEW else "R1",
            active_bank=0,
            trial=self.car.trial,
            revertible=self.car.trial,
            boot_count=0,
        )

    async def program(self, image, *, fingerprint, memory_check, on_progress, start_gate):
        self.car.other = "half"
        for block in range(BLOCKS):
            start_gate()
            await self._go("program")
            on_progress(Progress("programming", block + 1, BLOCKS))
        self.car.other = NEW

    async def activate(self):
        await self._go("activate")
        if self.car.other in {NEW, OLD}:
            self.car.running, self.car.other = self.car.other, self.car.running
            self.car.trial = self.car.running == NEW

    async def read_back(self, facts, memory_check, image):
        await self._go("read_back", held=False)
        return {}

    async def revert(self):
        await self._go("revert")

    async def confirm(self):
        await self._go("confirm", held=False)
        self.car.trial = False

    async def health(self):
        await self._go("health", held=False)
        return Health((), self.car.healthy, self.car.trial, 0)

    def abort(self):
        self.aborted = True
        self.car.calls.append("abort")

    async def leave(self):
        await self._go("leave", held=False)

    async def close(self):
        self.closed = True


class BenchInstallation(Installation):
    async def _load(self, release, image):
        return None


class FakeVerifier:
    def __init__(self, bench):
        self.bench = bench

    async def verify(self, component, version, director_url, image_url):
        await asyncio.sleep(0.1)
        if self.bench.refuse_verify:
            raise Refused(self.bench.refuse_verify.pop(0), "in the test")
        return self.bench.release

    async def halted(self, component, filepath, director_url):
        await asyncio.sleep(0.1)
        if self.bench.refuse_halted:
            raise Refused(self.bench.refuse_halted.pop(0), "in the test")
        return self.bench.halted


class FakeDownloader:
    def __init__(self, bench):
        self.bench = bench

    async def image(self, url, length, sha256, destination, on_progress):
        await asyncio.sleep(0.1)
        if self.bench.refuse_image:
            raise Refused(self.bench.refuse_image.pop(0), "in the test")
        return destination


class Mortal:
    """A journal that ends the agent at its k-th record, before or after it is on disk."""

    def __init__(self, journal, at=None, *, written=True):
        self.journal, self.at, self.written = journal, at, written
        self.records = 0
        self.dead = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.journal, name)

    async def record(self, update, **more):
        self.records += 1
        if self.records == self.at:
            if self.written:
                await self.journal.record(update, **more)
            self.dead.set()
            await asyncio.get_running_loop().create_future()
        await self.journal.record(update, **more)


class Bench:
    """One car and its agent; `restart` is a kill and a new process over the same journal."""

    def __init__(self, folder: Path, *, inhibits_without_controller=False, soak_minutes=1):
        self.path = folder / "journal.db"
        self.car = Car()
        facts = {"soak": msgspec.convert({"minutes": soak_minutes}, type=_soak())}
        self.release = make_release(facts=facts)
        self.refuse_verify: list[Code] = []
        self.refuse_image: list[Code] = []
        self.refuse_halted: list[Code] = []
        self.halted = False
        self.floors: list[int] = []
        self.floor = 0
        self.inhibits = inhibits_without_controller
        self.profile = msgspec.structs.replace(load_profile(ADAS), sha256=PROFILE)
        self.offset = timedelta()
        self.task: asyncio.Task[None] | None = None
        self.installations: dict[str, Installation] = {}

    async def open(self, at=None, *, written=True):
        self.journal = Mortal(await Journal.open(self.path), at, written=written)
        car = self.car
        self.inhibit = Inhibit(car)
        self.installations = {
            "adas-controller": BenchInstallation(
                identity=IDENTITY,
                ecu=IDENTITY.ecus[0],
                profile=self.profile,
                park=Park(car),
                inhibit=self.inhibit,
                connect=lambda: FakeProgrammer(car),
                fingerprint=lambda: bytes(11),
            )
        }
        self.steps = Steps(
            Parts(
                identity=IDENTITY,
                languages=("zh-CN", "en"),
                journal=self.journal,
                verifier=FakeVerifier(self),
                downloader=FakeDownloader(self),
                installations=self.installations,
                hmi_key=HMI.public_key(),
                images=self.path.parent,
                now=self.now,
            ),
            on_progress=lambda p: p and self.life.note_progress(p),
        )
        self.life = Life(
            journal=self.journal,
            steps=self.steps,
            inhibit=self.inhibit,
            reporter=Reporter(now_ms=lambda: 0, manifest=lambda _: {}),
            holds_without_controller=lambda _: self.inhibits,
            on_completed=self.completed,
            at=lambda: "",
            jitter=random.Random(1),
        )
        car.life = self.life

    async def now(self):
        return START + timedelta(seconds=asyncio.get_running_loop().time() - 1000)

    async def completed(self, update):
        counter = update.release.facts.release_counter
        if counter > self.floor:
            self.floors.append(counter)
        self.floor = max(self.floor, counter)

    async def start(self):
        await self.life.start()
        self.task = asyncio.ensure_future(self.life.run())

    async def kill(self):
        """End without a word: nothing that a SIGKILL would not do either, but closing files."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            self.task = None
        self.car.park_guards.clear()
        self.car.hold_guards.clear()
        self.car.held = False
        await self.journal.close()

    async def until(self, *states: State):
        """Let time pass until the update is in one of `states`."""
        await self.until_true(lambda: self.car.state in states)

    async def until_true(self, happened, step_s=0.05):
        """Let time pass, a step at a time, until `happened()`."""
        for _ in range(100_000):
            if self.task is not None and self.task.done():
                self.task.result()
            if happened():
                return
            await asyncio.sleep(step_s)
        raise AssertionError(f"still {self.car.state}")

    def say(self, policy=Policy.APPROVE, update=None):
        request = consent_request(update or self.life.update)
        said = answer(request, policy, key=HMI, locale="en", now=START, randomness=bytes)
        return json.dumps(said).encode()

    async def approve(self):
        await self.until(State.READY)
        await self.until_true(lambda: self.life.update.challenge is not None)
        await self.life.answer(self.say())

    async def serve_outside(self, notice):
        """Broker and driver: tell until taken, answer what is asked; until the update ends."""
        taken = await self.journal.find(notice.activity_id) is not None
        while True:
            update = self.life.update
            if not taken:
                await self.life.receive(notice)
                taken = True
            elif update.state in ENDED:
                return
            elif update.state is State.READY and update.challenge is not None:
                await self.life.answer(self.say())
            await asyncio.sleep(0.05)

    async def reports(self):
        return [(m.topic, json.loads(m.body)) for m in await self.journal.outbox(100_000)]


def _soak():
    from vehicle_agent.release import Soak

    return Soak


def frames_outside_held(car: Car) -> list[tuple[str, State | None]]:
    """Requests for the inhibit in a state that does not hold the car."""
    return [(f, s) for f, s in car.frames if f != "RELEASE" and s not in HELD]
