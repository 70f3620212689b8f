"""The medium: arbitration, exact instants, finite queues, leaving; whoever drives it."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hil_rig.wire.bits import Rates, frame_bits
from hil_rig.wire.frame import Frame
from hil_rig.wire.medium import Medium

RATES = Rates(500_000, 2_000_000)


def duration(frame: Frame) -> int:
    return RATES.duration_ns(frame_bits(frame))


def medium(nodes: int = 2, depth: int = 8) -> Medium:
    bus = Medium(RATES, depth)
    assert [bus.join() for _ in range(nodes)] == list(range(nodes))
    return bus


def test_a_frame_on_an_idle_bus_starts_at_once_and_ends_after_its_bits() -> None:
    bus = medium()
    frame = Frame(0x123, b"12345678")
    assert bus.next_deadline() is None
    assert bus.enqueue(0, frame, 1_000)
    assert bus.next_deadline() == 1_000
    assert bus.advance(1_000) == []
    assert bus.next_deadline() == 1_000 + duration(frame)
    assert bus.advance(999 + duration(frame)) == []
    (through,) = bus.advance(1_000 + duration(frame))
    assert through == (0, frame, 1_000, 1_000 + duration(frame))
    assert bus.next_deadline() is None


def test_lowest_id_wins_among_those_waiting_when_the_bus_becomes_idle() -> None:
    bus = medium(3)
    bus.enqueue(0, Frame(0x700), 0)
    bus.advance(0)
    bus.enqueue(1, Frame(0x300), 10)
    bus.enqueue(2, Frame(0x100), 20)
    bus.enqueue(0, Frame(0x200), 30)
    order = [each.frame.arbitration_id for each in bus.advance(10_000_000)]
    assert order == [0x700, 0x100, 0x200, 0x300]


def test_a_frame_that_came_after_the_bus_became_idle_does_not_contend() -> None:
    bus = medium()
    first = Frame(0x700)
    bus.enqueue(0, first, 0)
    bus.advance(0)
    bus.enqueue(0, Frame(0x600), 0)
    bus.enqueue(1, Frame(0x001), duration(first) + 1)
    order = [each.frame.arbitration_id for each in bus.advance(10_000_000)]
    assert order == [0x700, 0x600, 0x001]


def test_arbitration_follows_the_bits_of_the_arbitration_field() -> None:
    winners_first = [
        Frame(0x100),
        Frame(0x100, remote=True),
        Frame(0x100 << 18, extended=True),
        Frame(0x100 << 18, extended=True, remote=True),
        Frame(0x100 << 18 | 1, extended=True),
        Frame(0x101),
        Frame(0x102, bytes(64), fd=True),
    ]
    for order in itertools.islice(itertools.permutations(winners_first), 0, 5040, 97):
        bus = medium(len(order))
        for node, frame in enumerate(order):
            bus.enqueue(node, frame, 0)
        assert [each.frame for each in bus.advance(10**9)] == winners_first


def test_equal_arbitration_goes_to_who_waited_longer_then_to_the_older_node() -> None:
    bus = medium(3)
    bus.enqueue(0, Frame(0x001), 0)
    bus.advance(0)
    bus.enqueue(2, Frame(0x100, b"2"), 5)
    bus.enqueue(1, Frame(0x100, b"1"), 5)
    bus.enqueue(0, Frame(0x100, b"0"), 6)
    assert [each.frame.data for each in bus.advance(10**9)][1:] == [b"1", b"2", b"0"]


def test_a_node_sends_in_the_order_of_its_queue() -> None:
    bus = medium(1)
    for frame_id in (0x300, 0x100, 0x200):
        bus.enqueue(0, Frame(frame_id), 0)
    assert [each.frame.arbitration_id for each in bus.advance(10**9)] == [0x300, 0x100, 0x200]


def test_a_full_queue_refuses_until_a_frame_is_through() -> None:
    bus = medium(depth=2)
    assert bus.enqueue(0, Frame(1), 0)
    assert bus.enqueue(0, Frame(2), 0)
    assert not bus.enqueue(0, Frame(3), 0)
    assert bus.enqueue(1, Frame(3), 0)
    bus.advance(duration(Frame(1)))
    assert bus.queued(0) == 1
    assert bus.enqueue(0, Frame(3), duration(Frame(1)))


def test_flush_drops_all_but_the_frame_on_the_bus() -> None:
    bus = medium()
    for frame_id in (1, 2, 3):
        bus.enqueue(0, Frame(frame_id), 0)
    bus.enqueue(1, Frame(4), 0)
    bus.advance(0)
    assert bus.flush(1) == 1
    assert bus.flush(0) == 2
    assert [each.frame.arbitration_id for each in bus.advance(10**9)] == [1]


def test_a_node_that_leaves_takes_its_queue_along_and_a_draining_one_does_not() -> None:
    bus = medium(3)
    for node in (0, 1):
        for frame_id in (1, 2):
            bus.enqueue(node, Frame(frame_id + 0x10 * node), 0)
    bus.advance(0)
    bus.leave(0)
    bus.leave(1, drain=True)
    bus.leave(2)
    through = bus.advance(10**9)
    assert [each.frame.arbitration_id for each in through] == [0x01, 0x11, 0x12]
    assert bus.next_deadline() is None
    assert bus.join() == 3


frames = st.builds(Frame, st.integers(0, 0x7FF), st.binary(max_size=8), extended=st.booleans())
arrivals = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3_000_000), frames), max_size=20)


@given(arrivals, st.lists(st.integers(0, 10_000_000), max_size=30))
def test_when_the_driver_looks_never_changes_what_happens(
    plan: list[tuple[int, int, Frame]], looks: list[int]
) -> None:
    """A driver that wakes at odd times and one that only enqueues see the same wire."""
    plan = sorted(plan, key=lambda each: each[1])

    def run(looks: list[int]) -> list[tuple[int, Frame, int, int]]:
        bus = medium(3, depth=99)
        through = []
        for when, step in sorted(
            [(now, (node, frame)) for node, now, frame in plan] + [(look, None) for look in looks],
            key=lambda each: (each[0], each[1] is None),
        ):
            if step is None:
                through += bus.advance(when)
            else:
                bus.enqueue(*step, when)
        return through + bus.advance(10**12)

    seen = run(looks)
    assert seen == run([])
    assert len(seen) == len(plan)
    for before, after in itertools.pairwise(seen):
        assert after[2] >= before[3]
    for _, frame, start, finish in seen:
        assert finish - start == duration(frame)
