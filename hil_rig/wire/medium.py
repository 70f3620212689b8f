"""One bus on one timeline: who may send, when a frame is through. No I/O and no clock.

Times are integer nanoseconds of whatever clock the caller lives by. Frames start and end at exact
instants of that timeline, whenever the caller looks: being late never moves a later frame. Whoever
drives it (the hub in real time, an event loop in virtual time) calls `advance` with its time and
comes back at `next_deadline`.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hil_rig.wire.bits import Rates, frame_bits
from hil_rig.wire.frame import Frame


class Transmission(NamedTuple):
    """A frame that went over the bus: `finish_ns` is the end of its intermission."""

    node: int
    frame: Frame
    start_ns: int
    finish_ns: int


class _Pending(NamedTuple):
    ready_ns: int
    priority: int
    duration_ns: int
    frame: Frame


class Medium:
    """A bus with its nodes, each with a first-in, first-out transmit queue of `queue_depth` frames.

    A frame keeps its place in the queue until it is through. When the bus becomes idle the heads
    of the queues contend and the lowest arbitration field wins. Two nodes with the same one would
    collide on a real bus; here the one that waited longer goes first, then the older node.
    """

    def __init__(self, rates: Rates, queue_depth: int) -> None:
        self._rates = rates
        self._depth = queue_depth
        self._queues: dict[int, deque[_Pending]] = {}
        self._leaving: set[int] = set()
        self._next_node = 0
        self._sending: tuple[int, int] | None = None  # node, start
        self._deadline = 0
        self._free_ns = 0

    def join(self) -> int:
        """Add a node and return its number."""
        node = self._next_node
        self._next_node += 1
        self._queues[node] = deque()
        return node

    def leave(self, node: int, *, drain: bool = False) -> None:
        """Remove a node: at once without what it has not begun, or with `drain` when all is sent.

        The frame that is on the bus goes through in either case.
        """
        if not drain:
            self.flush(node)
        if self._queues[node]:
            self._leaving.add(node)
        else:
            self._remove(node)

    def enqueue(self, node: int, frame: Frame, now_ns: int) -> bool:
        """Queue a good frame for sending from `now_ns` on; False if the queue is full."""
        queue = self._queues[node]
        if len(queue) >= self._depth:
            return False
        duration = self._rates.duration_ns(frame_bits(frame))
        queue.append(_Pending(now_ns, frame.priority(), duration, frame))
        return True

    def queued(self, node: int) -> int:
        """Count the frames of `node` that are not through, the one on the bus included."""
        return len(self._queues[node])

    def flush(self, node: int) -> int:
        """Drop what `node` has queued and not begun to send; return how many frames that were."""
        queue = self._queues[node]
        kept = 1 if self._sending is not None and self._sending[0] == node else 0
        dropped = len(queue) - kept
        for _ in range(dropped):
            queue.pop()
        return dropped

    def next_deadline(self) -> int | None:
        """When something happens next (past: `advance` is due); None if nothing is queued."""
        if self._sending is not None:
            return self._deadline
        ready = [queue[0].ready_ns for queue in self._queues.values() if queue]
        return max(min(ready), self._free_ns) if ready else None

    def advance(self, now_ns: int) -> list[Transmission]:
        """Let time pass up to `now_ns`; return what went through, in order."""
        through: list[Transmission] = []
        while True:
            if self._sending is not None:
                if self._deadline > now_ns:
                    return through
                through.append(self._finish(*self._sending))
            start = self.next_deadline()
            if start is None or start > now_ns:
                return through
            self._begin(start)

    def _begin(self, start_ns: int) -> None:
        _, _, node, duration = min(
            (head.priority, head.ready_ns, node, head.duration_ns)
            for node, queue in self._queues.items()
            if queue and (head := queue[0]).ready_ns <= start_ns
        )
        self._sending = (node, start_ns)
        self._deadline = start_ns + duration

    def _finish(self, node: int, start_ns: int) -> Transmission:
        queue = self._queues[node]
        frame = queue.popleft().frame
        self._sending = None
        self._free_ns = self._deadline
        if node in self._leaving and not queue:
            self._remove(node)
        return Transmission(node, frame, start_ns, self._deadline)

    def _remove(self, node: int) -> None:
        self._leaving.discard(node)
        del self._queues[node]
