"""Kleene's tables: every combination of true, false and unknown."""

from __future__ import annotations

from itertools import product

import pytest

from vehicle_agent.parking.ternary import Ternary, agree, all_, any_, not_

T, F, U = Ternary.TRUE, Ternary.FALSE, Ternary.UNKNOWN

AND = {(T, T): T, (T, F): F, (T, U): U, (F, T): F, (F, F): F, (F, U): F, (U, T): U, (U, F): F}
AND[(U, U)] = U
OR = {(T, T): T, (T, F): T, (T, U): T, (F, T): T, (F, F): F, (F, U): U, (U, T): T, (U, F): U}
OR[(U, U)] = U


@pytest.mark.parametrize(("a", "b"), list(product(Ternary, repeat=2)))
def test_two_values_combine_as_in_kleenes_tables(a, b):
    assert all_([a, b]) is AND[a, b]
    assert any_([a, b]) is OR[a, b]
    assert agree([a, b]) is (a if a is b else U)


def test_negation_leaves_unknown_unknown():
    assert [not_(v) for v in (T, F, U)] == [F, T, U]


@pytest.mark.parametrize("values", list(product(Ternary, repeat=3)))
def test_three_values_combine_as_two_and_one(values):
    a, b, c = values
    assert all_(values) is AND[AND[a, b], c]
    assert any_(values) is OR[OR[a, b], c]
    assert not_(all_(values)) is any_([not_(v) for v in values])


def test_a_ternary_is_no_bool():
    with pytest.raises(TypeError, match="compared"):
        bool(U)


def test_no_source_at_all_agrees_on_nothing():
    assert agree([]) is U
