"""The vehicle version manifest: what each controller runs, signed by the car. Pure.

The envelope is aktualizr's, as Uptane's Director reads it: one signed statement a controller
within the Primary's signed statement. The head of the audit chain goes in too, so that a log
cut off at its end shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vehicle_agent.strict_json import canonical
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.keys import Signer

REPORT_COUNTER = "report_counter"
"""Name of the report counter in the MonotonicStore."""


@dataclass(frozen=True, kw_only=True)
class EcuReport:
    """What one controller runs, and the attacks seen on its way there (refusal code to count)."""

    serial: str
    hardware_id: str
    filepath: str
    length: int
    sha256: str
    software_version: str
    rxswin: str
    attack_counts: Mapping[str, int] = field(default_factory=dict)


def build_manifest(
    *,
    vin: str,
    primary_serial: str,
    reports: Sequence[EcuReport],
    time: datetime | None,
    audit_head: str,
    floors: MonotonicStore,
    signer: Signer,
) -> dict[str, Any]:
    """The signed manifest, with the next report counter; `time` is trusted time or None.

    `audit_head` is the digest at the end of the audit chain, in hex.
    """
    counter = floors.raise_to(REPORT_COUNTER, floors.get(REPORT_COUNTER) + 1)
    attested = None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
    statements = {
        report.serial: _sign(_statement(report, attested, counter), signer) for report in reports
    }
    return _sign(
        {
            "vin": vin,
            "primary_ecu_serial": primary_serial,
            "ecu_version_manifests": statements,
            "report_counter": counter,
            "audit_head": audit_head,
        },
        signer,
    )


def _statement(report: EcuReport, attested: str | None, counter: int) -> dict[str, Any]:
    return {
        "ecu_serial": report.serial,
        "hardware_id": report.hardware_id,
        "installed_image": {
            "filepath": report.filepath,
            "fileinfo": {"length": report.length, "hashes": {"sha256": report.sha256}},
        },
        "software_version": report.software_version,
        "rxswin": report.rxswin,
        "attacks_detected": ",".join(report.attack_counts),
        "attack_counts": dict(report.attack_counts),
        "timeserver_time": attested,
        "report_counter": counter,
    }


def _sign(signed: dict[str, Any], signer: Signer) -> dict[str, Any]:
    signature = {
        "keyid": signer.keyid,
        "method": "ed25519",
        "sig": signer.sign(canonical(signed)).hex(),
    }
    return {"signed": signed, "signatures": [signature]}
