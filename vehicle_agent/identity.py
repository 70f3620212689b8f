"""Which car this is, and which controllers it has: the table `[vehicle]` of the configuration.

A leaf. A file can be wrong: the controller is asked (F190, F18C, F191) before anything is erased.
"""

from __future__ import annotations

import re
from datetime import date

import msgspec

_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")


class EcuIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One controller that may be updated.

    `component` is its name in notices, `serial` and `hardware_id` what it answers to F18C and
    F191, `profile` the path of its controller profile, `bus` the name of a `[bus.<name>]` table.
    """

    component: str
    serial: str
    hardware_id: str
    profile: str
    bus: str

    def __post_init__(self) -> None:
        for name in ("component", "serial", "hardware_id", "profile", "bus"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")


class VehicleIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The car: VIN, model code as in the recall filing, production date, controllers."""

    vin: str
    model: str
    production_date: date
    ecus: tuple[EcuIdentity, ...]

    def __post_init__(self) -> None:
        if not _VIN.fullmatch(self.vin):
            raise ValueError(
                f"vin {self.vin!r} is not a VIN: 17 of the letters A to Z without I, O, Q, "
                "and digits"
            )
        for name in ("component", "serial"):
            values = [getattr(ecu, name) for ecu in self.ecus]
            if len(set(values)) != len(values):
                raise ValueError(f"two of the ecus have the same {name}")
        if not self.ecus:
            raise ValueError("ecus is empty; at least one [[vehicle.ecus]] is needed")

    def ecu(self, component: str) -> EcuIdentity | None:
        """The controller that notices call `component`, or None."""
        return next((ecu for ecu in self.ecus if ecu.component == component), None)

    def ecu_by_serial(self, serial: str) -> EcuIdentity | None:
        """The controller with this serial, or None."""
        return next((ecu for ecu in self.ecus if ecu.serial == serial), None)
