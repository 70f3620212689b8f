"""`vehicle-agent repository`: a plain TUF client over the same trust core, for a desk.

No car runs it: there is no Director, http is taken from this machine itself, and time is the
system's unless `--time` gives it. What verifies the files is what verifies them in a car.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import urllib3
from tuf.api.metadata import TargetFile

from vehicle_agent.durable import sync_folder, write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.delegations import locate
from vehicle_agent.trust.metadata import known_hashes
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.rules import PLAIN_TUF
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.workflow import Want, Workflow, drive, refresh

_METADATA_LIMIT = 8 << 20
_CHUNK = 1 << 16
_PATIENCE_S = 30.0
_LONGEST_NAME = 200
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_THERE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)

R = TypeVar("R")


def main(argv: list[str]) -> int:
    """Run one command. Exit 0: done; 1: refused, one line on stderr says why; 2: wrong usage."""
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    missing = [name for name in _NEEDS[options.command] if getattr(options, name) is None]
    if missing:
        parser.error(f"{options.command} needs {', '.join(missing).replace('_', '-')}")
    try:
        _COMMANDS[options.command](options)
    except Refused as refused:
        sys.stderr.write(f"vehicle-agent repository: {refused}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"vehicle-agent repository: {error.filename}: {error.strerror}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vehicle-agent repository", description=__doc__)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    parser.add_argument("root", nargs="?", type=Path, help="init: the root metadata to trust")
    parser.add_argument("--metadata-dir", type=Path, metavar="DIR", help="trusted metadata")
    parser.add_argument("--metadata-url", metavar="URL", help="the repository's metadata")
    parser.add_argument("--target-name", metavar="PATH", help="the target, by its TUF path")
    parser.add_argument("--target-base-url", metavar="URL", help="the repository's targets")
    parser.add_argument("--target-dir", type=Path, metavar="DIR", help="where the target goes")
    parser.add_argument("--time", type=_time, metavar="ISO", help="instead of the system's time")
    return parser


def _init(options: argparse.Namespace) -> None:
    data = options.root.read_bytes()
    root = RepositoryTrust("initial", {"root": data}, rules=PLAIN_TUF)
    folder: Path = options.metadata_dir
    folder.mkdir(parents=True, exist_ok=True)
    _provisioned(folder).parent.mkdir(exist_ok=True)
    write_durably(_provisioned(folder), data)
    write_durably(folder / "root.json", data)
    sys.stdout.write(f"trusting root version {root.root.version}\n")


def _refresh(options: argparse.Namespace) -> None:
    store = _store(options.metadata_dir)
    trust = _trusted(store, options.metadata_dir)
    _carry_out(store, trust, options.metadata_url, refresh(trust, options.time or _now()))


def _download(options: argparse.Namespace) -> None:
    store = _store(options.metadata_dir)
    trust = _trusted(store, options.metadata_dir)
    url, name = options.metadata_url, options.target_name
    if not name.isprintable():
        raise Refused(Code.TARGET_MISMATCH, f"target {name!r}: not a printable name")
    _carry_out(store, trust, url, refresh(trust, options.time or _now()))
    located = _carry_out(store, trust, url, locate(trust, name))
    if located is None:
        raise Refused(Code.TARGET_MISMATCH, f"target {name!r}: the repository does not have it")
    options.target_dir.mkdir(parents=True, exist_ok=True)
    place = options.target_dir / _file_name(name)
    if not _is_there(place, located.target):
        prefixed = trust.root.consistent_snapshot
        _bring(located.target, options.target_base_url, place, prefixed=bool(prefixed))
    sys.stdout.write(f"{place}\n")


_COMMANDS = {"init": _init, "refresh": _refresh, "download": _download}
_NEEDS = {
    "init": ("metadata_dir", "root"),
    "refresh": ("metadata_dir", "metadata_url"),
    "download": ("metadata_dir", "metadata_url", "target_name", "target_base_url", "target_dir"),
}


def _provisioned(folder: Path) -> Path:
    return folder / "roots" / "provisioned.json"


def _store(folder: Path) -> TrustStore:
    folder = folder.absolute()
    return TrustStore(
        folder.parent,
        {folder.name: _provisioned(folder)},
        versions=folder / "roots" / "versions.json",
    )


def _trusted(store: TrustStore, folder: Path) -> RepositoryTrust:
    if not _provisioned(folder).is_file():
        raise Refused(
            Code.CONFIG_INVALID, f"{str(folder)!r}: no root is trusted here; `init` first"
        )
    return store.trusted(folder.absolute().name, PLAIN_TUF)


def _carry_out(store: TrustStore, trust: RepositoryTrust, url: str, workflow: Workflow[R]) -> R:
    def fetch(file: Want) -> bytes | None:
        limit = _METADATA_LIMIT if file.length is None else min(file.length, _METADATA_LIMIT)
        with _answer(f"{url.rstrip('/')}/{file.name}") as chunks:
            if chunks is None:
                return None
            data = bytearray()
            for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise Refused(
                        Code.METADATA_MALFORMED, f"{file.name[:80]}: longer than {limit} bytes"
                    )
            return bytes(data)

    try:
        return drive(workflow, fetch)
    finally:
        store.keep(trust)


def _bring(target: TargetFile, base_url: str, place: Path, *, prefixed: bool) -> None:
    """Fetch `target` to `place`, hashed while it streams; nothing stays if it is another."""
    known = known_hashes(f"target {target.path!r}", target.hashes)
    folder, slash, name = target.path.rpartition("/")
    if prefixed:
        name = f"{target.hashes[known[0]]}.{name}"
    part = place.with_name(f"%part-{place.name}")
    try:
        with _answer(f"{base_url.rstrip('/')}/{quote(folder + slash + name)}") as chunks:
            if chunks is None:
                raise Refused(
                    Code.IMAGE_SERVER_UNAVAILABLE, f"target {target.path!r}: not on the server"
                )
            with part.open("wb") as file:
                _receive(target, chunks, file.write)
                file.flush()
                os.fsync(file.fileno())
        part.replace(place)
        sync_folder(place.parent)
    finally:
        part.unlink(missing_ok=True)


def _receive(target: TargetFile, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Take exactly the bytes of `target`: its length, and every hash that is known.

    Raises Refused: OVERSIZED_TARGET, IMAGE_TRUNCATED, TARGET_HASH_MISMATCH.
    """
    where = f"target {target.path!r}"
    digests = {name: hashlib.new(name) for name in known_hashes(where, target.hashes)}
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > target.length:
            raise Refused(Code.OVERSIZED_TARGET, f"{where}: more than the signed {target.length}")
        for each in digests.values():
            each.update(chunk)
        write(chunk)
    if length < target.length:
        raise Refused(Code.IMAGE_TRUNCATED, f"{where}: {length} bytes of {target.length}")
    for name, each in digests.items():
        if each.hexdigest() != target.hashes[name]:
            raise Refused(Code.TARGET_HASH_MISMATCH, f"{where}: {name} is not the signed one")


