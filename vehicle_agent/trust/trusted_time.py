"""What time it is, by the time server's signature and our own elapsed time. Sans-I/O.

The system clock has no say; how far it is off is kept as evidence. An attestation counts only for
a nonce that we asked with, so that an old one cannot be played again; between attestations the
loop's monotonic time counts on. The reasons and the threats stand in docs/trusted-time.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import canonical, parse_object, unwrap
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.keys import is_signed
from vehicle_agent.trust.time_key import TimeKeys, is_statement

EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""No attested time outside these is believed, whoever signs it."""

PLAUSIBLE = timedelta(days=30)
"""How far time may be ahead of what we know, having been off, without a second attestation."""

FIRST_PLAUSIBLE = timedelta(days=15 * 365)
"""The same for a car that has never been told the time."""

CONFIRM_S = 600.0
"""How much later, by our own time, the attestation that confirms an implausible one was asked."""

_AGREE = timedelta(seconds=60)
_ANSWER_WITHIN_S = 600.0


class Outcome(StrEnum):
    """What a message of the time server came to, where it is not refused."""

    ATTESTED = "attested"
    FOREIGN = "foreign"  # well signed, but no answer to a question of ours that is open
    UNCONFIRMED = "unconfirmed"  # agrees with an implausible time, but was asked too soon after it
    NEW_KEY = "new_key"  # the Image root has named another key: ask again


class _Asked(NamedTuple):
    nonce: str
    at: float


class _Attested(NamedTuple):
    time: datetime
    since: float


