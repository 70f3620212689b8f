"""Whatever happens in whatever order: a legal state, on disk as in memory, no unguarded byte."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil_rig.backend.consent_answer import Policy
from tests.unit.life_bench import NEW, Bench, a_notice, frames_outside_held, in_virtual_time
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.update import ENDED, TABLE, State

METHODS = ["identify", "program", "activate", "read_back", "health", "confirm", "revert", "leave"]
CODES = [
    Code.CONTROLLER_SILENT,
    Code.CONTROLLER_REFUSED,
    Code.BUS_UNAVAILABLE,
    Code.SECURITY_DENIED,
    Code.READBACK_MISMATCH,
    Code.INTERNAL_ERROR,
]
ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.25, 1.0, 20.0, 70.0, 400.0])),
    st.tuples(st.just("park"), st.booleans()),
    st.tuples(st.just("lose_hold"), st.none()),
    st.tuples(st.just("acknowledges"), st.booleans()),
    st.tuples(st.just("healthy"), st.booleans()),
    st.tuples(st.just("refuse"), st.tuples(st.sampled_from(METHODS), st.sampled_from(CODES))),
    st.tuples(st.just("verify"), st.sampled_from([Code.UNMET_THRESHOLD, Code.EXPIRED_METADATA])),
    st.tuples(st.just("image"), st.sampled_from([Code.DISK_FULL, Code.TARGET_HASH_MISMATCH])),
    st.tuples(st.just("notice"), st.sampled_from(["a1", "a2", "a3"])),
    st.tuples(st.just("say"), st.sampled_from([Policy.APPROVE, Policy.APPROVE, Policy.DENY])),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("stop"), st.none()),
)


async def act(bench: Bench, name: str, value: object) -> None:
    car, life = bench.car, bench.life
    if name == "wait":
        await asyncio.sleep(value)
    elif name == "park":
        car.park(value)
    elif name == "lose_hold":
        car.lose_hold()
    elif name in {"acknowledges", "healthy"}:
        setattr(car, name, value)
    elif name == "refuse":
        car.refuse.setdefault(value[0], []).append(value[1])
    elif name == "verify":
        bench.refuse_verify.append(value)
    elif name == "image":
        bench.refuse_image.append(value)
    elif name == "notice":
        try:
            await life.receive(a_notice(value))
        except Refused:
            return
    elif name == "say":
        if life.update is not None and life.update.challenge is not None:
            try:
                await life.answer(bench.say(value))
            except Refused:
                return
    else:
        if name == "stop":
            life.stop_when_safe()
            await bench.task
        await bench.kill()
        await bench.open()
        await bench.start()


def check(bench: Bench, before: State | None, said_yes: set[str], *, noticed: bool) -> None:
    car, update = bench.car, bench.life.update
    assert car.breaches == []
    assert not bench.task.done()
    if update is None:
        return
    assert update.state in TABLE or update.state in ENDED
    if update.writes_started:
        assert update.activity_id in said_yes
    if update.state is State.COMPLETED:
        assert (car.running, car.trial) == (NEW, False)
        assert bench.floors == [bench.release.facts.release_counter]
    if update.state in {State.FAILED, State.CANCELLED, State.SUPERSEDED, State.REJECTED}:
        assert car.running != "half"
    if before in ENDED and not noticed:
        assert update.state is before


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTIONS, max_size=25), st.booleans())
def test_no_order_of_events_leads_out_of_what_is_allowed(actions: list, eager: bool) -> None:
    async def main(folder: Path) -> None:
        bench, said_yes = Bench(folder), set()
        await bench.open()
        await bench.start()
        if eager:
            await bench.life.receive(a_notice("a1"))
            await bench.approve()
            said_yes.add("a1")
        for name, value in actions:
            update = bench.life.update
            before = update.state if update else None
            await act(bench, name, value)
            if name == "say" and value is Policy.APPROVE and update is not None:
                said_yes.add(update.activity_id)
            check(bench, before, said_yes, noticed=name == "notice")
            async with bench.life._deciding:
                assert await bench.journal.current() == bench.life.update
        assert frames_outside_held(bench.car) == []
        await bench.kill()

    with tempfile.TemporaryDirectory() as folder:
        in_virtual_time(main(Path(folder)))
