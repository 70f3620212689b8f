"""Notices and answers: who displaces whom, whose word counts, and what is on disk by then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from hil_rig.backend.consent_answer import Policy
from tests.unit.life_bench import HMI, START, Bench, a_notice, in_virtual_time
from tests.unit.release_maker import make_release
from vehicle_agent.agent import _update_of
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical
from vehicle_agent.update import CHANGING, State


def signed_again(payload: bytes, **changes: object) -> bytes:
    """The display's answer with other fields, signed by its own key."""
    said = json.loads(payload) | changes
    said.pop("signature")
    return json.dumps(said | {"signature": HMI.sign(canonical(said)).hex()}).encode()


async def ready(bench: Bench, activity: str = "a1") -> None:
    await bench.open()
    await bench.start()
    await bench.life.receive(a_notice(activity))
    await bench.until(State.READY)
    await bench.until_true(lambda: bench.life.update.challenge is not None)


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    "changes",
    [
        {"challenge": "11" * 16},
        {"manifestSha256": "00" * 32},
        {"textsSha256": "00" * 32},
        {"activityId": "other"},
        {"locale": "fr"},
        {"status": "YES"},
        {"status": "POSTPONED", "notBefore": None},
        {"notBefore": "tomorrow"},
    ],
)
def test_an_answer_that_is_refused_changes_nothing(tmp_path: Path, changes: dict) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        before, records = bench.life.update, bench.journal.records
        with pytest.raises(Refused) as caught:
            await bench.life.answer(signed_again(bench.say(), **changes))
        assert caught.value.refusal.code is Code.CONSENT_INVALID
        await asyncio.sleep(5)
        assert (bench.life.update, bench.journal.records) == (before, records)
        await bench.life.answer(bench.say())
        assert bench.life.update.state is State.APPROVED
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D2")
def test_an_answer_is_on_disk_when_it_has_been_taken_and_only_the_first_counts(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        yes, no = bench.say(Policy.APPROVE), bench.say(Policy.DENY)
        await bench.life.answer(no)
        current = await bench.journal.current()
        assert current.state is State.CANCELLED
        with pytest.raises(Refused, match="not being asked"):
            await bench.life.answer(yes)
        await asyncio.sleep(5)
        assert bench.life.update.state is State.CANCELLED
        assert bench.car.calls == []
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D2")
def test_of_two_answers_at_once_one_counts_and_the_other_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        answers = [bench.life.answer(bench.say(p)) for p in (Policy.DENY, Policy.APPROVE)]
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert results[0] is None
        assert isinstance(results[1], Refused)
        assert bench.life.update.state is State.CANCELLED
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("status", ["APPROVED", "POSTPONED"])
def test_nothing_starts_before_the_time_that_the_driver_has_signed(
    tmp_path: Path, status: str
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        later = "2026-03-01T12:10:00Z"
        await bench.life.answer(signed_again(bench.say(), status=status, notBefore=later))
        await bench.until(State.INSTALLING)
        assert (await bench.now() - START).total_seconds() >= 600
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.requirement("D2")
def test_a_refusal_of_the_driver_persists_for_a_new_notice_of_the_same_release(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        await bench.life.answer(bench.say(Policy.DENY))
        await bench.kill()
        await bench.open()
        await bench.start()
        await bench.life.receive(a_notice("a2"))
        await bench.until(State.REJECTED)
        assert bench.life.update.refusal.code is Code.CONSENT_DENIED
        denied, bench.release = bench.release, make_release()
        bench.release = msgspec.structs.replace(bench.release, manifest_sha256="bb" * 32)
        await bench.life.receive(a_notice("a3"))
        await bench.until(State.READY)
        bench.release = denied
        with pytest.raises(Refused) as caught:
            await bench.life.receive(a_notice("a4"))
        assert caught.value.refusal.code is Code.CONSENT_DENIED
        assert bench.life.update.activity_id == "a3"
        await bench.kill()

    in_virtual_time(main())


@pytest.mark.parametrize("state", sorted(CHANGING | {State.APPROVED}))
def test_no_notice_displaces_an_update_whose_writing_has_begun(
    tmp_path: Path, state: State
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        running = msgspec.structs.replace(
            _update_of(a_notice("a1")), state=state, writes_started=True, release=bench.release
        )
        await bench.journal.record(running)
        await bench.life.start()
        with pytest.raises(Refused) as caught:
            await bench.life.receive(a_notice("a2"))
        assert caught.value.refusal.code is Code.UPDATE_IN_PROGRESS
        assert bench.life.update == running == await bench.journal.current()
        assert await bench.journal.find("a2") is None
        await bench.kill()

    in_virtual_time(main())


def test_a_newer_verified_notice_takes_the_place_and_both_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        question = bench.life.update
        await bench.life.receive(a_notice("a2"))
        assert (await bench.journal.find("a1")).state is State.SUPERSEDED
        assert (await bench.journal.current()).activity_id == "a2"
        await bench.until(State.READY)
        with pytest.raises(Refused):
            await bench.life.answer(bench.say(update=question))
        told = [(b["activityId"], b["payload"].get("status")) for _, b in await bench.reports()]
        assert ("a1", "SUPERSEDED") in told
        assert ("a2", "IDENTIFYING") in told
        await bench.kill()

    in_virtual_time(main())


def test_a_notice_that_does_not_verify_leaves_the_running_update_alone(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        running = bench.life.update
        bench.refuse_verify = [Code.UNMET_THRESHOLD]
        with pytest.raises(Refused):
            await bench.life.receive(a_notice("a2"))
        assert bench.life.update == running
        await bench.kill()

    in_virtual_time(main())


def test_a_displacement_that_cannot_be_written_down_displaces_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        running = bench.life.update
        with pytest.raises(UnicodeError):
            await bench.life.receive(a_notice("a2", version="\ud800"))
        assert bench.life.update == running == await bench.journal.current()
        await bench.kill()

    in_virtual_time(main())


def test_a_notice_that_comes_twice_is_told_and_not_begun_again(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        running, reports = bench.life.update, len(await bench.reports())
        await bench.life.receive(a_notice("a1"))
        assert bench.life.update == running
        assert len(await bench.reports()) == reports + 1
        await bench.kill()

    in_virtual_time(main())


def test_a_notice_during_identification_displaces_after_the_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await ready(bench)
        await bench.life.answer(bench.say())
        await bench.until_true(lambda: bench.car.calls, 0.01)
        assert bench.car.calls == ["identify"]
        await bench.life.receive(a_notice("a2"))
        await bench.until(State.READY)
        assert bench.life.update.activity_id == "a2"
        assert bench.car.calls == ["identify", "leave"]
        assert bench.car.frames == []
        await bench.kill()

    in_virtual_time(main())
