"""Bytes per second of a running step, from its progress notes."""

from __future__ import annotations

from vehicle_agent.console.status import ProgressStatus


class ProgressRate:
    """Remembers when a phase began; tells how far it is and how fast on average."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = (0.0, 0)
        self._latest: ProgressStatus | None = None

    def note(self, phase: str, done: int, total: int, now: float) -> None:
        """Take a note: `done` of `total` bytes at loop time `now` in seconds."""
        if phase != self._phase or self._latest is None:
            self._phase, self._began = phase, (now, done)
        since, first = self._began
        rate = (done - first) / (now - since) if now > since else 0.0
        self._latest = ProgressStatus(phase=phase, done=done, total=total, bytes_per_s=rate)

    def clear(self) -> None:
        """Forget the step: the next note begins a new one."""
        self._latest = None

    def status(self) -> ProgressStatus | None:
        """Return the latest note with its rate, or None while no step makes progress."""
        return self._latest
