"""The only place that remembers: one SQLite file for updates, notices, outbox and audit chain.

What belongs together is committed together and is on disk (`synchronous=FULL`) before `record`
returns. The file is written by one thread of its own, so that an fsync never delays the gate.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.update import State, Update

SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE updates(activity_id TEXT PRIMARY KEY, changed INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE outbox(seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE audit(seq INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

_MIGRATIONS = (
    _SCHEMA,
    """
CREATE TABLE attacks(
    code TEXT PRIMARY KEY, noted INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0);
ALTER TABLE outbox ADD COLUMN attacks TEXT NOT NULL DEFAULT '{}';
""",
)
"""The statements that lead from each schema version to the next; none is ever changed."""

_GENESIS = "0" * 64

_T = TypeVar("_T")


class Outgoing(NamedTuple):
    """A message to be told: its topic (without prefix) and its envelope, `seq` still missing."""

    topic: str
    envelope: dict[str, Any]
    attacks: Mapping[str, int] = MappingProxyType({})
    """Which attacks it tells of: refusal code to the number noted until then."""


class Queued(NamedTuple):
    """A message of the outbox, in order of `seq`; `body` is the finished JSON text."""

    seq: int
    topic: str
    body: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit chain: what happened, with JSON values only (requirement A5, E1)."""

    kind: str
    facts: dict[str, Any]


def audit_hash(previous: str, entry: str) -> str:
    """Hash of a chain link: SHA-256 over the previous hash (hex) and the entry's JSON text."""
    return hashlib.sha256(f"{previous}\n{entry}".encode()).hexdigest()


