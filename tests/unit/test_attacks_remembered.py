"""Refused attacks: counted durably, told in a signed manifest, forgotten when that arrived."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from tests.unit.life_bench import in_virtual_time
from vehicle_agent.attack_report import LEAST_S, report_attacks
from vehicle_agent.journal import SCHEMA_VERSION, Journal, Outgoing

VERSION_1 = """
CREATE TABLE updates(activity_id TEXT PRIMARY KEY, changed INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE outbox(seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE audit(seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO outbox VALUES(1, 'manifest', '{"seq": 1}');
INSERT INTO counters VALUES('seq', 1);
PRAGMA user_version=1;
"""


def manifest(journal):
    return Outgoing("manifest", {"tells": journal.unreported}, journal.noted)


async def test_a_journal_of_version_1_is_taken_over_with_what_is_in_it(tmp_path):
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
    old.close()
    journal = await Journal.open(path)
    assert journal.put_aside is None
    assert [message.seq for message in await journal.outbox()] == [1]
    await journal.note_attack("UnmetThreshold")
    await journal.told(1)
    assert journal.unreported == {"UnmetThreshold": 1}
    await journal.close()
    with sqlite3.connect(path) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    new.close()


@pytest.mark.requirement("A5")
async def test_attacks_outlive_a_restart_until_they_are_told(tmp_path):
    journal = await Journal.open(tmp_path / "journal.db")
    for code in ("UnmetThreshold", "TargetMismatch", "UnmetThreshold"):
        await journal.note_attack(code)
    await journal.close()

    journal = await Journal.open(tmp_path / "journal.db")
    assert journal.unreported == {"TargetMismatch": 1, "UnmetThreshold": 2}
    assert journal.attacked.is_set()
    await journal.record(None, outgoing=[manifest(journal)])
    assert journal.unreported  # queued is not told
    assert await journal.report_waits()
    (message,) = await journal.outbox()
    await journal.told(message.seq)
    assert journal.unreported == {}
    await journal.close()

    journal = await Journal.open(tmp_path / "journal.db")
    assert journal.unreported == {}
    assert not journal.attacked.is_set()
    await journal.close()


async def test_an_attack_between_two_manifests_is_told_by_neither_of_the_earlier(tmp_path):
    journal = await Journal.open(tmp_path / "journal.db")
    await journal.note_attack("UnmetThreshold")
    for _ in range(2):
        await journal.record(None, outgoing=[manifest(journal)])
    await journal.note_attack("UnmetThreshold")
    for message in await journal.outbox():
        await journal.told(message.seq)
        await journal.told(message.seq)
    assert journal.unreported == {"UnmetThreshold": 1}
    await journal.close()


def test_a_flood_of_attacks_makes_one_manifest_at_a_time(tmp_path):
    in_virtual_time(_flood(tmp_path))


async def _flood(folder):
    journal = await Journal.open(folder / "journal.db")
    told = asyncio.Event()
    task = asyncio.ensure_future(
        report_attacks(journal, lambda: manifest(journal), told, lambda: "")
    )
    for _ in range(50):
        await journal.note_attack("UnmetThreshold")
        await asyncio.sleep(LEAST_S)
    (message,) = await journal.outbox()
    assert told.is_set()
    await journal.told(message.seq)
    await asyncio.sleep(2 * LEAST_S)
    (second,) = await journal.outbox()
    assert '"UnmetThreshold": 49' in second.body
    await journal.told(second.seq)
    await asyncio.sleep(2 * LEAST_S)
    assert await journal.outbox() == []
    task.cancel()
    await asyncio.wait({task})
    await journal.close()
