"""The figures of one run: printed as a table, written as one flat object of name to number."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """`value` is None where it could not be measured; `detail` says why, or how."""

    name: str
    value: float | None
    limit: str
    runs: Sequence[float]
    detail: str


class Figures:
    """Collects figures; the median of the runs counts, all runs are printed."""

    def __init__(self) -> None:
        self._figures: list[Figure] = []

    def add(self, name: str, runs: Sequence[float], *, limit: str = "", detail: str = "") -> None:
        """Enter what was measured; `limit` is what it must reach, as text like ">= 0.9"."""
        self._figures.append(Figure(name, statistics.median(runs), limit, runs, detail))

    def absent(self, name: str, why: str, *, limit: str = "") -> None:
        """Enter that `name` could not be measured. It is not written to the file."""
        self._figures.append(Figure(name, None, limit, (), f"absent: {why}"))

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table("figure", "median", "must be", "all runs", "how")
        for figure in self._figures:
            value = "-" if figure.value is None else f"{figure.value:.4g}"
            style = {True: "green", False: "bold red", None: ""}[_holds(figure)]
            runs = " ".join(f"{run:.4g}" for run in figure.runs)
            shown = f"[{style}]{value}[/]" if style else value
            table.add_row(figure.name, shown, figure.limit, runs, figure.detail)
        console.print(table)

    def write(self, path: Path) -> None:
        """Write `{name: number}`."""
        numbers = {f.name: round(f.value, 6) for f in self._figures if f.value is not None}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(numbers, indent=2) + "\n")


def _holds(figure: Figure) -> bool | None:
    if not figure.limit or figure.value is None:
        return None
    sign, number = figure.limit.split()
    return figure.value >= float(number) if sign == ">=" else figure.value <= float(number)
