"""Signal databases as cantools reads them, and names looked up in them with useful refusals."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import cantools
from cantools.database.can import Database, Message, Signal

from vehicle_agent.refusals import Code, Refused

log = logging.getLogger(__name__)


class SignalDatabase:
    """The messages of one or more database files (DBC, ARXML, KCD, SYM).

    A file that cantools' strict mode refuses is loaded with a warning, because one message that
    overlaps itself says nothing against the others; a message that is then used must be sound.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        """Load `files`. Raises `Refused(CONFIG_INVALID)` with file and, for syntax, line."""
        self._databases = [(path, _load(path)) for path in files]
        self.files = ", ".join(path.name for path, _ in self._databases) or "no file"

    def message(self, name: str) -> Message:
        """The message `name`. Raises `Refused(CONFIG_INVALID)` where it is not, or not sound."""
        found = [
            (path, message)
            for path, database in self._databases
            for message in database.messages
            if message.name == name
        ]
        if len(found) != 1:
            names = [m.name for _, database in self._databases for m in database.messages]
            what = f"is in {len(found)} files" if found else f"does not exist{_near(name, names)}"
            raise Refused(Code.CONFIG_INVALID, f"message {name!r} {what} ({self.files})")
        path, message = found[0]
        try:
            message.refresh(strict=True)
        except cantools.Error as error:
            raise Refused(Code.CONFIG_INVALID, f"{path}: message {name!r}: {error}") from error
        return message


def signal_of(message: Message, name: str, files: str) -> Signal:
    """The signal `name` of `message`. Raises `Refused(CONFIG_INVALID)` with near matches."""
    for signal in message.signals:
        if signal.name == name:
            return signal
    near = _near(name, [signal.name for signal in message.signals])
    raise Refused(
        Code.CONFIG_INVALID, f"message {message.name!r} has no signal {name!r}{near} ({files})"
    )


def raw_of(signal: Signal, value: str | int, where: str) -> int:
    """The raw value of a choice name or of a number. Raises `Refused(CONFIG_INVALID)`."""
    if isinstance(value, int):
        return int(signal.scaled_to_raw(value))
    for raw, label in (signal.choices or {}).items():
        if str(label) == value:
            return int(raw)
    names = [str(label) for label in (signal.choices or {}).values()]
    raise Refused(
        Code.CONFIG_INVALID,
        f"{where}: {signal.name} has no choice {value!r}; it has {', '.join(names) or 'none'}",
    )


def scaled(signal: Signal, raw: float) -> float:
    """The value of `raw` in the signal's unit, whether or not it also has a name."""
    return float(cast("float", signal.conversion.raw_to_scaled(raw, decode_choices=False)))


def attribute(message: Message, name: str) -> str | int | float | None:
    """The value of the message attribute `name` in a DBC, or `None`."""
    attributes = getattr(message.dbc, "attributes", None) or {}
    value: str | int | float | None = attributes[name].value if name in attributes else None
    return value


def _load(path: Path) -> Database:
    try:
        return _read(path, strict=True)
    except Refused:
        raise
    except cantools.Error as strict_error:
        try:
            database = _read(path, strict=False)
        except cantools.Error as error:
            raise Refused(Code.CONFIG_INVALID, f"{path}: {error}") from error
        log.warning("%s: %s; read without that check", path, strict_error)
        return database


def _read(path: Path, *, strict: bool) -> Database:
    try:
        database = cantools.database.load_file(path, strict=strict)
    except (OSError, ValueError) as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error}") from error
    if not isinstance(database, Database):
        raise Refused(Code.CONFIG_INVALID, f"{path}: describes diagnostics, not CAN messages")
    return database


def _near(name: str, names: Sequence[str]) -> str:
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f"; near: {', '.join(lower[match] for match in close)}" if close else ""
