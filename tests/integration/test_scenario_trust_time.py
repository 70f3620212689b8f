"""Without attested time nothing is believed; with it the same notice goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil_rig.launch import Rig
from tests.integration.scenario_bench import (
    message_refused,
    running_rig,
    untouched,
    update_in,
    update_refused,
)

pytestmark = pytest.mark.scenario


def restart(rig: Rig, *change: str) -> None:
    """Start the daemon anew, so that it has no time yet; `change` is a text and its new one."""
    rig.agent.stop()
    if change:
        path = rig.folder / "agent.toml"
        path.write_text(path.read_text().replace(*change))
    rig.agent.start()
    rig.wait(lambda status: status.broker_connected, "a broker connection")


@pytest.mark.requirement("A3")
def test_a_silent_or_false_time_server_stops_everything_until_a_true_one_answers(
    tmp_path: Path,
) -> None:
    with running_rig(tmp_path, driving=False, consent="silence") as rig:
        rig.tell("backend", "time", answers=False)
        restart(rig)
        silent = rig.notify()
        status = update_refused(rig, silent, "noticed", "NoTrustedTime")
        assert status.trusted_time is None
        rig.tell("backend", "time", answers=True)
        assert update_in(rig, silent, "ready").trusted_time is not None

        restart(rig, "time.pub", "hmi.pub")
        status = message_refused(rig, "TimeAttestationInvalid")
        assert (status.trusted_time, status.state) == (None, "ready")
        false = rig.notify()
        restart(rig, '/hmi.pub"\nvehicle_key', '/time.pub"\nvehicle_key')
        assert update_in(rig, false, "ready").trusted_time is not None
        untouched(rig)
