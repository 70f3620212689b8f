"""What the campaign desk has heard, each message once, and what follows for each recall.

Pure: messages in, counts out. Replaying the same messages gives the same ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hil_rig.backend.campaign import Recall

REPORTS = ("desiredstatefeedback", "currentstate", "manifest", "incident", "ownerconsentfeedback")
_COUNTED = ("notified", "consented", "declined", "completed", "failed")
_NOT_IN_STAGE = "NoUpdate"
_FAILED = {"IDENTIFICATION_FAILED", "INCOMPLETE", "INCOMPLETE_INCONSISTENT"}


@dataclass
class CarRecord:
    """One car: every report in order of arrival, by topic, and where it stands."""

    reports: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in REPORTS}
    )
    notified: bool = False
    consented: bool = False
    declined: bool = False
    status: str | None = None
    completed: bool = False
    has_its_turn: bool = True

    @property
    def failed(self) -> bool:
        """Whether the remedy did not succeed, other than by the owner's no or its turn to come."""
        tried = self.has_its_turn and not self.declined
        return tried and not self.completed and self.status in _FAILED


class Ledger:
    """Counts by car and recall; `recalls` maps VINs to the recall each car belongs to."""

    def __init__(self, recalls: Mapping[str, Recall]) -> None:
        self._recalls = dict(recalls)
        self._seen: set[str] = set()
        self.cars: dict[str, CarRecord] = {vin: CarRecord() for vin in recalls}
        self.duplicates = 0

    def notified(self, vin: str) -> None:
        """A notice was sent to this car."""
        self.cars[vin].notified = True

    def take(self, vin: str, report: str, envelope: Mapping[str, Any]) -> bool:
        """Enter one message; False if it was entered before or is for a car unknown here.

        The same `messageId` is the same message. An owner's answer has none: its challenge and
        status stand for it. Raises KeyError or TypeError for a message of another shape.
        """
        payload = envelope["payload"]
        if not isinstance(payload, dict):
            raise TypeError("payload is not an object")
        identity = envelope.get("messageId") or f"{payload['challenge']} {payload['status']}"
        if vin not in self.cars:
            return False
        if identity in self._seen:
            self.duplicates += 1
            return False
        car = self.cars[vin]
        if report == "desiredstatefeedback":
            car.status = str(payload["status"])
            car.has_its_turn = payload.get("code") != _NOT_IN_STAGE
            car.completed = car.completed or car.status == "COMPLETED"
        elif report == "ownerconsentfeedback":
            car.consented = car.consented or payload["status"] == "APPROVED"
            car.declined = payload["status"] == "DENIED"
        car.reports[report].append(dict(envelope))
        self._seen.add(identity)
        return True

    def counts(self) -> dict[str, dict[str, int]]:
        """Per recall number: cars of the recall, and how far those known here have come (E8)."""
        table: dict[str, dict[str, int]] = {}
        for vin, recall in self._recalls.items():
            car = self.cars[vin]
            row = table.setdefault(
                recall.number,
                {"affected": recall.cars, "open": recall.cars} | dict.fromkeys(_COUNTED, 0),
            )
            for name in _COUNTED:
                row[name] += bool(getattr(car, name))
            row["open"] = row["affected"] - row["completed"]
        return table
