"""What time it is, by the time server's signature and our own elapsed time. Sans-I/O.

The system clock has no say. An attestation counts only for the nonce that we asked with, so that
an old one cannot be played again; between attestations the loop's monotonic time counts on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical, parse_object, unwrap
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.keys import is_signed, keyid_of

FLOOR = "time_s"
"""Name of the time floor in the MonotonicStore: seconds since 1970 of the last attestation."""

_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)


class TrustedClock:
    """Trusted wall time, from one attestation to the next.

    `loop_time` is the running loop's `time`, in seconds; `max_age_s` is how long one attestation
    is counted on from; `nonce_bytes(n)` gives n random bytes.
    """

    def __init__(
        self,
        key: Ed25519PublicKey,
        floors: MonotonicStore,
        *,
        loop_time: Callable[[], float],
        nonce_bytes: Callable[[int], bytes],
        max_age_s: float,
    ) -> None:
        self._key = key
        self._keyid = keyid_of(key)
        self._floors = floors
        self._loop_time = loop_time
        self._nonce_bytes = nonce_bytes
        self._max_age_s = max_age_s
        self._asked: tuple[str, float] | None = None
        self._attested: tuple[datetime, float] | None = None

    def ask(self) -> str:
        """A new nonce (hex, 16 bytes) for the time server; the one asked with before is void."""
        self._asked = (self._nonce_bytes(16).hex(), self._loop_time())
        return self._asked[0]

    def accept(self, message: bytes) -> datetime:
        """Take an attestation `{signed: {time, nonce}, signatures}`, in an envelope or without.

        Time is counted from when we *asked*: a reply that was held back makes the clock late, not
        fast. Raises Refused(TIME_ATTESTATION_INVALID).
        """
        asked = self._asked
        if asked is None:
            raise _invalid("none was asked for")
        try:
            attestation = unwrap(parse_object(message))
            payload = canonical(attestation["signed"])
            nonce, text = attestation["signed"]["nonce"], attestation["signed"]["time"]
            sigs = [s["sig"] for s in attestation["signatures"] if s["keyid"] == self._keyid]
        except ValueError as error:
            raise _invalid(str(error)) from None
        except (KeyError, TypeError):
            raise _invalid("needs signed.time, signed.nonce and signatures") from None
        if not any(is_signed(self._key, sig, payload) for sig in sigs):
            raise _invalid("not signed by the time server's key")
        if nonce != asked[0]:
            raise _invalid("answers another nonce than ours")
        time = _parse_time(text)
        if time < self.floor:
            raise _invalid(f"{text} is before {self.floor:%Y-%m-%dT%H:%M:%SZ}, attested earlier")
        self._floors.raise_to(FLOOR, int(time.timestamp()))
        self._asked = None
        self._attested = (time, asked[1])
        return time

    @property
    def floor(self) -> datetime:
        """The latest time ever attested (whole seconds): it is not earlier than this."""
        return datetime.fromtimestamp(self._floors.get(FLOOR), UTC)

    def now(self) -> datetime | None:
        """Trusted time, or None while there is no attestation that is young enough."""
        if self._attested is None:
            return None
        time, since = self._attested
        elapsed = self._loop_time() - since
        return time + timedelta(seconds=elapsed) if 0 <= elapsed <= self._max_age_s else None

    def require_now(self) -> datetime:
        """Trusted time; raises Refused(NO_TRUSTED_TIME)."""
        now = self.now()
        if now is None:
            raise Refused(Code.NO_TRUSTED_TIME, "no time attestation yet, or the last one is old")
        return now


def _parse_time(text: Any) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        time = time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"time {str(text)[:40]!r} is not ISO 8601 with a zone") from None
    if not _EARLIEST <= time <= _LATEST:
        raise _invalid(f"time {str(text)[:40]!r} is outside {_EARLIEST:%Y} to {_LATEST:%Y}")
    return time


def _invalid(what: str) -> Refused:
    return Refused(Code.TIME_ATTESTATION_INVALID, f"time attestation: {what}")
