"""The demo for a log: one plain line for each thing that changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hil_rig.demo_moment import Condition, Moment

_QUARTERS = 4


class Lines:
    """Remembers what was said; `new` returns what there is to say about a moment."""

    def __init__(self) -> None:
        self._conditions: dict[str, str] = {}
        self._state = ""
        self._told = 0
        self._quarter: tuple[str, int] = ("", 0)
        self._facts: dict[str, str] = {}

    def new(self, moment: Moment) -> list[str]:
        """Lines without line ends, each with the time in seconds."""
        return [f"{moment.at:6.1f} s  {what:<8}  {words}" for what, words in self._said(moment)]

    def _said(self, moment: Moment) -> Iterator[tuple[str, str]]:
        yield from self._changed("agent", "runs" if moment.agent_up else "does not answer", "runs")
        yield from self._changed("car", car_in_words(moment), "")
        yield from self._update(moment)
        for locale, words in moment.words.items():
            yield from self._changed("driver", f"reads ({locale}): {words}", "", key=locale)
        if moment.answers:
            yield from self._changed(
                "driver", f"answers {moment.answers[-1]}", "", key=str(len(moment.answers))
            )
        for condition in moment.conditions:
            yield from self._condition(condition)
        yield from self._changed("parked", moment.parked, "unknown")
        held = "held: the car cannot be put into gear" if moment.inhibited else "released"
        yield from self._changed("inhibit", held, "released")
        yield from self._progress(moment)
        if moment.refusal:
            yield from self._changed("refused", moment.refusal, "")

    def _update(self, moment: Moment) -> Iterator[tuple[str, str]]:
        for report in moment.feedback[self._told :]:
            state = str(report.get("state", ""))
            if state != self._state:
                self._state = state
                yield "update", f"{state or report['status']}: {report['message']}"
        self._told = len(moment.feedback)

    def _condition(self, condition: Condition) -> Iterator[tuple[str, str]]:
        value = condition.value
        if value == "unknown" or self._conditions.get(condition.name) == value:
            return
        self._conditions[condition.name] = value
        yield "park", f"{condition.name}: {value} ({condition.reason or condition.reading})"

    def _progress(self, moment: Moment) -> Iterator[tuple[str, str]]:
        progress = moment.progress
        if progress is None or not progress.total:
            return
        now = (progress.phase, _QUARTERS * progress.done // progress.total)
        if now != self._quarter and now[1]:
            done = f"{progress.done:,} of {progress.total:,} bytes"
            rate = f", {progress.rate:,.0f} bytes/s" if progress.rate else ""
            percent = 100 * progress.done // progress.total
            yield "progress", f"{progress.phase} {percent} % ({done}{rate})"
        self._quarter = now

    def _changed(
        self, what: str, words: str, silent: str, *, key: str = ""
    ) -> Iterator[tuple[str, str]]:
        """Say `words` if they are new; `silent` need not be said the first time."""
        before = self._facts.get(what + key, silent)
        self._facts[what + key] = words
        if words != before and words:
            yield what, words


def car_in_words(moment: Moment) -> str:
    """What the car does, without what changes all the time."""
    if not moment.car:
        return ""
    state = moment.car["state"]
    return (
        f"{moment.car['manoeuvre']}, gear {state['gear']}, parking brake {state['epb']}, "
        f"power {state['power_mode']}"
    )
