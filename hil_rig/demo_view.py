"""The demo on a terminal: one screen for one moment. Pure: a moment in, a rich renderable out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hil_rig.demo_moment import ENDED, WAY, Moment

FULL = 31
_BODY = 18

_MARKS = {"true": ("✔", "green"), "false": ("✘", "red"), "unknown": ("…", "yellow")}
_WORDS = {
    "noticed": "notice received",
    "verified": "signed, in the recall",
    "downloading": "image is fetched",
    "ready": "driver is asked",
    "approved": "waits for a parked car",
    "installing": "controller is programmed",
    "activating": "restart and read-back",
    "probation": "new software is watched",
    "completed": "done and reported",
}


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What stays the same on every screen."""

    recall: str
    vin: str
    bus: str
    broker: str


def screen(heading: Heading, moment: Moment, *, rows: int = FULL) -> RenderableType:
    """The whole screen; with less than `FULL` rows without the least of it."""
    left = Group(_way(moment), _car(moment))
    asking = bool(moment.words) and moment.state in {"ready", "approved"} and _drives(moment)
    right = _driver(moment) if asking else _conditions(moment)
    body = Table.grid(expand=True)
    body.add_column(width=44)
    body.add_column(ratio=1)
    body.add_row(left, right)
    parts = [_heading(heading, moment), _progress(moment), body]
    if rows >= FULL:
        parts.append(_reports(moment))
    return Group(*parts)


def summary(rows: Sequence[tuple[str, str]], *, good: bool) -> RenderableType:
    """The table at the end."""
    table = Table(
        title="Update completed" if good else "Update not completed",
        title_style="bold green" if good else "bold red",
        title_justify="left",
        show_header=False,
        expand=True,
        border_style="green" if good else "red",
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, words in rows:
        table.add_row(label, Text(words))
    return table


def _heading(heading: Heading, moment: Moment) -> RenderableType:
    line = Text.assemble(("Recall ", "dim"), (heading.recall, "bold yellow"), (" · VIN ", "dim"))
    line.append(heading.vin).append(" · ", "dim").append(heading.bus)
    line.append(" · ", "dim").append(heading.broker)
    clock = Text(f"{moment.at:5.1f} s", "bold")
    row = Table.grid(expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", width=9)
    row.add_row(line, clock)
    return Panel(row, title="Over-the-air recall update", border_style="blue")


def _way(moment: Moment) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    reached = [WAY.index(each) for each in moment.reached if each in WAY]
    furthest = max(reached, default=-1)
    for index, state in enumerate(WAY):
        if state == moment.state and state != "completed":
            mark, style = "▶", "bold cyan"
        elif index <= furthest and not (moment.state in WAY and index > WAY.index(moment.state)):
            mark, style = "✔", "green"
        else:
            mark, style = "·", "dim"
        table.add_row(Text(mark, style), Text(state, style), Text(_WORDS[state], "dim"))
    if moment.state in ENDED - {"completed"} or moment.state == "rolling_back":
        table.add_row(Text("✘", "bold red"), Text(moment.state, "bold red"), Text(""))
    if not moment.agent_up:
        table.add_row(Text("✘", "bold red"), Text("agent", "bold red"), Text("does not answer"))
    return Panel(table, title="Update", border_style="blue")


def _car(moment: Moment) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", width=13)
    table.add_column()
    state = moment.car.get("state", {})
    if state:
        speed = float(state["speed"])
        filled = round(speed / 60 * 12)
        bar = Text("█" * min(filled, 12), "cyan") + Text("░" * max(12 - filled, 0), "dim")
        table.add_row("speed", Text(f"{speed:5.1f} km/h ") + bar)
        table.add_row("gear", Text(str(state["gear"]), "bold"))
        table.add_row("parking brake", str(state["epb"]))
        table.add_row("power, driver", f"{state['power_mode']}, seat {state['driver']}")
    held = Text("held: no gear, no drive", "bold magenta") if moment.inhibited else Text("released")
    table.add_row("drive inhibit", held)
    title = f"Car: {moment.car.get('manoeuvre', '?')}"
    return Panel(table, title=title, border_style="blue")


def _conditions(moment: Moment) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for condition in moment.conditions:
        mark, style = _MARKS[condition.value]
        true = condition.value == "true"
        words = condition.reading if true else condition.reason
        name = Text(condition.name, "" if true else style)
        table.add_row(Text(mark, style), name, Text(words, "dim" if true else ""))
    if moment.answers:
        said = "green" if moment.answers[-1] == "APPROVED" else "red"
        table.add_row("", "", "")
        table.add_row("", "the driver's answer", Text(moment.answers[-1], said))
    mark, style = _MARKS[moment.parked]
    title = Text.assemble("Parked? ", (f"{mark} {moment.parked}", style))
    return Panel(table, title=title, border_style="blue", height=_BODY)


def _driver(moment: Moment) -> RenderableType:
    lines: list[RenderableType] = []
    for locale, words in moment.words.items():
        lines += [Text(locale, "dim"), Text(words), Text("")]
    said = moment.answers[-1] if moment.answers else ""
    answer = Text(f"The driver answers: {said}", "bold green") if said else Text("…", "yellow")
    lines.append(Align.center(answer))
    return Panel(Group(*lines), title="Driver's display", border_style="yellow", height=_BODY)


def _drives(moment: Moment) -> bool:
    return str(moment.car.get("manoeuvre", "driving")) == "driving"


def _progress(moment: Moment) -> RenderableType:
    progress = moment.progress
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(width=14)
    row.add_column(ratio=1)
    row.add_column(width=46, justify="right")
    if progress is None or not progress.total:
        words = moment.refusal or ("" if moment.state != "probation" else "soaking")
        row.add_row(moment.state, ProgressBar(total=100, completed=0), Text(words, "yellow"))
    else:
        rate = progress.rate
        left = f", {(progress.total - progress.done) / rate:.0f} s left" if rate else ""
        speed = f", {rate / 1000:,.0f} kB/s" if rate else ""
        percent = 100 * progress.done // progress.total
        words = f"{percent} % of {progress.total:,} bytes{speed}{left}"
        bar = ProgressBar(total=progress.total, completed=progress.done)
        row.add_row(Text(progress.phase, "bold cyan"), bar, words)
    return Panel(row, border_style="blue")


def _reports(moment: Moment) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", justify="right", width=4)
    table.add_column(no_wrap=True, width=14)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for report in moment.feedback[-4:]:
        table.add_row(str(report.get("seq", "")), str(report["status"]), str(report["message"]))
    for _ in range(4 - len(moment.feedback)):
        table.add_row("", "", "")
    return Panel(table, title="Received by the backend", border_style="blue")
