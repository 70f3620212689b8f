"""What the car does while its controller is written: held, or let go at once."""

from __future__ import annotations

from typing import Any

import pytest

from hil_rig.launch import Rig
from tests.integration.conftest import StartRig
from tests.integration.power_bench import completed, controller, listen, parked_car, until

pytestmark = [pytest.mark.scenario, pytest.mark.requirement("C3"), pytest.mark.requirement("C4")]

BLOCKS = 17
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "rolls": ("set", {"speed": 4.0}),
    "gear": ("set", {"gear": "R"}),
    "parking brake": ("set", {"epb": "RELEASED"}),
    "charging starts": ("set", {"charging": "CHARGING"}),
    "12 V weak": ("set", {"lv_state": "WEAK"}),
    "frame stops": ("fault", {"message": "ESP_Speed", "kind": "stop"}),
    "frame frozen": ("fault", {"message": "DU_Motion", "kind": "freeze"}),
    "bad CRC": ("fault", {"message": "EPB_Status", "kind": "bad_crc"}),
}
LEFT_ALONE = {"rolls"}


def half_written(rig: Rig) -> int:
    """Wait until the controller is in the middle of being programmed; its writes before."""
    rig.wait_for_state("installing")
    before: int = controller(rig)["programs"]
    until(lambda: controller(rig)["programs"] >= before + 3, "writing")
    return before


def left_alone_until_the_session_ends(rig: Rig) -> None:
    """Not even TesterPresent is sent: the controller's own timer (S3) ends its session."""
    with listen(rig, 0x7A0, 0x7DF) as bus:
        until(lambda: controller(rig)["session"] == "default", "end of the session (S3)")
        assert bus.recv(0) is None


@pytest.mark.parametrize("first", range(0, len(BAD), 2), ids=lambda first: list(BAD)[first])
def test_writing_stops_at_once_when_the_car_stops_being_parked(
    start_rig: StartRig, first: int
) -> None:
    rig = parked_car(start_rig, program_s=0.2)
    rig.notify()
    for what, (do, fault) in list(BAD.items())[first : first + 2]:
        before = half_written(rig)
        rig.tell("car", do, **fault)
        stopped = rig.wait(
            lambda s: s.state in {"approved", "activating"} and s.refusal is not None, what
        )
        assert stopped.state == "approved", what
        assert stopped.refusal is not None
        assert stopped.refusal.code in {"ParkLost", "InhibitLost"}, what
        if what != "gear":  # leaving P lets the drive unit's hold go as well
            assert stopped.refusal.code == "ParkLost", what
        until(lambda: not controller(rig)["busy"], "end of the block that had arrived")
        now = controller(rig)
        assert now["programs"] < before + BLOCKS, f"{what}: written to the end"
        assert (now["version"], now["active"], now["next"]) == ("2.3.1", 0, "same"), what
        assert rig.wait(lambda s: not s.drive_inhibited, "release").parked != "true"
        if what in LEFT_ALONE:
            left_alone_until_the_session_ends(rig)
        assert controller(rig)["programs"] == now["programs"], f"{what}: it goes on"
        rig.tell("car", "clear")
    completed(rig)


@pytest.mark.requirement("D3")
@pytest.mark.requirement("D5")
def test_a_car_is_written_only_if_held_then_refuses_to_drive_and_lets_people_out_and_in(
    start_rig: StartRig,
) -> None:
    rig = parked_car(start_rig, program_s=0.2)
    deaf = {"kind": "wrong_value", "signal": "DU_Inhibited", "value": "REFUSED"}
    rig.tell("car", "fault", message="DU_InhibitStatus", **deaf)
    rig.notify()
    code = "InhibitNotAcknowledged"
    rig.wait(lambda s: s.refusal is not None and s.refusal.code == code, code)
    assert controller(rig)["writes"] == 0
    rig.tell("car", "clear")
    half_written(rig)
    until(lambda: rig.tell("car", "state")["inhibited"] == "YES", "hold")
    rig.tell("car", "set", doors="OPEN", driver="OCCUPIED")
    for do, more in (("ready", {}), ("gear", {"gear": "D"}), ("gear", {"gear": "N"})):
        assert rig.tell("car", do, **more)["reason"] == "drive inhibited"
    assert controller(rig)["version"] == "2.3.1", "it was over before the driver came"
    assert completed(rig).refusal is None
    until(lambda: rig.tell("car", "state")["inhibited"] == "NO", "release")
    assert rig.tell("car", "ready")["granted"]
    assert rig.tell("car", "gear", gear="D")["granted"]
