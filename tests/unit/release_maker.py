"""A release that trust has proved, as the rooms behind it get it."""

from __future__ import annotations

import msgspec

from hil_rig.backend.campaign import S2025M0149I
from tests.unit.trust_world import HARDWARE, SERIAL, VIN, release
from vehicle_agent.release import Campaign, Release, ReleaseFacts
from vehicle_agent.strict_json import digest


def make_release(*, facts=None, campaign=None) -> Release:
    """One release for one car; `facts` and `campaign` override fields (Python names)."""
    source = release()
    described = msgspec.convert(source.custom(), ReleaseFacts)
    recall = msgspec.convert(S2025M0149I.custom(VIN, minutes=25), Campaign)
    recall = msgspec.structs.replace(recall, **(campaign or {}))
    return Release(
        component="adas-controller",
        ecu_serial=SERIAL,
        hardware_id=HARDWARE,
        filepath=source.path,
        length=len(source.image),
        sha256="ab" * 32,
        image_url="https://localhost/image/targets/x",
        facts=msgspec.structs.replace(described, **(facts or {})),
        campaign=recall,
        correlation_id="campaign-1",
        manifest_sha256="aa" * 32,
        texts_sha256=digest(msgspec.to_builtins(recall.texts)),
        signed_by=("key",),
    )
