"""Deliveries: each acknowledged after its outcome is on disk, whatever a stranger sends."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.life_bench import Bench, in_virtual_time
from vehicle_agent.intake import Intake
from vehicle_agent.notices.messages import Topic
from vehicle_agent.notices.mqtt import Delivery
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.update import State

TOPICS = [*Topic, "adasupdate/unknown"]


def notice(activity="a1", version="2.4.0") -> bytes:
    config = [
        {"key": "uptane.director_url", "value": "https://localhost/d"},
        {"key": "uptane.image_url", "value": "https://localhost/i"},
    ]
    component = {"id": "adas-controller", "version": version, "config": config}
    domains = [{"id": "adas", "components": [component]}]
    return json.dumps({"activityId": activity, "payload": {"domains": domains}}).encode()


class Post:
    """A mailbox whose deliveries a test puts in; remembers what was on disk at each `ack`."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        self.acknowledged: list[tuple[bytes, int]] = []

    @property
    def deliveries(self):
        return self._deliveries()

    async def _deliveries(self):
        while True:
            yield await self.inbox.get()

    def deliver(self, topic: str, payload: bytes) -> None:
        def acknowledge() -> None:
            self.acknowledged.append((payload, self.bench.journal.records))

        self.inbox.put_nowait(Delivery(topic, payload, acknowledge))


class Clock:
    async def accept(self, message: bytes) -> None:
        raise Refused(Code.TIME_ATTESTATION_INVALID, "not signed")


async def open_intake(bench: Bench) -> tuple[Post, Intake, asyncio.Task]:
    await bench.open()
    await bench.start()

    async def current_state(activity: str):
        return bench.life._reporter.current_state(activity, [])

    post = Post(bench)
    intake = Intake(
        mailbox=post,
        journal=bench.journal,
        life=bench.life,
        reporter=bench.life._reporter,
        timekeeper=Clock(),
        current_state=current_state,
        components=["adas-controller"],
        max_packet=1 << 18,
        at=lambda: "",
    )
    return post, intake, asyncio.ensure_future(intake.run())


async def end(bench: Bench, task: asyncio.Task) -> None:
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    await bench.kill()


def test_a_notice_is_acknowledged_when_it_stands_in_the_journal(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, _, task = await open_intake(bench)
        post.deliver(Topic.DESIRED_STATE, notice())
        await bench.until_true(lambda: post.acknowledged)
        assert await bench.journal.find("a1") is not None
        await end(bench, task)

    in_virtual_time(main())


def test_an_answer_is_acknowledged_when_the_decision_is_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, _, task = await open_intake(bench)
        post.deliver(Topic.DESIRED_STATE, notice())
        await bench.until(State.READY)
        await bench.until_true(lambda: bench.life.update.challenge is not None)
        before = bench.journal.records
        post.deliver(Topic.CONSENT_ANSWER, bench.say())
        await bench.until_true(lambda: len(post.acknowledged) == 2)
        assert post.acknowledged[1][1] > before
        await end(bench, task)

    in_virtual_time(main())


def test_what_cannot_be_written_down_is_not_acknowledged(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, _, task = await open_intake(bench)

        async def full(*_, **__):
            raise OSError("disk full")

        bench.journal.record = full
        post.deliver(Topic.DESIRED_STATE, notice())
        await asyncio.wait({task})
        assert post.acknowledged == []
        assert task.exception() is not None
        await bench.kill()

    in_virtual_time(main())


HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(lambda text: json.dumps({"activityId": text, "payload": {}}).encode()),
    st.text(st.characters(), min_size=1, max_size=64).map(lambda text: notice(version=text)),
    st.sampled_from([notice(version="\ud800"), b"[" * 5000, b"1e999", notice("x" * 129)]),
    st.sampled_from([b'{"activityId": 1' + b"0" * 5000 + b"}"]),
)


@pytest.mark.requirement("A4")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(TOPICS), HOSTILE), max_size=6))
@example([(topic, notice(version="\ud800")) for topic in TOPICS])
def test_no_payload_on_any_topic_ends_the_intake_or_starts_anything(messages: list) -> None:
    async def main(folder: Path) -> None:
        bench = Bench(folder)
        post, _, task = await open_intake(bench)
        for topic, payload in messages:
            post.deliver(topic, payload)
        await asyncio.sleep(30)
        assert len(post.acknowledged) == len(messages)
        assert bench.car.calls == []
        for _, body in await bench.reports():
            assert len(json.dumps(body)) < 20_000
        await end(bench, task)

    with tempfile.TemporaryDirectory() as folder:
        in_virtual_time(main(Path(folder)))


@pytest.mark.requirement("A5")
def test_a_refused_message_is_audited_and_a_refused_notice_answered(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, intake, task = await open_intake(bench)
        post.deliver(Topic.DESIRED_STATE, b'{"activityId": "a9", ...')
        post.deliver(Topic.TIME, b"{}")
        post.deliver(Topic.COMMAND, b"{}")
        await bench.until_true(lambda: len(post.acknowledged) == 3)
        history = {(e["topic"], e["code"]) for e, _ in await bench.journal.history()}
        assert history == {
            (Topic.DESIRED_STATE, "NoticeNotJson"),
            (Topic.TIME, "TimeAttestationInvalid"),
            (Topic.COMMAND, "NoticeShape"),
        }
        ((topic, body),) = await bench.reports()
        assert (topic, body["activityId"]) == (Topic.FEEDBACK, "a9")
        assert body["payload"]["status"] == "IDENTIFICATION_FAILED"
        assert intake.last_refused is not None
        await end(bench, task)

    in_virtual_time(main())


@pytest.mark.requirement("A4")
def test_a_flood_is_answered_but_not_recorded_without_end(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, _, task = await open_intake(bench)
        for number in range(1500):
            post.deliver(Topic.DESIRED_STATE, notice(f"a{number}") if number % 2 else b"junk")
            if number % 10 == 9:
                await bench.until_true(lambda n=number: len(post.acknowledged) == n + 1)
        assert len(await bench.journal.history()) < 3100
        before = len(await bench.journal.history())
        for _ in range(100):
            post.deliver(Topic.COMMAND, b"junk")
        await bench.until_true(lambda: len(post.acknowledged) == 1600)
        assert len(await bench.journal.history()) <= before + 2
        await asyncio.sleep(120)
        post.deliver(Topic.COMMAND, b"junk")
        await bench.until_true(lambda: len(post.acknowledged) == 1601)
        last = (await bench.journal.history())[-1][0]
        assert last["unrecorded"] > 90
        await end(bench, task)

    in_virtual_time(main())


def test_verifying_a_notice_does_not_keep_the_time_server_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        post, intake, task = await open_intake(bench)
        never = asyncio.Event()

        async def waits(_notice) -> None:
            await never.wait()

        bench.life.receive = waits
        post.deliver(Topic.DESIRED_STATE, notice())
        post.deliver(Topic.TIME, b"{}")
        await bench.until_true(lambda: post.acknowledged)
        assert intake.last_refused.code is Code.TIME_ATTESTATION_INVALID
        await end(bench, task)

    in_virtual_time(main())