def _is_there(place: Path, target: TargetFile) -> bool:
    if not place.is_file():
        return False
    try:
        with place.open("rb") as file:
            _receive(target, iter(lambda: file.read(_CHUNK), b""), len)
    except Refused:
        return False
    return True


@contextmanager
def _answer(url: str) -> Iterator[Iterable[bytes] | None]:
    """The body of `url` in pieces, None if the server says it has none.

    Raises Refused: URL_NOT_ALLOWED, METADATA_UNAVAILABLE.
    """
    try:
        parts = urlsplit(url)
        allowed = parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in _LOOPBACK
        )
    except ValueError:
        allowed = False
    if not allowed:
        raise Refused(
            Code.URL_NOT_ALLOWED, f"{url[:80]!r}: https is needed, http on this machine only"
        )
    try:
        with urllib3.PoolManager(timeout=_PATIENCE_S, retries=False) as pool:
            answer = pool.request("GET", url, preload_content=False, redirect=False)
            if answer.status in _NOT_THERE:
                yield None
            elif answer.status == HTTPStatus.OK:
                yield answer.stream(_CHUNK, decode_content=False)
            else:
                raise Refused(Code.METADATA_UNAVAILABLE, f"{url[:80]}: status {answer.status}")
    except urllib3.exceptions.HTTPError as error:
        raise Refused(
            Code.METADATA_UNAVAILABLE, f"{url[:80]}: {type(error).__name__}, no whole answer"
        ) from None


def _file_name(target: str) -> str:
    """One file's name for the TUF path `target`: nothing in it can lead out of the folder."""
    quoted = quote(target, safe="")
    if quoted.strip(".") and len(quoted) <= _LONGEST_NAME:
        return quoted
    return hashlib.sha256(target.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
