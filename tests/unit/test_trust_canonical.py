"""The fast canonical form of metadata is, byte for byte, the one that signatures cover."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from vehicle_agent.strict_json import canonical, parse_object
from vehicle_agent.trust.metadata import canonical_of_parsed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.text('\x00\x1f\x7f"\\\\/\n\u2028\ue000\U0001f697aZ'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@example({"a": 10**4000})
@example({"\x00": "\ue000", "\ue000": 1, "\U0001f697": 2, "Z": 3, "a": 4})
@given(VALUES)
def test_fast_form_is_the_canonical_form(value):
    try:
        parsed = parse_object(json.dumps({"signed": value}).encode())
    except ValueError:
        return
    try:
        expected = canonical(parsed)
    except ValueError as error:
        expected = type(error)
    try:
        got = canonical_of_parsed(parsed)
    except ValueError as error:
        got = type(error)
    assert got == expected