class TrustedClock:
    """Trusted wall time, from one attestation to the next.

    `loop_time` is the running loop's `time`, in seconds; `max_age_s` is how long one attestation
    is counted on from; `nonce_bytes(n)` gives n random bytes; `system_time` is the system clock.
    """

    def __init__(
        self,
        keys: TimeKeys,
        floors: MonotonicStore,
        *,
        loop_time: Callable[[], float],
        nonce_bytes: Callable[[int], bytes],
        max_age_s: float,
        system_time: Callable[[], datetime] | None = None,
    ) -> None:
        self._keys = keys
        self._floors = floors
        self._loop_time = loop_time
        self._nonce_bytes = nonce_bytes
        self._max_age_s = max_age_s
        self._system_time = system_time
        self._asked: dict[str, _Asked] = {}
        self._attested: _Attested | None = None
        self._implausible: _Attested | None = None
        self._started = _Attested(self.floor, loop_time())

    def ask(self, way: str = "broker") -> str:
        """A new nonce (hex, 16 bytes); the one asked with before on this `way` is void.

        A laptop that relays the question is a way of its own, so that the two do not void each
        other's nonces.
        """
        asked = _Asked(self._nonce_bytes(16).hex(), self._loop_time())
        self._asked[way] = asked
        return asked.nonce

    def accept(self, message: bytes) -> Outcome:
        """Take what the time server says, whichever way it came, in an envelope or without.

        `{signed: {time, nonce}, signatures}` is an attestation; time is counted from when we
        *asked*, so that an answer held back makes the clock fast by at most that long, never
        slow: expiry is judged too early rather than too late. `signed._type` "time-key" is a
        statement of the Image root about the time server's key. What is not signed by the right
        key, or says an impossible time, is evidence of an attack: Refused(TIME_ATTESTATION_INVALID)
        """
        try:
            document = unwrap(parse_object(message))
            signed = document["signed"]
            if is_statement(signed):
                return self._take_key(document)
            payload = canonical(signed)
            nonce, text = signed["nonce"], signed["time"]
            signatures = [(s["keyid"], s["sig"]) for s in document["signatures"]]
        except ValueError as error:
            raise _invalid(str(error)) from None
        except (KeyError, TypeError):
            raise _invalid("needs signed.time, signed.nonce and signatures") from None
        key = self._keys.current
        if key is None:
            raise _invalid("the key that the Image root named last is lost; it must be sent again")
        if not any(
            keyid == key.keyid and is_signed(key.key, s, payload) for keyid, s in signatures
        ):
            raise _invalid("not signed by the time server's key")
        way = self._way_of(nonce)
        if way is None:
            return Outcome.FOREIGN
        return self._judge(parse_time(text), self._asked.pop(way).at)

    @property
    def floor(self) -> datetime:
        """It is not earlier than this (whole seconds), by the key in use; 1970 if nothing is."""
        return datetime.fromtimestamp(self._floors.get(self._keys.floor_name), UTC)

    @property
    def system_clock_off(self) -> timedelta | None:
        """How far the system clock is ahead of trusted time: evidence. None without either."""
        now = self.now()
        if now is None or self._system_time is None:
            return None
        return self._system_time() - now

    def now(self) -> datetime | None:
        """Trusted time, or None while there is no attestation that is young enough."""
        if self._attested is None:
            return None
        elapsed = self._loop_time() - self._attested.since
        if not 0 <= elapsed <= self._max_age_s:
            return None
        return self._attested.time + timedelta(seconds=elapsed)

    def require_now(self) -> datetime:
        """Trusted time; raises Refused(NO_TRUSTED_TIME)."""
        now = self.now()
        if now is None:
            raise Refused(Code.NO_TRUSTED_TIME, "no time attestation yet, or the last one is old")
        return now

    def _way_of(self, nonce: object) -> str | None:
        for way, asked in self._asked.items():
            if asked.nonce == nonce and self._loop_time() - asked.at <= _ANSWER_WITHIN_S:
                return way
        return None

    def _judge(self, time: datetime, asked: float) -> Outcome:
        if time < self.floor:
            raise _invalid(f"{_text(time)} is before {_text(self.floor)}, known to have passed")
        ceiling = self._ceiling(asked)
        if time > ceiling and not self._agrees(self._attested, time, asked):
            self._confirm(time, asked, ceiling)
            if self._implausible is not None:
                return Outcome.UNCONFIRMED
        self._implausible = None
        self._floors.raise_to(self._keys.floor_name, int(min(time, ceiling).timestamp()))
        self._attested = _Attested(time, asked)
        if self._started.time < EARLIEST:
            self._started = _Attested(self.floor, asked)
        return Outcome.ATTESTED

    def _ceiling(self, asked: float) -> datetime:
        """The latest plausible time: the floor at the start, elapsed time, and a while of rest."""
        floor, since = self._started
        elapsed = timedelta(seconds=asked - since)
        if floor < EARLIEST:
            return EARLIEST + FIRST_PLAUSIBLE + elapsed
        return floor + PLAUSIBLE + elapsed

    def _confirm(self, time: datetime, asked: float, ceiling: datetime) -> None:
        """Hold an implausible time back until one that was asked later agrees with it."""
        before = self._implausible
        if before is None or not self._agrees(before, time, asked):
            self._implausible = _Attested(time, asked)
            raise _invalid(
                f"{_text(time)} is later than {_text(ceiling)} can be explained by a rest; "
                f"held back until one asked {CONFIRM_S:.0f} s later agrees"
            )
        if asked - before.since >= CONFIRM_S:
            self._implausible = None

    @staticmethod
    def _agrees(before: _Attested | None, time: datetime, asked: float) -> bool:
        if before is None:
            return False
        expected = before.time + timedelta(seconds=asked - before.since)
        return abs(time - expected) <= _AGREE

    def _take_key(self, document: dict[str, Any]) -> Outcome:
        if not self._keys.accept(document):
            return Outcome.FOREIGN
        self._attested = self._implausible = None
        self._started = _Attested(self.floor, self._loop_time())
        return Outcome.NEW_KEY


def parse_time(text: Any) -> datetime:
    """An aware UTC time from ISO 8601 text, from EARLIEST to LATEST.

    Raises Refused(TIME_ATTESTATION_INVALID).
    """
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        time = time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"time {str(text)[:40]!r} is not ISO 8601 with a zone") from None
    if not EARLIEST <= time <= LATEST:
        raise _invalid(f"time {str(text)[:40]!r} is outside {EARLIEST:%Y} to {LATEST:%Y}")
    return time


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _invalid(what: str) -> Refused:
    return Refused(Code.TIME_ATTESTATION_INVALID, f"time attestation: {what}")
