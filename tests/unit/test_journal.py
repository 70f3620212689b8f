"""The journal: what was recorded together stands together, in order, after any end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from vehicle_agent.journal import AuditEntry, Journal, Outgoing, audit_hash
from vehicle_agent.refusals import Code, Refusal
from vehicle_agent.update import State, Update


def an_update(activity_id: str, state: State = State.NOTICED) -> Update:
    return Update(
        activity_id=activity_id,
        component="adas-controller",
        version="2.4.0",
        director_url="https://localhost/director",
        image_url="https://localhost/image",
        notice_sha256="00",
        state=state,
    )


async def test_an_update_survives_closing_with_all_its_fields(tmp_path: Path) -> None:
    update = msgspec.structs.replace(
        an_update("a1", State.FAILED), refusal=Refusal(Code.PARK_LOST, "gear is D")
    )
    journal = await Journal.open(tmp_path / "journal.db")
    await journal.record(update)
    await journal.close()
    journal = await Journal.open(tmp_path / "journal.db")
    assert await journal.current() == update
    assert await journal.find("a1") == update
    assert await journal.find("a2") is None
    await journal.close()


async def test_current_is_the_update_that_changed_last(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db")
    assert await journal.current() is None
    for activity in ("a1", "a2", "a1"):
        await journal.record(an_update(activity))
    current = await journal.current()
    assert current is not None
    assert current.activity_id == "a1"
    await journal.close()


async def test_the_outbox_keeps_order_and_numbers_over_restarts(tmp_path: Path) -> None:
    for start in (1, 3):
        journal = await Journal.open(tmp_path / "journal.db")
        await journal.record(None, outgoing=[Outgoing("t", {"n": 1}), Outgoing("t", {"n": 2})])
        messages = await journal.outbox()
        assert [message.seq for message in messages] == [start, start + 1]
        assert [json.loads(message.body)["seq"] for message in messages] == [start, start + 1]
        for message in messages:
            await journal.told(message.seq)
        assert await journal.outbox() == []
        await journal.close()


@pytest.mark.requirement("A5")
async def test_the_audit_chain_links_every_entry_to_the_one_before(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.db")
    for number in range(5):
        await journal.record(None, audit=[AuditEntry("refused", {"number": number})])
    previous = "0" * 64
    for entry, digest in await journal.history():
        previous = audit_hash(previous, json.dumps(entry, sort_keys=True))
        assert digest == previous
    assert journal.head == previous
    await journal.close()


@pytest.mark.parametrize("damage", ["junk", "torn", "newer"])
async def test_a_damaged_file_is_put_aside_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.db"
    journal = await Journal.open(path)
    await journal.record(an_update("a1"))
    await journal.close()
    if damage == "junk":
        path.write_bytes(os.urandom(4096))
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:4096] + os.urandom(4096) * 3)
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version=99")
    kept = path.read_bytes()
    journal = await Journal.open(path)
    assert journal.put_aside is not None
    assert journal.put_aside.read_bytes() == kept
    assert await journal.current() is None
    await journal.record(an_update("a2"))
    await journal.close()


def test_what_was_recorded_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from vehicle_agent.journal import Journal, Outgoing
        async def main():
            journal = await Journal.open(Path(sys.argv[1]))
            for number in range(10_000):
                await journal.record(None, outgoing=[Outgoing("t", {"n": number})])
                print(number, flush=True)
        asyncio.run(main())
        """
    )
    path = tmp_path / "journal.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    last = [int(writer.stdout.readline()) for _ in range(40)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with sqlite3.connect(path) as database:
        bodies = [json.loads(row[0])["n"] for row in database.execute("SELECT body FROM outbox")]
    assert bodies == list(range(len(bodies)))
    assert len(bodies) > last
