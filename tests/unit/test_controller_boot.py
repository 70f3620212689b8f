"""Which bank of the simulated controller runs: decisions alone, and with a server around them."""

import itertools

import msgspec
import pytest

from hil_rig.controller import boot
from hil_rig.controller.boot import BootState, Next, Outcome
from tests.unit.controller_driver import NEW, Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("active", "after", "trial", "revertible"),
    list(itertools.product((0, 1), Next, (False, True), (False, True))),
)
def test_at_a_reset_the_bank_asked_for_takes_over(active, after, trial, revertible):
    state = BootState(
        active=active, next=after, trial=trial, revertible=revertible, boots=7, failed_boots=1
    )
    new = boot.at_reset(state)
    if after is Next.SAME:
        assert new == state
        return
    assert new.active == 1 - active
    assert (new.boots, new.failed_boots, new.next) == (0, 0, Next.SAME)
    assert new.trial is new.revertible is (after is Next.TRIAL)


@pytest.mark.parametrize(
    ("failed", "boots", "outcome", "active"),
    [
        (0, (True, True), Outcome.RUNS, 0),
        (2, (True, True), Outcome.RUNS, 0),
        (0, (False, True), Outcome.AGAIN, 0),
        (1, (False, True), Outcome.AGAIN, 0),
        (2, (False, True), Outcome.AGAIN, 1),
        (2, (False, False), Outcome.BOOTLOADER, 0),
        (1, (False, False), Outcome.AGAIN, 0),
    ],
)
@pytest.mark.parametrize("trial", [False, True])
def test_a_bank_that_fails_three_times_is_left_for_a_bootable_one(
    failed, boots, outcome, active, trial
):
    state = BootState(failed_boots=failed, trial=trial, revertible=trial, hashes=("a", "b"))
    made = boot.attempt(state, lambda _state, bank: boots[bank])
    assert (made.outcome, made.state.active) == (outcome, active)
    if active == 1:
        assert made.state.hashes == (None, "b")
        assert not made.state.trial
        assert not made.state.revertible


def test_the_boot_count_stops_at_its_largest_value():
    state = BootState(boots=255)
    assert boot.attempt(state, lambda _state, _bank: True).state.boots == 255


def test_both_banks_failing_ends_in_the_bootloader_and_not_in_a_loop():
    state = BootState(hashes=("a", "b"))
    for _ in range(10):
        state, outcome = boot.attempt(state, lambda s, bank: s.active != bank)
        if outcome is Outcome.BOOTLOADER:
            return
    pytest.fail("no end")


def test_new_software_boots_on_trial_and_is_confirmed(bench):
    bench.install()
    assert (bench.did("f189"), bench.did("f1ef")) == ("2.0.0", "RX-NEW")
    assert bench.banks() == (1, 1, 1, 1)
    bench.one("1003")
    assert bench.one("31010203") == "7101020301"
    assert bench.one("31010212") == "7101021200"
    assert bench.one("31010211") == "7101021100"
    assert bench.one("31010211") == "7101021100"
    assert bench.one("31010210") == "7f3122"
    assert bench.banks() == (1, 0, 1, 0)
    bench.reset()
    assert bench.did("f189") == "2.0.0"
    assert bench.banks() == (1, 0, 2, 0)


@pytest.mark.requirement("C1")
def test_a_revert_runs_the_previous_software_after_the_next_reset(bench):
    bench.install()
    bench.one("1003")
    assert bench.one("31010210") == "7101021000"
    assert bench.one("31010210") == "7101021000"
    assert bench.one("31010211") == "7f3122"
    assert bench.did("f189") == "2.0.0"
    bench.reset()
    assert (bench.did("f189"), bench.did("f1ef")) == ("1.0.0", "RX-OLD")
    assert bench.banks() == (0, 0, 1, 0)


def test_a_revert_before_the_trial_boot_takes_the_trial_back(bench):
    bench.programming()
    bench.download()
    bench.one("3101ff01")
    bench.one("1003")
    assert bench.one("31010210") == "7101021000"
    bench.reset()
    assert bench.did("f189") == "1.0.0"


@pytest.mark.requirement("C1")
def test_software_that_does_not_boot_is_left_after_three_attempts(bench):
    bench.fault(kind="refuse_boot", mode="no_boot")
    bench.programming()
    bench.download()
    bench.one("3101ff01")
    bench.one("1101")
    bench.wait(3.99)
    assert bench.ask("3e00") == []
    bench.wait(0.01)
    assert bench.did("f189") == "1.0.0"
    assert bench.did("f1ef") == "RX-OLD"
    assert bench.banks() == (0, 0, 1, 0)


def test_attempts_to_boot_are_counted_over_a_loss_of_power(bench):
    bench.fault(kind="refuse_boot", mode="no_boot")
    bench.programming()
    bench.download()
    bench.one("3101ff01")
    for _ in range(3):
        bench.unit.power_off()
        bench.unit.power_on(bench.now)
        bench.wait(1.0)
    bench.unit.power_off()
    bench.unit.power_on(bench.now)
    bench.wait(1.0)
    assert bench.did("f189") == "1.0.0"


def test_software_changed_after_the_dependency_check_does_not_boot(bench):
    bench.programming()
    bench.download()
    bench.one("3101ff01")
    bench.memory.erase(1, 2048, 16)
    bench.one("1101")
    bench.wait(4.0)
    assert bench.did("f189") == "1.0.0"


def test_an_erase_after_the_dependency_check_takes_the_trial_back(bench):
    bench.programming()
    bench.download()
    bench.one("3101ff01")
    assert bench.one("3101ff00440800800000000010") == "7101ff0000"
    bench.reset()
    assert bench.did("f189") == "1.0.0"


def test_the_way_back_cannot_be_erased_during_a_trial(bench):
    bench.install()
    bench.programming()
    before = bench.memory.writes
    assert bench.one("3101ff00440800000000000100") == "7f3122"
    assert bench.one("3400440800000000000100") == "7f3422"
    assert bench.one("3101ff01") == "7f3122"
    assert bench.memory.writes == before


@pytest.mark.parametrize(
    ("mode", "version", "self_test"),
    [("self_test", "2.0.0", "01"), ("wrong_version", "9.9.9", "00")],
)
def test_new_software_can_be_made_to_boot_and_yet_be_wrong(bench, mode, version, self_test):
    bench.fault(kind="refuse_boot", mode=mode, version="9.9.9")
    bench.install()
    assert bench.did("f189") == version
    bench.one("1003")
    assert bench.one("31010212") == f"71010212{self_test}"
    bench.one("31010210")
    bench.reset()
    assert bench.did("f189") == "1.0.0"
    bench.one("1003")
    assert bench.one("31010212") == "7101021200"


def test_the_bootloader_takes_new_software_where_no_bank_boots(bench):
    bench.memory.erase(0, 0, 16)
    bench.reset()
    assert bench.did("f189") == "bootloader"
    assert bench.unit.status() == (3, 0, 0, 4, 2)
    bench.install(NEW)
    assert bench.did("f189") == "2.0.0"


def test_the_status_tells_bank_trial_and_programming(bench):
    assert bench.unit.status() == (1, 0, 0, 1, 0)
    bench.programming()
    assert bench.unit.status() == (4, 0, 0, 1, 0)
    bench.one("1001")
    bench.install()
    assert bench.unit.status() == (1, 1, 1, 1, 0)


def test_the_state_is_kept_word_for_word(bench):
    bench.install()
    kept = msgspec.json.decode(msgspec.json.encode(bench.memory.state), type=BootState)
    assert kept == bench.memory.state
