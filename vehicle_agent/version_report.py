"""What the car says of its controllers in the vehicle version manifest."""

from __future__ import annotations

from collections.abc import Mapping

from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.trust.manifest import EcuReport
from vehicle_agent.update import State, Update


def running_software(update: Update) -> str | None:
    """What the controller last answered; None where neither software could be read back."""
    if update.state is State.RECOVERY_REQUIRED:
        return None
    return update.software_after or update.software_before


def ecu_reports(
    vehicle: VehicleIdentity, update: Update | None, attacks: Mapping[str, int]
) -> list[EcuReport]:
    """One report for the controller of `update`, or for every one where no update says more.

    `attacks` (refusal code to count) are told with the first.
    """
    counts = dict(sorted(attacks.items()))
    if update is not None and update.release is not None:
        release = update.release
        runs = running_software(update) or ""
        is_new = runs == release.facts.version
        return [
            EcuReport(
                serial=release.ecu_serial,
                hardware_id=release.hardware_id,
                filepath=release.filepath if is_new else "",
                length=release.length if is_new else 0,
                sha256=release.sha256 if is_new else "",
                software_version=runs,
                rxswin=update.rxswin_after or release.facts.rxswin.before,
                attack_counts=counts,
            )
        ]
    return [
        EcuReport(
            serial=ecu.serial,
            hardware_id=ecu.hardware_id,
            filepath="",
            length=0,
            sha256="",
            software_version="",
            rxswin="",
            attack_counts=counts if number == 0 else {},
        )
        for number, ecu in enumerate(vehicle.ecus)
    ]
