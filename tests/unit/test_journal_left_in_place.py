"""A journal that only cannot be reached now is left where it is; no state is forgotten for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from vehicle_agent import journal as journal_module
from vehicle_agent.journal import Journal
from vehicle_agent.refusals import Code, Refused


@pytest.mark.parametrize(
    "why", ["disk I/O error", "database or disk is full", "database is locked"]
)
async def test_a_disk_that_fails_does_not_put_the_journal_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    path = tmp_path / "journal.db"
    await (await Journal.open(path)).close()
    before = path.read_bytes()

    def fails(_path: Path) -> None:
        raise sqlite3.OperationalError(why)

    monkeypatch.setattr(journal_module, "_connect", fails)
    with pytest.raises(Refused) as caught:
        await Journal.open(path)
    assert caught.value.refusal.code is Code.JOURNAL_DAMAGED
    assert why in caught.value.refusal.detail
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


async def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused) as caught:
        await Journal.open(tmp_path / "file" / "journal.db")
    assert str(tmp_path / "file") in caught.value.refusal.detail
