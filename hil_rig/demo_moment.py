"""What the demo sees at one instant: the agent's status, the car, the display, the backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil_rig.control import ControlError
from hil_rig.launch import Rig

WAY = (
    "noticed",
    "verified",
    "downloading",
    "ready",
    "approved",
    "installing",
    "activating",
    "probation",
    "completed",
)
ENDED = frozenset({"completed", "rejected", "failed", "cancelled", "rolled_back", "superseded"})


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One park condition: `value` is "true", "false" or "unknown"; `reason` says why not true."""

    name: str
    value: str
    reading: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Bytes done of all in one phase of a step, and bytes per second so far."""

    phase: str
    done: int
    total: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Everything at one instant; `at` is seconds since the parts were up.

    `feedback` holds what the backend has received of the update, in order; `car` is the car's
    control answer, `words` the purpose line by locale while the display shows it.
    """

    at: float
    state: str = "idle"
    agent_up: bool = True
    conditions: tuple[Condition, ...] = ()
    parked: str = "unknown"
    inhibited: bool = False
    progress: Progress | None = None
    refusal: str | None = None
    software_before: str | None = None
    software_after: str | None = None
    outbox: int = 0
    car: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    feedback: tuple[Mapping[str, Any], ...] = ()
    told_completed: bool = False

    @property
    def reached(self) -> set[str]:
        """States that the update has been in, as reported or as the agent says now."""
        return {str(each["state"]) for each in self.feedback if "state" in each} | {self.state}

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen, and everything about it has been reported."""
        all_told = self.outbox == 0 and (self.told_completed or self.state != "completed")
        return self.agent_up and self.state in ENDED and all_told


class Observer:
    """Asks the parts; what does not answer at the moment is as it was last seen."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._last: Mapping[str, Any] = {}
        self._texts: dict[str, str] = {}

    def look(self, at: float) -> Moment:
        """Return what is so at `at`."""
        return Moment(
            at=at,
            **{**self._last, **self._agent(), **self._car(), **self._display(), **self._backend()},
        )

    def _agent(self) -> dict[str, Any]:
        status = self._rig.status()
        if status is None:
            return {"agent_up": False, "progress": None}
        progress = status.progress
        seen: dict[str, Any] = {
            "state": str(status.state),
            "conditions": tuple(
                Condition(name=c.name, value=c.value, reading=c.reading, reason=c.reason)
                for c in status.conditions
            ),
            "parked": status.parked,
            "inhibited": status.drive_inhibited,
            "refusal": status.refusal and f"{status.refusal.code}: {status.refusal.detail}",
            "software_before": status.software_before,
            "software_after": status.software_after,
            "outbox": status.outbox,
        }
        self._last = seen
        if progress is not None and _belongs(progress.phase, seen["state"]):
            note = Progress(
                phase=progress.phase,
                done=progress.done,
                total=progress.total,
                rate=progress.bytes_per_s,
            )
            return {**seen, "progress": note}
        return seen

    def _car(self) -> dict[str, Any]:
        return {"car": self._ask("car")}

    def _display(self) -> dict[str, Any]:
        seen = self._ask("hmi")
        showing = seen.get("showing")
        if showing and not self._texts:
            self._texts = {showing["locale"]: showing["texts"]["purpose"], **self._english()}
        answers = tuple(str(answer["status"]) for answer in seen.get("answers", ()))
        return {"words": dict(self._texts), "answers": answers}

    def _english(self) -> dict[str, str]:
        """The same line in English, from the metadata that the agent has verified."""
        entry = target_of(verified_metadata(self._rig.folder, "director")["targets"])
        return {"en": str(entry["custom"]["campaign"]["texts"]["en"]["purpose"])}

    def _backend(self) -> dict[str, Any]:
        cars = self._ask("backend").get("cars", {})
        car = cars.get(self._rig.bench.vin, {})
        return {
            "feedback": tuple(car.get("feedback", ())),
            "told_completed": bool(car.get("completed")),
        }

    def _ask(self, part: str) -> dict[str, Any]:
        try:
            return self._rig.tell(part, "state")
        except ControlError:
            return {}


def _belongs(phase: str, state: str) -> bool:
    """Whether a step's last note of progress is about the state that the update is in."""
    return state == ("downloading" if phase == "download" else "installing")


def verified_metadata(folder: Path, repository: str) -> dict[str, Any]:
    """`root` and `targets` of a repository as the agent keeps them after it has verified them."""
    kept = folder / "state" / "trust" / "metadata" / repository
    root = kept / "root.json"
    if not root.exists():
        (root,) = (folder / "backend" / "cars").glob(f"*/{repository}-root.json")
    files = {"root": root, "targets": kept / "targets.json"}
    return {role: json.loads(path.read_bytes()) for role, path in files.items()}


def target_of(targets: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one target of a targets role."""
    (entry,) = targets["signed"]["targets"].values()
    return dict(entry)
