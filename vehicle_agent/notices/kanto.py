"""Which Kanto status words tell an update's state to the outside. Pure."""

from __future__ import annotations

from typing import NamedTuple


class StatusWords(NamedTuple):
    """`status` of the desired state, and of the action on the component (None: no action yet)."""

    status: str
    action: str | None


_WORDS = {
    "idle": StatusWords("IDENTIFYING", None),
    "noticed": StatusWords("IDENTIFYING", None),
    "verified": StatusWords("IDENTIFIED", "IDENTIFIED"),
    "rejected": StatusWords("IDENTIFICATION_FAILED", None),
    "downloading": StatusWords("RUNNING", "DOWNLOADING"),
    "ready": StatusWords("RUNNING", "DOWNLOAD_SUCCESS"),
    "approved": StatusWords("RUNNING", "DOWNLOAD_SUCCESS"),
    "installing": StatusWords("RUNNING", "UPDATING"),
    "activating": StatusWords("RUNNING", "ACTIVATING"),
    "probation": StatusWords("RUNNING", "ACTIVATION_SUCCESS"),
    "rolling_back": StatusWords("RUNNING", "ACTIVATION_FAILURE"),
    "completed": StatusWords("COMPLETED", "ACTIVATION_SUCCESS"),
    "rolled_back": StatusWords("INCOMPLETE", "ROLLBACK_SUCCESS"),
    "recovery_required": StatusWords("INCOMPLETE_INCONSISTENT", "UPDATE_FAILURE"),
    "failed": StatusWords("INCOMPLETE", "UPDATE_FAILURE"),
    "cancelled": StatusWords("INCOMPLETE", "UPDATE_FAILURE"),
    "superseded": StatusWords("SUPERSEDED", "UPDATE_FAILURE"),
}

_BEFORE_ANYTHING_WAS_INSTALLED = ("verified", "downloading")


def status_words(state: str, before: str | None = None) -> StatusWords:
    """The words for `state`; `before` is the state that a failed update was in until then.

    Raises KeyError for a state that does not exist.
    """
    words = _WORDS[state]
    if state == "failed" and before in _BEFORE_ANYTHING_WAS_INSTALLED:
        return StatusWords(words.status, "DOWNLOAD_FAILURE")
    return words
