"""Trusted time for a car without a network: a laptop carries our question and the signed answer.

The answer is bound to our nonce, so that whoever carries it can only hold it back.
"""

from __future__ import annotations

import msgspec

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.trusted_time import Outcome, TrustedClock

RELAY = "laptop"
"""The way of asking that `TrustedClock` keeps apart from the broker's."""

MAX_ANSWER = 1 << 14


def time_request(clock: TrustedClock) -> str:
    """One line for the time server, `{"nonce": …}`; the one asked with before is void."""
    return msgspec.json.encode({"nonce": clock.ask(RELAY)}).decode()


def accept_time(clock: TrustedClock, line: str) -> Outcome:
    """Take the time server's answer as it was typed in or sent.

    Raises Refused(TIME_ATTESTATION_INVALID).
    """
    if len(line) > MAX_ANSWER:
        raise Refused(
            Code.TIME_ATTESTATION_INVALID, f"time attestation: longer than {MAX_ANSWER} characters"
        )
    return clock.accept(line.strip().encode("utf-8", "replace"))
