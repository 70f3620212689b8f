"""Conditions as configuration: what they mean, what is refused, what makes a set incomplete."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import msgspec
import pytest

from tests.unit.parking_car import BUS, PROJECT, PROJECT_PARKED, SilentCar, run
from vehicle_agent.bus import Frame
from vehicle_agent.parking.gate import Gate, Verdict
from vehicle_agent.parking.park_config import (
    REQUIRED_ROLES,
    ConditionConfig,
    Expression,
    ParkConfig,
    Substitute,
    load,
    missing_roles,
    resolve,
)
from vehicle_agent.parking.signals import FrameConfig
from vehicle_agent.parking.ternary import Ternary, agree, all_, any_, not_
from vehicle_agent.refusals import Code, Refused

T, F, U = Ternary.TRUE, Ternary.FALSE, Ternary.UNKNOWN
DBC = "".join(
    f'BO_ {identifier} {name}: 8 X\n SG_ State : 0|8@1+ (1,0) [0|100] "V" X\n'
    f' SG_ Choice : 8|4@1+ (1,0) [0|15] "" X\n'
    for identifier, name in ((1, "A"), (2, "B"), (3, "C"))
)
ODD = "".join(f'VAL_ {i} State 99 "UNDEFINED" ;\n' for i in (1, 2, 3))
CHOICES = ODD + "".join(f'VAL_ {i} Choice 0 "NO" 1 "YES" 15 "SNA" ;\n' for i in (1, 2, 3))
PLAIN = {name: FrameConfig(protection="none", timeout_s=1.0) for name in "ABC"}
COUNTED = {
    name: FrameConfig(protection="counter", counter_offset=16, timeout_s=1.0) for name in "ABC"
}
ONE = {name: Expression(signal=f"{name}.State", equals=1) for name in "ABC"}


@pytest.fixture
def dbc(tmp_path):
    path = tmp_path / "abc.dbc"
    path.write_text(f'VERSION ""\nBU_: X\n{DBC}{CHOICES}')
    return str(path)


class Three:
    """Three frames A, B, C, each saying true, false or nothing that is known."""

    def __init__(self, dbc, expression, frames=COUNTED, **condition):
        fields = {f: getattr(expression, f) for f in Expression.__struct_fields__}
        conditions = (ConditionConfig(name="it", **fields, **condition),)
        self.gate = Gate(ParkConfig(bus=BUS, dbc=(dbc,), frames=frames, conditions=conditions))
        self._count = 0

    def say(self, now, **values):
        """State by frame: TRUE 1, FALSE 0, UNKNOWN 200 (out of range), or a number."""
        for _ in range(2):  # the first frame only starts a counter
            self._count += 1
            for name, value in values.items():
                raw = {T: 1, F: 0, U: 200}[value] if isinstance(value, Ternary) else value
                data = bytes([raw, 0, self._count & 0xF, 0, 0, 0, 0, 0])
                self.gate.feed(Frame("ABC".index(name) + 1, data), BUS, now)
        return self.it(now)

    def it(self, now):
        return self.gate.verdict(now).conditions[0]


@pytest.mark.parametrize("values", list(product(Ternary, repeat=3)))
@pytest.mark.requirement("C4")
def test_combinators_follow_the_logic_for_every_row(dbc, values):
    a, b, c = values
    said = {"A": a, "B": b, "C": c}
    every = tuple(ONE.values())
    for expression, expected in (
        (Expression(all=every), all_(values)),
        (Expression(any=every), any_(values)),
        (Expression(agree=every), agree(values)),
        (Expression(not_=Expression(all=every)), not_(all_(values))),
        (Expression(all=(ONE["A"], Expression(any=every[1:]))), all_((a, any_((b, c))))),
    ):
        reading = Three(dbc, expression).say(0.0, **said)
        assert reading.value is expected
        assert bool(reading.reason) is (expected is not T)


def test_the_small_set_starts_in_exactly_one_row_of_its_truth_table(dbc):
    starts = []
    for row in product(Ternary, repeat=3):
        conditions = tuple(ConditionConfig(name=n, signal=f"{n}.State", equals=1) for n in "ABC")
        three = Three(dbc, ONE["A"])
        three.gate = Gate(ParkConfig(bus=BUS, dbc=(dbc,), frames=COUNTED, conditions=conditions))
        three.gate._missing = ()
        three.say(0.0, **dict(zip("ABC", row, strict=True)))
        if three.gate.parked(0.0) is T:
            starts.append(row)
    assert starts == [(T, T, T)]


@pytest.mark.parametrize("value", list(Ternary))
@pytest.mark.requirement("C3")
def test_an_unprotected_frame_alone_proves_nothing(dbc, value):
    assert Three(dbc, ONE["A"], PLAIN).say(0.0, A=value).value is U
    negated = Expression(not_=ONE["A"])
    assert Three(dbc, negated, PLAIN).say(0.0, A=value).value is U


def test_an_unprotected_frame_counts_with_one_that_agrees(dbc):
    three = Three(dbc, Expression(agree=(ONE["A"], ONE["B"])), PLAIN)
    assert "no valid frame" in three.say(0.0, A=T).reason
    assert three.say(0.0, A=T, B=T).value is T
    disagreeing = three.say(0.0, A=T, B=F)
    assert disagreeing.value is U
    assert "sources disagree" in disagreeing.reason


def test_hysteresis_keeps_what_is_met_and_asks_more_of_what_is_not(dbc):
    level = Expression(signal="A.State", at_least=20.0, hysteresis=5.0)
    three = Three(dbc, level)
    said = [three.say(0.0, A=raw).value for raw in (24, 25, 21, 20, 19, 24, 25)]
    assert said == [F, T, T, T, F, F, T]


def test_a_window_has_both_ends(dbc):
    three = Three(dbc, Expression(signal="A.State", at_least=10.0, below=20.0))
    assert [three.say(0.0, A=raw).value for raw in (9, 10, 19, 20)] == [F, T, T, F]


def test_a_number_with_a_name_is_no_number_to_a_threshold(dbc):
    for expression in (
        Expression(signal="A.State", at_least=10.0),
        Expression(not_=Expression(signal="A.State", at_least=10.0)),
    ):
        reading = Three(dbc, expression).say(0.0, A=99)
        assert reading.value is U
        assert "State UNDEFINED" in reading.reason


def test_the_hold_begins_anew_after_a_gap_that_nobody_asked_about(dbc):
    patient = PLAIN | {"B": FrameConfig(protection="none", timeout_s=60.0)}
    three = Three(dbc, Expression(agree=(ONE["A"], ONE["B"])), patient, hold_s=2.0)
    three.say(0.0, A=T, B=T)
    for now in (1.5, 2.4):
        three.gate.feed(Frame(1, bytes([1] + [0] * 7)), BUS, now)
    assert three.it(2.6).value is U
    assert "true for 1.1 of 2 s" in three.it(2.6).reason


def test_one_of_takes_each_of_its_values(dbc):
    three = Three(dbc, Expression(signal="A.State", one_of=(1, 3)))
    assert [three.say(0.0, A=raw).value for raw in (0, 1, 2, 3)] == [F, T, F, T]


def test_an_advisory_condition_is_shown_and_not_asked_for(dbc):
    three = Three(dbc, ONE["A"], required=False)
    three.gate._missing = ()
    assert three.say(0.0, A=F).value is F
    assert three.gate.parked(0.0) is T
    assert not three.it(0.0).required


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (Expression(), "exactly one of signal"),
        (Expression(signal="A.State"), "exactly one of equals"),
        (Expression(signal="A.State", equals=1, known=True), "exactly one of equals"),
        (Expression(signal="A.State", all=(ONE["B"],), equals=1), "exactly one of signal"),
        (Expression(all=(ONE["A"],), equals=1), "only a signal"),
        (Expression(agree=(ONE["A"],)), "two sources or more"),
        (Expression(agree=(ONE["A"], ONE["A"])), "frames of their own"),
        (Expression(signal="A.Choice", below=1.0), "named choices"),
        (Expression(signal="A.Choice", equals="MAYBE"), "has no choice 'MAYBE'; it has NO, YES"),
        (Expression(signal="A.State", at_least=2.0, below=1.0), "at_least must be less"),
        (Expression(signal="A.State", below=1.0, hysteresis=-1.0), "hysteresis"),
        (Expression(signal="A.Stat", equals=1), "near: State"),
        (Expression(signal="D.State", equals=1), "message 'D' does not exist"),
    ],
)
def test_an_expression_that_says_nothing_or_too_much_is_refused(dbc, expression, words):
    with pytest.raises(Refused, match=words) as caught:
        Three(dbc, expression)
    assert caught.value.refusal.code is Code.CONFIG_INVALID
    assert "'it'" in caught.value.refusal.detail


@pytest.mark.parametrize("role", list(REQUIRED_ROLES))
@pytest.mark.requirement("C4")
def test_a_set_without_one_required_role_is_never_parked(role):
    whole = resolve(PROJECT, Path())
    lacking = msgspec.structs.replace(
        whole, conditions=tuple(c for c in whole.conditions if c.role != role)
    )
    gate = Gate(lacking)
    car = SilentCar(PROJECT, PROJECT_PARKED)
    now = run(gate, car, 0.0, 3.0)
    verdict = gate.verdict(now)
    assert verdict.parked is U
    assert not verdict.complete
    assert verdict.refusal().code is Code.GATE_INCOMPLETE
    assert f"lack {role}" in verdict.reasons()


def test_one_source_of_speed_is_not_two():
    whole = resolve(PROJECT, Path())
    one = tuple(c for c in whole.conditions if c.name != "speed of the motor")
    twice = msgspec.structs.replace(next(c for c in one if c.role == "speed"), name="again")
    assert missing_roles(msgspec.structs.replace(whole, conditions=(*one, twice)))[0].startswith(
        "speed: 2 conditions"
    )


def test_an_advisory_condition_fills_no_role():
    whole = resolve(PROJECT, Path())
    conditions = tuple(
        msgspec.structs.replace(c, required=c.role != "gear") for c in whole.conditions
    )
    assert missing_roles(msgspec.structs.replace(whole, conditions=conditions)) == (
        "gear: a condition (gear P engaged)",
    )


def test_a_substitute_stands_in_for_a_role_without_a_signal():
    whole = resolve(PROJECT, Path())
    lacking = tuple(c for c in whole.conditions if c.role != "charging")
    by = Substitute(by=("12 V net",), why="the car cannot be charged")
    config = msgspec.structs.replace(whole, conditions=lacking, substitutes={"charging": by})
    assert missing_roles(config) == ()


@pytest.mark.parametrize(
    ("role", "by", "why"),
    [
        ("gear", ("12 V net",), "no"),
        ("nonsense", ("12 V net",), "no"),
        ("charging", (), "no"),
        ("charging", ("no such",), "no"),
        ("charging", ("12 V net",), ""),
    ],
)
def test_a_substitute_must_exist_and_say_why(role, by, why):
    config = ParkConfig(condition_set="project", substitutes={role: Substitute(by=by, why=why)})
    with pytest.raises(Refused, match=r"park\.substitutes"):
        resolve(config, Path())


def test_a_set_is_changed_by_name_and_completed(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        '[park]\ncondition_set = "project"\nbus = "powertrain"\n'
        "[park.frames.HVB_Status]\ntimeout_s = 2.0\n"
        '[[park.conditions]]\nname = "traction battery"\nrole = "traction_battery"\n'
        'signal = "HVB_Status.HVB_Charge"\nat_least = 40.0\n'
        '[[park.conditions]]\nname = "no passenger"\n'
        'signal = "OCC_Presence.OCC_Passengers"\nequals = "EMPTY"\n'
    )
    config = load(own)
    by_name = {c.name: c for c in config.conditions}
    assert config.bus == "powertrain"
    assert by_name["traction battery"].at_least == 40.0
    assert len(by_name) == len(resolve(PROJECT, Path()).conditions) + 1
    assert missing_roles(config) == ()
    assert set(Gate(config).needs()) == {"powertrain"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[park]\nconditons = []\n", "conditons"),
        ("[park]\nbus = 3\n", "bus"),
        ('[park]\ncondition_set = "none such"\n', "none such"),
        ("[park\n", "own.toml"),
        ('[[park.conditions]]\nname = "a"\nrole = "spede"\nsignal = "A.B"\nknown = true\n', "role"),
        ('[[park.conditions]]\nname = "a"\nhold_s = -1\nsignal = "A.B"\nknown = true\n', "hold_s"),
        (
            '[[park.conditions]]\nname = "a"\nsignal = "A.B"\nknown = true\n' * 2,
            "stands twice",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, words):
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(Refused, match=words) as caught:
        load(own)
    assert caught.value.refusal.code is Code.CONFIG_INVALID
    assert "\n" not in str(caught.value)


def test_a_verdict_can_be_written_as_json_and_read_back():
    gate = Gate(PROJECT)
    now = run(gate, SilentCar(PROJECT, PROJECT_PARKED), 0.0, 1.5)
    verdict = gate.verdict(now)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert "true for 1.4 of 2 s" in verdict.reasons()
    assert verdict.refusal().code is Code.NOT_PARKED
