"""The UDS server: requests and `now` in, responses when they are due. No I/O but the flash file.

Sessions, timers, suppressed responses and the order in which a request is checked follow
ISO 14229-1:2020 clause 8 and 9. One server lives from one boot to the next reset.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

from hil_rig.controller.faults import Faults
from hil_rig.controller.iso14229 import (
    POSITIVE_OFFSET,
    SUPPRESS_POSITIVE_RESPONSE,
    UNSAID_WHEN_FUNCTIONAL,
    Negative,
    Nrc,
    Service,
    Session,
    negative,
)
from hil_rig.controller.security import Security

Busy = Generator[float, None, bytes]
Action = Callable[[bytes], "bytes | Busy"]

ANY = frozenset(Session)
NOT_PROGRAMMING = frozenset({Session.DEFAULT, Session.EXTENDED})
NOT_DEFAULT = frozenset({Session.PROGRAMMING, Session.EXTENDED})
PROGRAMMING = frozenset({Session.PROGRAMMING})
EXTENDED = frozenset({Session.EXTENDED})


class Entry(NamedTuple):
    """One service: what it does with the bytes behind the service byte, and where it may run.

    `sub_functions` maps a sub-function to its sessions; None for services without one.
    """

    action: Action
    sessions: frozenset[Session]
    sub_functions: dict[int, frozenset[Session]] | None = None
    least: int = 1


class Timings(NamedTuple):
    """Seconds: first 0x78 after 0.8 p2, the next ones each `pending_every`; s3; told in 0x50."""

    p2: float
    p2_star: float
    pending_every: float
    s3: float


@dataclass(slots=True)
class _Job:
    request: bytes
    functional: bool
    suppress: bool
    drop: bool
    steps: Busy
    wake_at: float
    pending_at: float
    pending_said: bool = False


class Server:
    """Sessions, timers and dispatch; the services themselves are entries of `services`."""

    def __init__(self, timings: Timings, faults: Faults, security: Security | None) -> None:
        self.timings = timings
        self.faults = faults
        self.security = security
        self.session = Session.DEFAULT
        self.services: dict[int, Entry] = {}
        self.on_session: Callable[[Session], None] = lambda _session: None
        self.now = 0.0
        self._job: _Job | None = None
        self._s3_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `due` has something to do next."""
        if self._job is not None:
            return min(self._job.wake_at, self._job.pending_at)
        return self._s3_at

    @property
    def busy(self) -> bool:
        """Whether a request is being carried out."""
        return self._job is not None

    def require_unlocked(self) -> None:
        """Raise `Negative` (33) where the profile has a lock and it is shut."""
        if self.security is not None and not self.security.unlocked:
            raise Negative(Nrc.SECURITY_ACCESS_DENIED)

    def enter(self, session: Session) -> None:
        """Change the session, as 0x10 and the S3 timeout do; the lock shuts."""
        self.session = session
        if self.security is not None:
            self.security.relock()
        self.on_session(session)

    def request(self, now: float, data: bytes, *, functional: bool = False) -> list[bytes]:
        """Take one request; returns the responses due at once, in order (see `due`)."""
        out = self.due(now)
        if not data:
            return out
        if self._job is not None:
            if data != bytes((Service.TESTER_PRESENT, SUPPRESS_POSITIVE_RESPONSE)):
                out.append(negative(data[0], Nrc.BUSY_REPEAT_REQUEST))
            return out
        verdict = self.faults.on_request(data)
        if verdict.silent:
            return out
        if self._s3_at is not None:
            self._s3_at = now + self.timings.s3
        if verdict.nrc is not None:
            out.append(negative(data[0], verdict.nrc))
            return out
        entry = self.services.get(data[0])
        suppress = (
            entry is not None
            and entry.sub_functions is not None
            and len(data) > 1
            and bool(data[1] & SUPPRESS_POSITIVE_RESPONSE)
        )
        self._job = _Job(
            request=data,
            functional=functional,
            suppress=suppress,
            drop=verdict.drop,
            steps=self._carry_out(data, entry, verdict.delay_s),
            wake_at=now,
            pending_at=now + 0.8 * self.timings.p2,
        )
        return out + self.due(now)

    def due(self, now: float) -> list[bytes]:
        """Everything that is to be sent by `now`: pending responses, the answer; runs S3 out."""
        out: list[bytes] = []
        while (job := self._job) is not None and min(job.wake_at, job.pending_at) <= now:
            self.now = min(job.wake_at, job.pending_at)
            if job.pending_at < job.wake_at:
                out.append(negative(job.request[0], Nrc.RESPONSE_PENDING))
                job.pending_said = True
                job.pending_at += self.timings.pending_every
            else:
                out += self._step(job, now)
        if self._job is None and self._s3_at is not None and self._s3_at <= now:
            self._s3_at = None
            self.enter(Session.DEFAULT)
        return out

    def _step(self, job: _Job, now: float) -> list[bytes]:
        try:
            job.wake_at += next(job.steps)
        except StopIteration as done:
            body: bytes = done.value
            suppress = job.suppress and not job.pending_said
            answer = None if suppress else bytes((job.request[0] + POSITIVE_OFFSET,)) + body
        except Negative as refused:
            unsaid = refused.nrc in UNSAID_WHEN_FUNCTIONAL and not job.pending_said
            answer = None if job.functional and unsaid else negative(job.request[0], refused.nrc)
        else:
            return []
        self._job = None
        self._s3_at = None if self.session is Session.DEFAULT else now + self.timings.s3
        return [] if answer is None or job.drop else [answer]

    def _carry_out(self, data: bytes, entry: Entry | None, delay_s: float) -> Busy:
        if delay_s:
            yield delay_s
        if entry is None:
            raise Negative(Nrc.SERVICE_NOT_SUPPORTED)
        if self.session not in entry.sessions:
            raise Negative(Nrc.SERVICE_NOT_SUPPORTED_IN_SESSION)
        if len(data) <= entry.least:
            raise Negative(Nrc.INCORRECT_LENGTH)
        body = data[1:]
        if entry.sub_functions is not None:
            sub = body[0] & ~SUPPRESS_POSITIVE_RESPONSE
            sessions = entry.sub_functions.get(sub)
            if sessions is None:
                raise Negative(Nrc.SUB_FUNCTION_NOT_SUPPORTED)
            if self.session not in sessions:
                raise Negative(Nrc.SUB_FUNCTION_NOT_SUPPORTED_IN_SESSION)
            body = bytes((sub,)) + body[1:]
        answer = entry.action(body)
        return answer if isinstance(answer, bytes) else (yield from answer)
