"""Where the demo is shown: a terminal, a log, or a picture."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live as Screen
from rich.terminal_theme import MONOKAI

from hil_rig.demo_lines import Lines
from hil_rig.demo_moment import Moment
from hil_rig.demo_view import Heading, screen, summary

_REDRAW_S = 0.12
_PICTURE_COLUMNS = 110
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"

Rows = Sequence[tuple[str, str]]


class Show(Protocol):
    """One way to show the demo."""

    def say(self, words: str) -> None:
        """Tell something beside the screen."""

    def opened(self, heading: Heading) -> contextlib.AbstractContextManager[None]:
        """Show moments from now on."""

    def moment(self, moment: Moment) -> None:
        """Show one moment."""

    def summary(self, rows: Rows, *, good: bool) -> None:
        """Show the end."""


class Plain:
    """Lines without control characters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = Lines()

    def say(self, words: str) -> None:
        """Write one line."""
        self._write([words])

    @contextmanager
    def opened(self, heading: Heading) -> Iterator[None]:
        """Write the heading."""
        self.say(
            f"recall {heading.recall}, VIN {heading.vin}, bus {heading.bus}, "
            f"broker {heading.broker}"
        )
        yield

    def moment(self, moment: Moment) -> None:
        """Write what is new."""
        self._write(self._lines.new(moment))

    def summary(self, rows: Rows, *, good: bool) -> None:
        """Write the rows."""
        self._write([f"{label:<18}{words}" for label, words in rows])

    def _write(self, lines: Sequence[str]) -> None:
        for line in lines:
            printable = "".join(each if each.isprintable() else " " for each in line)
            self._stream.write(printable + "\n")
        self._stream.flush()


class Live:
    """A screen that is drawn anew at every moment."""

    def __init__(self) -> None:
        self._console = Console()
        self._screen: Screen | None = None
        self._heading: Heading | None = None
        self._drawn_at = -_REDRAW_S

    def say(self, words: str) -> None:
        """Write one line, above the screen where there is one."""
        self._console.print(words, markup=False, highlight=False)

    @contextmanager
    def opened(self, heading: Heading) -> Iterator[None]:
        """Begin to draw; what was drawn last stays."""
        self._heading = heading
        with Screen(console=self._console, auto_refresh=False) as self._screen:
            yield

    def moment(self, moment: Moment) -> None:
        """Draw."""
        assert self._screen is not None
        assert self._heading is not None
        if moment.at - self._drawn_at >= _REDRAW_S or moment.ended:
            drawn = screen(self._heading, moment, rows=self._console.height)
            self._screen.update(drawn, refresh=True)
            self._drawn_at = moment.at

    def summary(self, rows: Rows, *, good: bool) -> None:
        """Print the table."""
        self._console.print(summary(rows, good=good))


def picture(path: Path, heading: Heading, moment: Moment, rows: Rows, *, good: bool) -> None:
    """Write the screen of one moment and the summary as SVG; nothing in it is loaded from afar."""
    console = Console(
        record=True,
        width=_PICTURE_COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(screen(heading, moment))
    console.print(summary(rows, good=good))
    svg = console.export_svg(title="make demo", theme=MONOKAI, unique_id="demo")
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: (?:Fira Code|arial)[^;]*;", f"font-family: {_FONT};", svg)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg)
