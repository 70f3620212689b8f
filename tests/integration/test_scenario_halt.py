"""The maker stops a campaign, or has not reached this car yet: what the car does, and tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.scenario_bench import reports, running_rig, told, untouched, update_in

pytestmark = pytest.mark.scenario


@pytest.mark.requirement("E2")
def test_a_halt_reaches_a_car_that_waits_to_be_parked(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=True, consent="approve") as rig:
        activity = rig.notify()
        update_in(rig, activity, "approved")
        rig.tell("backend", "halt")
        rig.notify(activity_id=activity)
        status = update_in(rig, activity, "failed")
        assert status.refusal is not None
        assert status.refusal.code == "CampaignHalted"
        assert told(rig, activity, code="CampaignHalted")["state"] == "failed"
        rig.tell("car", "park")
        untouched(rig)


@pytest.mark.requirement("E2")
def test_a_halt_in_probation_brings_the_old_software_back_and_a_lifted_one_starts_anew(
    tmp_path: Path,
) -> None:
    with running_rig(tmp_path, driving=False, consent="approve", soak_minutes=60) as rig:
        activity = rig.notify()
        update_in(rig, activity, "probation")
        assert rig.tell("controller", "state")["version"] == "2.4.0"
        rig.tell("backend", "halt")
        rig.notify(activity_id=activity)
        status = update_in(rig, activity, "rolled_back")
        assert status.software_after == "2.3.1"
        assert status.refusal is not None
        assert status.refusal.code == "CampaignHalted"
        assert rig.tell("controller", "state")["version"] == "2.3.1"
        rig.wait(lambda s: s.outbox == 0, "all reports told")
        assert rig.tell("backend", "state")["recalls"]["S2025M0149I"]["completed"] == 0

        rig.tell("backend", "halt", halted=False)
        update_in(rig, rig.notify(), "probation")


@pytest.mark.requirement("A1")
def test_an_attacker_in_the_network_cannot_end_a_probation(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve", soak_minutes=60) as rig:
        activity = rig.notify()
        update_in(rig, activity, "probation")
        rig.tell("backend", "tamper", repository="director", role="timestamp", how="unknown_key")
        rig.notify(activity_id=activity)
        rig.wait(
            lambda s: s.outbox == 0 and "UnmetThreshold" in attacks(rig), "the attack reported"
        )
        assert update_in(rig, activity, "probation").refusal is None
        assert rig.tell("controller", "state")["version"] == "2.4.0"


@pytest.mark.requirement("B4")
def test_a_car_that_the_stage_has_not_reached_is_told_so_and_comes_later(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve") as rig:
        rig.tell("backend", "stage", vins=[])
        early = rig.notify()
        status = update_in(rig, early, "rejected")
        assert status.refusal is not None
        assert status.refusal.code == "NoUpdate"
        assert "stage" in status.refusal.lifted_by
        told(rig, early, code="NoUpdate")
        assert reports(rig, "incident") == []
        assert attacks(rig) == ""
        untouched(rig)

        rig.tell("backend", "stage", vins=[rig.bench.vin])
        update_in(rig, rig.notify(), "completed")


@pytest.mark.requirement("A5")
def test_an_attack_without_an_update_is_reported_in_a_signed_manifest(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve") as rig:
        rig.tell("backend", "tamper", repository="director", role="targets", how="unknown_key")
        update_in(rig, rig.notify(), "rejected")
        rig.wait(lambda s: s.outbox == 0 and attacks(rig) != "", "the attack reported")
        assert attacks(rig) == "UnmetThreshold"
        manifests = rig.tell("backend", "state")["cars"][rig.bench.vin]["manifests"]
        assert [m["verified"] for m in manifests] == [True]


@pytest.mark.requirement("A1")
def test_an_image_encrypted_for_this_car_is_opened_and_installed(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve", image_size=200_000) as rig:
        rig.tell("backend", "assign", encrypted=True)
        assert update_in(rig, rig.notify(), "completed").software_after == "2.4.0"
        served = rig.tell("backend", "state")["served"]
        assert f"/director/{rig.bench.vin}/targets/release.image" in served
        assert "/image/targets/release.image" not in served
        images = rig.folder / "state" / "images"
        assert [path.suffix for path in images.iterdir()] == [".image"]


@pytest.mark.requirement("A1")
def test_a_car_with_another_image_key_installs_nothing(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve") as rig:
        rig.tell("backend", "assign", encrypted=True, encrypted_for="somebody else")
        activity = rig.notify()
        assert told(rig, activity, code="DecryptionFailed")["state"] == "failed"
        untouched(rig)


def attacks(rig) -> str:
    """What the car's signed manifests have told of attacks, in order of arrival."""
    manifests = [report["payload"] for report in reports(rig, "manifest")]
    found = [
        statement["signed"]["attacks_detected"]
        for manifest in manifests
        for statement in manifest["signed"]["ecu_version_manifests"].values()
    ]
    return ",".join(filter(None, found))
