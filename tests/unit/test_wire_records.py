"""Records: what one side packs the other reads, and junk is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.wire.bits import Rates
from hil_rig.wire.frame import FD_LENGTHS, Frame
from hil_rig.wire.records import (
    RECORD,
    Filter,
    FiltersFlag,
    Kind,
    Statistics,
    WireProperties,
    filters_of,
    frame_of,
    pack_filters,
    pack_frame,
    pack_properties,
    pack_statistics,
    plain,
    properties_of,
    statistics_of,
    unpack,
)

filters = st.builds(
    Filter,
    st.integers(0, (1 << 29) - 1),
    st.integers(0, (1 << 29) - 1),
    st.sampled_from([None, True, False]),
)


@st.composite
def good_frames(draw: st.DrawFn) -> Frame:
    extended, form = draw(st.booleans()), draw(st.sampled_from(["classic", "fd", "remote"]))
    frame_id = draw(st.integers(0, (1 << (29 if extended else 11)) - 1))
    if form == "remote":
        size = draw(st.integers(0, 8))
        return Frame(frame_id, extended=extended, remote=True, requested=size)
    fd = form == "fd"
    size = draw(st.sampled_from(FD_LENGTHS if fd else range(9)))
    brs, esi = fd and draw(st.booleans()), fd and draw(st.booleans())
    return Frame(frame_id, draw(st.binary(min_size=size, max_size=size)), extended, fd, brs, esi)


@given(good_frames())
def test_a_frame_survives_its_record(frame: Frame) -> None:
    record = unpack(pack_frame(Kind.SEND, frame, time_ns=7))
    assert (record.kind, record.time_ns) == (Kind.SEND, 7)
    assert frame_of(record) == frame


@given(st.lists(filters, max_size=40))
def test_a_filter_set_survives_its_records(given_filters: list[Filter]) -> None:
    records = [unpack(data) for data in pack_filters(given_filters)]
    assert [each for record in records for each in filters_of(record)] == given_filters
    flags = [record.flags for record in records]
    assert flags[0] & FiltersFlag.FIRST
    assert [bool(each & FiltersFlag.LAST) for each in flags] == [False] * (len(flags) - 1) + [True]


@given(st.binary(min_size=RECORD.size, max_size=RECORD.size))
def test_no_record_makes_an_impossible_frame(data: bytes) -> None:
    try:
        frame = frame_of(unpack(data))
    except ValueError:
        return
    assert frame.flaw() is None


@pytest.mark.parametrize("size", [0, 1, RECORD.size - 1, RECORD.size + 1])
def test_a_record_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="80 bytes"):
        unpack(bytes(size))


def test_a_record_that_claims_too_many_filters_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 8"):
        filters_of(unpack(plain(Kind.FILTERS))._replace(length=9))


@pytest.mark.parametrize("extended", [None, True, False])
@pytest.mark.parametrize("frame_extended", [True, False])
def test_a_filter_compares_under_its_mask_and_by_form(
    extended: bool | None, frame_extended: bool
) -> None:
    right_form = extended is None or extended == frame_extended
    passes = Filter(0x7A0, 0x7F0, extended).accepts
    assert passes(Frame(0x7A8, extended=frame_extended)) == right_form
    assert not passes(Frame(0x7B8, extended=frame_extended))


def test_wire_properties_and_statistics_survive() -> None:
    properties = WireProperties(Rates(500_000, 5_000_000), fd=True, queue_depth=64)
    assert properties_of(pack_properties(properties).ljust(64, b"\0")) == properties
    statistics = Statistics(1, 2, 10, 14, 5, 6, 7, 8)
    assert statistics_of(pack_statistics(statistics)) == statistics
    assert statistics.load == 0.5
