"""Which release may follow which: decided by what the controller itself answers, and by a floor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.scenario_bench import running_rig, untouched, update_in, update_refused

pytestmark = pytest.mark.scenario


@pytest.mark.requirement("A3")
def test_no_release_goes_back_and_none_is_installed_twice(tmp_path: Path) -> None:
    with running_rig(tmp_path, driving=False, consent="approve") as rig:
        pid = rig.agent.pid
        rig.tell("backend", "assign", image={"baseVersions": ["2.2.0", "2.3.0"]})
        unfit = rig.notify()
        status = update_refused(rig, unfit, "failed", "BaseVersionMismatch")
        assert status.refusal is not None
        assert "'2.3.1'" in status.refusal.detail
        untouched(rig)

        rig.tell("backend", "assign")
        assert update_in(rig, rig.notify(), "completed").software_after == "2.4.0"
        writes = rig.tell("controller", "state")["writes"]

        again = rig.notify()
        update_refused(rig, again, "failed", "AlreadyInstalled")

        rig.tell("backend", "assign", image={"releaseCounter": 6})
        older = rig.notify()
        update_refused(rig, older, "rejected", "ReleaseCounterTooLow")

        after = rig.tell("controller", "state")
        assert (after["version"], after["writes"]) == ("2.4.0", writes)
        assert rig.agent.pid == pid
