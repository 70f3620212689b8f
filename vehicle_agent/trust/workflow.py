"""The order of a repository's workflow, from any source of files. Pure: no I/O.

A workflow is a generator: it yields the `Want` of a file and is sent the file's bytes, or None if
the source has none. `drive` answers from a function (a folder, a bundle, memory), `drive_async`
from a coroutine (a server). `verify_files` is the whole for files that are all at hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import datetime
from typing import NamedTuple, TypeVar

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.repository import RepositoryTrust

MOST_ROTATIONS = 256
"""How many roots one refresh goes forward at most."""

R = TypeVar("R")


class Want(NamedTuple):
    """A file that is needed: its name at the source and, if its parent says so, its length."""

    name: str
    length: int | None = None


Workflow = Generator[Want, bytes | None, R]
Fetch = Callable[[Want], bytes | None]
FetchAsync = Callable[[Want], Awaitable[bytes | None]]


def refresh(trust: RepositoryTrust, now: datetime) -> Workflow[None]:
    """Root, Timestamp, Snapshot and top-level Targets metadata, in the order of the standard.

    `now` is trusted time (UTC). A stored snapshot or targets file is used where it is the one that
    its parent names. Raises Refused with a trust code; METADATA_UNAVAILABLE for a missing file.
    """
    for _ in range(MOST_ROTATIONS):
        root = yield Want(f"{trust.next_root}.root.json")
        if root is None:
            break
        trust.rotate_root(root)
    trust.close_root(now)
    trust.accept_timestamp((yield from need(Want("timestamp.json"))))
    snapshot = trust.stored("snapshot", trust.root)
    trust.accept_snapshot(snapshot or (yield from need(want(trust, "snapshot"))))
    targets = trust.stored("targets", trust.root)
    trust.accept_targets(targets or (yield from need(want(trust, "targets"))))


def want(trust: RepositoryTrust, role: str) -> Want:
    """The file of `role`, as its parent describes it."""
    meta = trust.described(role)
    return Want(trust.file_name(role), None if meta is None else meta.length)


def need(file: Want, missing: Code = Code.METADATA_UNAVAILABLE) -> Workflow[bytes]:
    """The file; raises Refused(`missing`) if the source has none."""
    data = yield file
    if data is None:
        raise Refused(missing, f"{file.name[:80]}: the repository does not have it")
    return data


def drive(workflow: Workflow[R], fetch: Fetch) -> R:
    """Go through `workflow`, asking `fetch` for each file."""
    try:
        file = next(workflow)
        while True:
            file = workflow.send(fetch(file))
    except StopIteration as end:
        result: R = end.value
        return result


async def drive_async(workflow: Workflow[R], fetch: FetchAsync) -> R:
    """Go through `workflow`, awaiting `fetch` for each file."""
    try:
        file = next(workflow)
        while True:
            file = workflow.send(await fetch(file))
    except StopIteration as end:
        result: R = end.value
        return result


def verify_files(trust: RepositoryTrust, files: Mapping[str, bytes], now: datetime) -> None:
    """Verify one repository's complete role files: names as at a server, to bytes.

    Afterwards `trust.targets` holds, and `delegations.locate` finds targets with `drive` over
    `files.get(want.name)`. Raises Refused as `refresh`.
    """
    drive(refresh(trust, now), lambda file: files.get(file.name))
