"""What came of the demo: facts from every part, the rows of the summary, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil_rig.backend.ledger import REPORTS
from hil_rig.demo_moment import Moment, Progress, verified_metadata
from hil_rig.launch import Rig

PHASE = "programming"


class Meter:
    """How many bytes the controller takes, and how fast; `note` at every moment."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)
        self.total = 0

    def note(self, at: float, progress: Progress | None) -> None:
        """Take one reading; programming that begins anew is measured anew."""
        if progress is None or progress.phase != PHASE:
            return
        self.total = progress.total
        if self._first is None or progress.done < self._last[1]:
            self._first = (at, progress.done)
        if progress.done != self._last[1]:
            self._last = (at, progress.done)

    @property
    def bytes_per_s(self) -> float | None:
        """The mean, or None where it was over too soon to be measured."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Who signed the targets of one repository: key ids, and how many of how many are needed."""

    repository: str
    keys: tuple[str, ...]
    threshold: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the summary tells. `reports` counts by kind; durations in seconds."""

    state: str
    refusal: str | None
    recall: str
    vin: str
    before: str | None
    after: str | None
    wanted: str
    controller: Mapping[str, Any]
    length: int
    programmed: int
    signatures: tuple[Signature, ...]
    manifests: tuple[bool, ...]
    bytes_per_s: float | None
    start_s: float
    duration_s: float
    reports: Mapping[str, int]
    duplicates: int
    told_completed: bool


def gather(rig: Rig, moment: Moment, meter: Meter, start_s: float) -> Facts:
    """Ask controller and backend, and read what the agent has verified."""
    info, desk = rig.tell("backend", "info"), rig.tell("backend", "state")
    reports = rig.tell("backend", "reports")["reports"]
    car = desk["cars"][rig.bench.vin]
    return Facts(
        state=moment.state,
        refusal=moment.refusal,
        recall=str(info["recall"]),
        vin=rig.bench.vin,
        before=moment.software_before,
        after=moment.software_after,
        wanted=str(info["version"]),
        controller=rig.tell("controller", "state"),
        length=(rig.folder / "release.image").stat().st_size,
        programmed=meter.total,
        signatures=_signatures(rig.folder),
        manifests=tuple(bool(each["verified"]) for each in car["manifests"]),
        bytes_per_s=meter.bytes_per_s,
        start_s=start_s,
        duration_s=moment.at,
        reports={kind: len(reports[kind]) for kind in REPORTS},
        duplicates=int(desk["duplicates"]),
        told_completed=moment.told_completed,
    )


def rows(facts: Facts) -> list[tuple[str, str]]:
    """The summary as label and words."""
    controller = facts.controller
    bank = "AB"[int(controller["active"])]
    rate = f" at {facts.bytes_per_s:,.0f} bytes/s" if facts.bytes_per_s else ""
    counted = ", ".join(f"{kind} {count}" for kind, count in facts.reports.items() if count)
    good = bool(facts.manifests) and all(facts.manifests)
    return [
        ("recall", f"{facts.recall}, car {facts.vin}"),
        ("result", facts.state),
        ("software", f"{facts.before or '?'} → {facts.after or '?'} as read back (22 F189)"),
        (
            "controller says",
            f"{controller['version']} in bank {bank}, "
            f"{'still on trial' if controller['trial'] else 'confirmed'}, "
            f"RXSWIN {controller['rxswin']}",
        ),
        *(
            (
                f"{each.repository} targets",
                f"signed by {', '.join(each.keys)} ({each.threshold} of {each.of} needed)",
            )
            for each in facts.signatures
        ),
        (
            "vehicle manifest",
            f"{len(facts.manifests)} received, signature verified by the backend: "
            f"{'yes' if good else 'no'}",
        ),
        ("image", f"{facts.length:,} bytes, {facts.programmed:,} programmed{rate}"),
        ("duration", f"{facts.duration_s:.1f} s, and {facts.start_s:.1f} s to start the parts"),
        ("reports received", f"{counted}; duplicates {facts.duplicates}"),
    ]


def problems(facts: Facts) -> list[str]:
    """What is not as it should be, a line each; empty after a good run."""
    found = []
    controller = facts.controller
    if facts.state != "completed":
        why = f" ({facts.refusal})" if facts.refusal else ""
        found.append(f"the update ended as {facts.state}, not completed{why}")
    if facts.after != facts.wanted:
        found.append(f"the agent read back {facts.after!r}, the release is {facts.wanted!r}")
    if controller["version"] != facts.wanted:
        found.append(f"the controller runs {controller['version']!r}, not {facts.wanted!r}")
    if controller["trial"]:
        found.append("the controller's new software is still on trial")
    if not facts.told_completed:
        found.append("the backend was not told of a completed update")
    if not facts.manifests or not all(facts.manifests):
        found.append("the backend has no vehicle manifest with a good signature")
    return found


def _signatures(folder: Path) -> tuple[Signature, ...]:
    """Of the metadata that the agent keeps; nothing where it has verified none."""
    try:
        return tuple(
            _signature(name, verified_metadata(folder, name)) for name in ("director", "image")
        )
    except FileNotFoundError:
        return ()


def _signature(name: str, files: Mapping[str, Any]) -> Signature:
    role = files["root"]["signed"]["roles"]["targets"]
    kinds = files["root"]["signed"]["keys"]
    signers = [each["keyid"] for each in files["targets"]["signatures"]]
    return Signature(
        repository=name,
        keys=tuple(
            f"{kinds[key]['keytype']} {key[:12]}…" for key in signers if key in role["keyids"]
        ),
        threshold=int(role["threshold"]),
        of=len(role["keyids"]),
    )
