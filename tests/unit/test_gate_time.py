"""Hold times and staleness of the gate, for any sequence of frames and pauses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle_agent.bus import Frame
from vehicle_agent.parking.gate import Gate
from vehicle_agent.parking.park_config import ConditionConfig, ParkConfig
from vehicle_agent.parking.signals import FrameConfig
from vehicle_agent.parking.ternary import Ternary

HOLD_S = 1.0
TIMEOUT_S = 0.3
TICK_S = 1 / 64  # exact in binary, so that the model below needs no tolerance


@pytest.fixture(scope="module")
def dbc(tmp_path_factory):
    path = tmp_path_factory.mktemp("dbc") / "one.dbc"
    path.write_text(
        'VERSION ""\nBU_: X\nBO_ 1 A: 2 X\n SG_ State : 0|8@1+ (1,0) [0|1] "" X\n'
        ' SG_ Count : 8|4@1+ (1,0) [0|15] "" X\n'
    )
    return str(path)


def gate_of(dbc, hold_s=HOLD_S):
    condition = ConditionConfig(name="it", signal="A.State", equals=1, hold_s=hold_s)
    frames = {"A": FrameConfig(protection="counter", timeout_s=TIMEOUT_S)}
    gate = Gate(ParkConfig(bus="b", dbc=(dbc,), frames=frames, conditions=(condition,)))
    gate._missing = ()
    return gate


def frame(state: int, count: int) -> Frame:
    return Frame(1, bytes([state, count & 0xF]))


def test_true_counts_after_the_hold_time_and_is_lost_at_once(dbc):
    gate = gate_of(dbc)
    now, count = 0.0, 0
    gate.feed(frame(1, count), "b", now)
    first_valid = None
    while now < 2.0:
        now += 10 * TICK_S
        count += 1
        gate.feed(frame(1, count), "b", now)
        first_valid = first_valid or now
        expected = Ternary.TRUE if now >= first_valid + HOLD_S else Ternary.UNKNOWN
        assert gate.parked(now) is expected
    gate.feed(frame(0, count + 1), "b", now)
    assert gate.parked(now) is Ternary.FALSE
    gate.feed(frame(1, count + 2), "b", now)
    assert gate.parked(now) is Ternary.UNKNOWN


def test_the_deadline_names_every_instant_at_which_time_alone_changes_the_verdict(dbc):
    gate = gate_of(dbc, hold_s=0.1)
    assert gate.next_deadline(0.0) is None
    gate.feed(frame(1, 0), "b", 0.0)
    gate.feed(frame(1, 1), "b", 0.0)
    assert gate.next_deadline(0.0) == 0.1
    assert gate.parked(0.1) is Ternary.TRUE
    assert gate.next_deadline(0.1) == TIMEOUT_S
    assert gate.parked(TIMEOUT_S) is Ternary.UNKNOWN
    assert gate.next_deadline(TIMEOUT_S) is None


def test_since_is_when_the_value_began(dbc):
    gate = gate_of(dbc, hold_s=0.1)
    assert gate.verdict(0.0).conditions[0].since is None
    gate.feed(frame(1, 0), "b", 0.0)
    gate.feed(frame(1, 1), "b", TICK_S)
    assert gate.parked(gate.next_deadline(TICK_S)) is Ternary.TRUE
    assert gate.verdict(0.2).conditions[0].since == TICK_S + 0.1
    gate.feed(frame(0, 2), "b", 0.25)
    assert gate.verdict(0.4).conditions[0].since == 0.25


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.sampled_from(["true", "true", "true", "false", "repeat", "short", "jump", "ask"]),
        ),
        max_size=120,
    )
)
def test_no_sequence_makes_it_true_without_a_full_hold_of_valid_true_values(dbc, events):
    """A model that keeps only what the rule says, against the gate with its cached deadlines."""
    gate = gate_of(dbc)
    now, count, state = 0.0, 0, 0
    accepted_at: float | None = None  # of the last frame in sequence: resynchronises the counter
    valid_until, true_since = -1.0, None
    for ticks, event in events:
        now += ticks * TICK_S
        if now >= valid_until:
            true_since = None
        if event == "ask":
            gate.verdict(now)
        elif event == "short":
            gate.feed(Frame(1, b"\x01"), "b", now)
        elif event == "repeat":
            gate.feed(frame(state, count), "b", now)
            if accepted_at is None or now >= accepted_at + TIMEOUT_S:
                accepted_at = now
        else:
            state = 0 if event == "false" else 1
            step = 7 if event == "jump" else 1
            count += step
            gate.feed(frame(state, count), "b", now)
            in_sequence = accepted_at is not None and now < accepted_at + TIMEOUT_S and step <= 3
            accepted_at = now
            if in_sequence:
                valid_until = now + TIMEOUT_S
                if state == 0:
                    true_since = None
                elif true_since is None:
                    true_since = now
        held = true_since is not None and now >= true_since + HOLD_S
        assert (gate.parked(now) is Ternary.TRUE) is held
