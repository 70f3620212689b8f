"""How the wire has done: frames, load, and how late frames were handed out."""

from __future__ import annotations

from hil_rig.wire.medium import Transmission
from hil_rig.wire.records import Statistics

_STEP_NS = 1_000
_STEPS = 100_000  # 0.1 s; what is later counts as that


class Tally:
    """Counts transmissions and their lateness, in steps of a microsecond."""

    def __init__(self) -> None:
        self.dropped = 0
        self._frames = 0
        self._busy_ns = 0
        self._first_start_ns: int | None = None
        self._last_finish_ns = 0
        self._lateness = [0] * (_STEPS + 1)
        self._latest_ns = 0

    def add(self, transmission: Transmission, now_ns: int) -> None:
        """Count a frame that is handed out at `now_ns`."""
        lateness = now_ns - transmission.finish_ns
        if self._first_start_ns is None:
            self._first_start_ns = transmission.start_ns
        self._frames += 1
        self._busy_ns += transmission.finish_ns - transmission.start_ns
        self._last_finish_ns = transmission.finish_ns
        self._lateness[min(lateness // _STEP_NS, _STEPS)] += 1
        self._latest_ns = max(self._latest_ns, lateness)

    def statistics(self) -> Statistics:
        """Sum up to now."""
        return Statistics(
            frames=self._frames,
            busy_ns=self._busy_ns,
            first_start_ns=self._first_start_ns or 0,
            last_finish_ns=self._last_finish_ns,
            lateness_p50_ns=self._percentile(50),
            lateness_p99_ns=self._percentile(99),
            lateness_max_ns=self._latest_ns,
            dropped=self.dropped,
        )

    def _percentile(self, percent: int) -> int:
        """Return the upper edge of the step in which `percent` of the frames are reached."""
        wanted = self._frames * percent
        seen = 0
        for step, count in enumerate(self._lateness):
            seen += count
            if count and seen * 100 >= wanted:
                return (step + 1) * _STEP_NS
        return 0
