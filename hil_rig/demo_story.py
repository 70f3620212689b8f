"""What happens when in the demo: the driver's, the car's and the desk's part. Pure.

The notice goes out while the car drives; the driver has the text in front of the eyes for a
moment, agrees, and parks. Where the demo kills the agent, it is started again a second later.
"""

from __future__ import annotations

from enum import Enum, auto

from hil_rig.demo_moment import ENDED, WAY, Moment

NOTICE_AFTER_S = 1.5
READING_S = 3.0
PARK_AFTER_S = 1.5
DOWN_S = 1.0
ASK_AGAIN_S = 5.0
STALL_S = 120.0


class Act(Enum):
    """What the demo does next."""

    NOTIFY = auto()
    AGREE = auto()
    PARK = auto()
    KILL_AGENT = auto()
    START_AGENT = auto()


class Story:
    """The order of acts; ask `next_act` at every moment and carry out what it returns."""

    def __init__(self, *, kill_at: str | None = None, soak_s: float = 0.0) -> None:
        """`kill_at`: a state of the way in which the agent is killed, once."""
        self._kill_at = kill_at
        self._patience_s = STALL_S + soak_s
        self._since: dict[str, float] = {}
        self._last_change: tuple[float, object] = (0.0, None)

    def next_act(self, moment: Moment) -> Act | None:
        """Return what is to be done at `moment`, once."""
        at, done = moment.at, self._since
        if "killed" in done and "started" not in done:
            return self._once("started", at, Act.START_AGENT, after=done["killed"] + DOWN_S)
        if "killed" not in done and self._kill_at and _is_past(moment, self._kill_at):
            return self._once("killed", at, Act.KILL_AGENT)
        if "notified" not in done:
            return self._once("notified", at, Act.NOTIFY, after=NOTICE_AFTER_S)
        if moment.words and moment.state == "ready":
            shown = done.setdefault("shown", at)
            if "agreed" in done and at - done["agreed"] > ASK_AGAIN_S:
                del done["agreed"]  # an agent that was killed has asked again
            return self._once("agreed", at, Act.AGREE, after=shown + READING_S)
        if "agreed" in done and moment.state == "approved":
            approved = done.setdefault("approved", at)
            return self._once("parked", at, Act.PARK, after=approved + PARK_AFTER_S)
        return None

    def is_over(self, moment: Moment) -> bool:
        """Whether the update has ended, and nothing is left to be done."""
        waiting = "killed" in self._since and "started" not in self._since
        return moment.ended and not waiting

    def stalled_s(self, moment: Moment) -> float | None:
        """Seconds since anything changed, once that is longer than it can take."""
        seen = (moment.state, moment.progress, moment.conditions, len(moment.feedback))
        if seen != self._last_change[1]:
            self._last_change = (moment.at, seen)
        still = moment.at - self._last_change[0]
        return still if still > self._patience_s else None

    def _once(self, name: str, at: float, act: Act, *, after: float = 0.0) -> Act | None:
        if name in self._since or at < after:
            return None
        self._since[name] = at
        return act


def _is_past(moment: Moment, state: str) -> bool:
    """Whether the update is in `state` or has been, however short that was."""
    if moment.state in ENDED - {"completed"}:
        return False
    reached = [WAY.index(each) for each in moment.reached if each in WAY]
    return bool(reached) and max(reached) >= WAY.index(state)
