"""The life of an update: what the table allows, and what no sequence of events can reach."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle_agent.refusals import RULES, Code, Refusal, Retry
from vehicle_agent.update import (
    CHANGING,
    ENDED,
    TABLE,
    Event,
    IllegalEvent,
    Kind,
    State,
    Update,
    advance,
    refusal_kind,
)

KINDS = st.sampled_from(Kind)


def an_update(state: State = State.NOTICED, attempts: int = 0) -> Update:
    return Update(
        activity_id="a1",
        component="adas-controller",
        version="2.4.0",
        director_url="https://localhost/director",
        image_url="https://localhost/image",
        notice_sha256="00",
        state=state,
        attempts=attempts,
    )


@pytest.mark.parametrize(("state", "kind"), list(product(State, Kind)))
def test_every_pair_moves_as_the_table_says_or_is_illegal(state: State, kind: Kind) -> None:
    update = an_update(state)
    if kind in TABLE.get(state, {}):
        assert advance(update, Event(kind=kind)).state is TABLE[state][kind]
    else:
        with pytest.raises(IllegalEvent):
            advance(update, Event(kind=kind))


def test_ended_states_have_no_way_on_and_all_others_do() -> None:
    assert {state for state in State if not TABLE.get(state)} == ENDED


def test_completed_is_reached_only_from_probation() -> None:
    ways = {(s, k) for s, row in TABLE.items() for k, to in row.items() if to is State.COMPLETED}
    assert ways == {(State.PROBATION, Kind.PROBATION_PASSED)}


@given(st.lists(KINDS, max_size=40))
def test_completed_needs_consent_a_start_and_two_readings(kinds: list[Kind]) -> None:
    update, passed = an_update(), []
    for kind in kinds:
        try:
            update = advance(update, Event(kind=kind))
        except IllegalEvent:
            continue
        passed.append(kind)
    assert update.state in State
    if update.state is State.COMPLETED:
        needed = [Kind.VERIFIED, Kind.DOWNLOADED, Kind.START_GRANTED, Kind.INSTALLED]
        for kind in [*needed, Kind.ACTIVATED, Kind.PROBATION_PASSED]:
            assert kind in passed
        assert {Kind.APPROVED, Kind.POSTPONED} & set(passed)


@given(st.lists(KINDS, max_size=40))
def test_writing_leaves_its_mark_for_good(kinds: list[Kind]) -> None:
    update, was_installing = an_update(), False
    for kind in kinds:
        try:
            update = advance(update, Event(kind=kind))
        except IllegalEvent:
            continue
        was_installing |= update.state is State.INSTALLING
        assert update.writes_started == was_installing


@pytest.mark.parametrize("state", sorted(CHANGING))
def test_no_notice_displaces_an_update_that_changes_the_controller(state: State) -> None:
    assert Kind.SUPERSEDED not in TABLE[state]


@pytest.mark.parametrize(("state", "code"), list(product(sorted(set(State) - ENDED), Code)))
def test_every_refusal_has_a_way_on_in_every_state(state: State, code: Code) -> None:
    for attempts, old_runs in product((0, 4, 100), (True, False)):
        update = an_update(state, attempts)
        refusal = Refusal(code, "found in the test")
        kind = refusal_kind(update, refusal, budget=5, old_software_runs=old_runs)
        advance(update, Event(kind=kind, refusal=refusal))


@pytest.mark.requirement("C1")
@pytest.mark.parametrize("code", Code)
def test_an_installation_ends_in_failed_only_when_the_old_software_was_read_back(
    code: Code,
) -> None:
    update = an_update(State.INSTALLING, attempts=99)
    kind = refusal_kind(update, Refusal(code, "x"), budget=5, old_software_runs=False)
    assert advance(update, Event(kind=kind)).state is not State.FAILED


def test_waiting_for_a_parked_car_never_uses_the_budget_up() -> None:
    update = an_update(State.APPROVED)
    refusal = Refusal(Code.NOT_PARKED, "gear is D")
    for _ in range(1000):
        kind = refusal_kind(update, refusal, budget=2, old_software_runs=False)
        update = advance(update, Event(kind=kind, refusal=refusal))
    assert update.state is State.APPROVED


def test_a_controller_that_never_answers_uses_the_budget_up() -> None:
    update = an_update(State.APPROVED)
    refusal = Refusal(Code.CONTROLLER_SILENT, "no answer")
    for _ in range(3):
        kind = refusal_kind(update, refusal, budget=3, old_software_runs=False)
        update = advance(update, Event(kind=kind, refusal=refusal))
    assert update.state is State.FAILED


def test_interruptions_of_an_installation_are_counted_over_its_restarts() -> None:
    update, refusal = an_update(State.APPROVED), Refusal(Code.CONTROLLER_SILENT, "no answer")
    for spent in (1, 2, 3):
        update = advance(update, Event(kind=Kind.START_GRANTED))
        kind = refusal_kind(update, refusal, budget=9, old_software_runs=False)
        update = advance(update, Event(kind=kind, refusal=refusal))
        assert (update.state, update.attempts) == (State.APPROVED, spent)


@pytest.mark.parametrize(
    ("state", "waits_in"),
    [
        (State.INSTALLING, State.APPROVED),
        (State.ACTIVATING, State.ACTIVATING),
        (State.PROBATION, State.PROBATION),
        (State.ROLLING_BACK, State.ROLLING_BACK),
    ],
)
@pytest.mark.parametrize("code", [Code.PARK_LOST, Code.INHIBIT_LOST])
def test_a_car_that_is_needed_says_nothing_against_the_update(
    state: State, waits_in: State, code: Code
) -> None:
    update, refusal = an_update(state, attempts=99), Refusal(code, "gear is D")
    kind = refusal_kind(update, refusal, budget=2, old_software_runs=False)
    update = advance(update, Event(kind=kind, refusal=refusal))
    assert (update.state, update.attempts) == (waits_in, 99)


def test_every_code_has_a_row_in_the_catalogue() -> None:
    assert set(RULES) == set(Code)
    for code, rule in RULES.items():
        assert rule.lifted_by, code
        assert rule.retry in Retry
