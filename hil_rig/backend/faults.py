"""What can go wrong with an answer of the image server, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Kind(StrEnum):
    """The ways in which a server fails or attacks its clients."""

    TRUNCATED = "truncated"  # promises all, closes after `amount` bytes
    LONGER = "longer"  # appends `amount` bytes
    CORRUPT = "corrupt"  # flips one bit of the byte at offset `amount`
    DROPPED = "dropped"  # closes without an answer
    STATUS = "status"  # answers with HTTP status `amount`
    DRIP = "drip"  # sends `amount` bytes a second
    STALL = "stall"  # sends `amount` bytes, then nothing, and keeps the connection
    ENDLESS = "endless"  # promises no length and never ends
    WITHOUT_RANGES = "without_ranges"  # always sends the whole
    OTHER_RANGE = "other_range"  # answers a range with one that begins `amount` bytes earlier


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault for the URL paths that match the shell pattern `url_path`.

    `amount` is what its kind says; `times` is for how many requests it holds (None: until cleared).
    """

    kind: Kind
    url_path: str = "/image/targets/*"
    amount: int = 0
    times: int | None = None

    def concerns(self, path: str) -> bool:
        """Whether a request for this URL path meets the fault."""
        return fnmatchcase(path, self.url_path)