class Journal:
    """The journal of one car; `await Journal.open(path)` makes one.

    `head` is the hash of the audit chain's last link on disk; `put_aside` names the damaged file
    that had to make room, if there was one.

    Raises `Refused(JOURNAL_DAMAGED)` from `open` if the file cannot be used and could not be put
    aside.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None
        self.put_aside: Path | None = None
        self.head = _GENESIS
        self.attacked = asyncio.Event()
        self._attacks: dict[str, tuple[int, int]] = {}

    @classmethod
    async def open(cls, path: Path) -> Journal:
        """Open or make the journal at `path`; a damaged file is renamed, never deleted."""
        journal = cls(path)
        await journal._run(journal._open)
        await journal._take_attacks()
        return journal

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await self._run(self._close)
        self._thread.shutdown()

    async def record(
        self,
        update: Update | None,
        *,
        audit: Iterable[AuditEntry] = (),
        outgoing: Iterable[Outgoing] = (),
        at: str = "",
        displaced: Update | None = None,
        attacks: Iterable[str] = (),
    ) -> None:
        """Commit an update, its audit entries and its messages as one, durably.

        `at` is trusted wall time in ISO 8601, or empty where there is none. `displaced` is the
        update that made room for `update`, as it ended. `attacks` are refusal codes that are
        evidence of one each; they are counted until `told` of a message that names them.
        """
        updates = [each for each in (displaced, update) if each is not None]
        entries, messages, codes = list(audit), list(outgoing), list(attacks)
        await self._run(lambda: self._record(updates, entries, messages, at, codes))
        if codes:
            await self._take_attacks()

    async def note_attack(self, code: str) -> None:
        """Count an attack of which nothing else is written down."""
        await self.record(None, attacks=[code])

    @property
    def unreported(self) -> dict[str, int]:
        """Attacks that no acknowledged message has named: refusal code to how many."""
        return {c: noted - told for c, (noted, told) in self._attacks.items() if noted > told}

    @property
    def noted(self) -> dict[str, int]:
        """What a message that names all unreported attacks carries as `Outgoing.attacks`."""
        return {code: self._attacks[code][0] for code in self.unreported}

    async def report_waits(self) -> bool:
        """Tell whether a message that names attacks stands in the outbox."""
        query = "SELECT count(*) FROM outbox WHERE attacks != '{}'"
        return bool(await self._run(lambda: self._db.execute(query).fetchone()[0]))

    async def current(self) -> Update | None:
        """Return the update that changed last, or None in a car that never had one."""
        return await self._run(self._current)

    async def find(self, activity_id: str) -> Update | None:
        """Return the update of an activity, or None."""
        return await self._run(lambda: self._find(activity_id))

    async def denied(self, manifest_sha256: str) -> bool:
        """Tell whether the driver has refused this manifest before (requirement D2)."""
        return await self._run(lambda: self._denied(manifest_sha256))

    async def outbox(self, limit: int = 32) -> list[Queued]:
        """Return the oldest messages that have not been told yet."""
        return await self._run(lambda: self._outbox(limit))

    async def told(self, seq: int) -> None:
        """Forget a message of the outbox: the broker has acknowledged it."""
        if await self._run(lambda: self._told(seq)):
            await self._take_attacks()

    async def waiting(self) -> int:
        """Return how many messages wait in the outbox."""
        return await self._run(self._waiting)

    async def history(self) -> list[tuple[dict[str, Any], str]]:
        """Return the audit chain from its start: (entry, hash) pairs."""
        return await self._run(self._history)

    async def _take_attacks(self) -> None:
        rows = await self._run(lambda: self._db.execute("SELECT * FROM attacks").fetchall())
        self._attacks = {code: (noted, told) for code, noted, told in rows}
        if self.unreported:
            self.attacked.set()

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise Refused(Code.JOURNAL_DAMAGED, f"{self._path}: the journal is closed")
        return self._database

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(Code.JOURNAL_DAMAGED, f"{self._path}: {error.strerror}") from error
        try:
            self._database = _connect(self._path)
        except sqlite3.OperationalError as error:
            # The disk or another process stands in the way; what is in the file may be whole.
            raise Refused(Code.JOURNAL_DAMAGED, f"{self._path}: {error}") from error
        except sqlite3.DatabaseError:
            self.put_aside = _put_aside(self._path)
            try:
                self._database = _connect(self._path)
            except sqlite3.DatabaseError as error:
                raise Refused(Code.JOURNAL_DAMAGED, f"{self._path}: {error}") from error
        self.head = _head(self._database)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _record(
        self,
        updates: list[Update],
        audit: list[AuditEntry],
        messages: list[Outgoing],
        at: str,
        attacks: list[str],
    ) -> None:
        with self._db as db:
            for update in updates:
                db.execute(
                    "INSERT INTO updates VALUES(?,?,?) ON CONFLICT(activity_id)"
                    " DO UPDATE SET changed=excluded.changed, body=excluded.body",
                    (update.activity_id, _count(db, "changed"), msgspec.json.encode(update)),
                )
            for item in audit:
                entry = json.dumps({"kind": item.kind, "at": at, **item.facts}, sort_keys=True)
                db.execute(
                    "INSERT INTO audit(entry, hash) VALUES(?,?)",
                    (entry, audit_hash(_head(db), entry)),
                )
            for message in messages:
                seq = _count(db, "seq")
                body = json.dumps({**message.envelope, "seq": seq}, ensure_ascii=False)
                told = json.dumps(dict(message.attacks))
                db.execute("INSERT INTO outbox VALUES(?,?,?,?)", (seq, message.topic, body, told))
            for code in attacks:
                db.execute(
                    "INSERT INTO attacks(code, noted) VALUES(?,1)"
                    " ON CONFLICT(code) DO UPDATE SET noted=noted+1",
                    (code,),
                )
        self.head = _head(self._db)

    def _current(self) -> Update | None:
        row = self._db.execute("SELECT body FROM updates ORDER BY changed DESC LIMIT 1").fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Update)

    def _find(self, activity_id: str) -> Update | None:
        query = "SELECT body FROM updates WHERE activity_id=?"
        row = self._db.execute(query, (activity_id,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Update)

    def _denied(self, manifest_sha256: str) -> bool:
        query = "SELECT body FROM updates WHERE instr(body, CAST(? AS BLOB))"
        for (body,) in self._db.execute(query, (manifest_sha256,)):
            update = msgspec.json.decode(body, type=Update)
            known = update.release is not None and update.release.manifest_sha256
            denied = update.refusal is not None and update.refusal.code is Code.CONSENT_DENIED
            if update.state is State.CANCELLED and denied and known == manifest_sha256:
                return True
        return False

    def _outbox(self, limit: int) -> list[Queued]:
        query = "SELECT seq, topic, body FROM outbox ORDER BY seq LIMIT ?"
        return [Queued(*row) for row in self._db.execute(query, (limit,))]

    def _told(self, seq: int) -> bool:
        """Whether the message named attacks; they are reported now, as far as it counted them."""
        with self._db as db:
            row = db.execute("SELECT attacks FROM outbox WHERE seq=?", (seq,)).fetchone()
            db.execute("DELETE FROM outbox WHERE seq=?", (seq,))
            told = {} if row is None else json.loads(row[0])
            for code, noted in told.items():
                db.execute("UPDATE attacks SET told=max(told, ?) WHERE code=?", (noted, code))
        return bool(told)

    def _waiting(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def _history(self) -> list[tuple[dict[str, Any], str]]:
        rows = self._db.execute("SELECT entry, hash FROM audit ORDER BY seq")
        return [(json.loads(entry), digest) for entry, digest in rows]


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("integrity check failed")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            steps = "".join(_MIGRATIONS[version:])
            database.executescript(f"BEGIN; {steps} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}, known is {SCHEMA_VERSION}")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _put_aside(path: Path) -> Path | None:
    """Rename a damaged journal and its side files, so that a new one can stand in its place."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(aside.with_name(aside.name + suffix))
    return aside


def _count(db: sqlite3.Connection, name: str) -> int:
    db.execute(
        "INSERT INTO counters VALUES(?,1) ON CONFLICT(name) DO UPDATE SET value=value+1", (name,)
    )
    row = db.execute("SELECT value FROM counters WHERE name=?", (name,)).fetchone()
    return int(row[0])


def _head(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return _GENESIS if row is None else str(row[0])
