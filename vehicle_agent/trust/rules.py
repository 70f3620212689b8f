"""Names and bounds of a repository's roles. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from vehicle_agent.refusals import Code, Refused

TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Rules:
    """Where plain TUF and Uptane in a car differ.

    A search visits at most `most_roles` delegated roles, at most `deepest` below the top.
    """

    keyids_are_digests: bool
    most_roles: int
    deepest: int


UPTANE = Rules(keyids_are_digests=True, most_roles=32, deepest=8)
PLAIN_TUF = Rules(keyids_are_digests=False, most_roles=32, deepest=32)


def quoted_role(role: str) -> str:
    """The name of `role` as part of a file's name and of a URL: nothing in it can lead elsewhere.

    Raises Refused(METADATA_MALFORMED) for a name that is too long or no Unicode.
    """
    try:
        quoted = quote(role, safe="")
    except UnicodeEncodeError:
        raise Refused(Code.METADATA_MALFORMED, "role name: is not Unicode") from None
    if len(quoted) > _LONGEST_NAME:
        raise Refused(
            Code.METADATA_MALFORMED,
            f"role name {quoted[:32]!r}…: longer than {_LONGEST_NAME} characters",
        )
    return quoted
