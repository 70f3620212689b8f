"""A car's trusted clock over a loop time that the test moves, and the time server that it asks."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.attestation import TimeServer
from hil_rig.backend.repository import Repository
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.time_key import TimeKeys
from vehicle_agent.trust.trusted_time import TrustedClock

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class TimeWorld:
    def __init__(self, folder):
        self.folder = folder
        self.loop_time = 1000.0
        self.server_time = self.system_time = NOON
        self.nonces = 0
        self.server = TimeServer(KEY, lambda: self.server_time)
        self.image = Repository(NOON)
        self.restart()

    def restart(self):
        """A new process over the same files."""
        self.floors = FileMonotonicStore(self.folder / "floors.json")
        self.keys = TimeKeys(
            KEY.public_key(),
            self.folder / "time-key.json",
            self.floors,
            lambda: self.image.files[f"{self.image.root.version}.root.json"],
        )
        self.clock = TrustedClock(
            self.keys,
            self.floors,
            loop_time=lambda: self.loop_time,
            nonce_bytes=self._nonce,
            max_age_s=3600.0,
            system_time=lambda: self.system_time,
        )

    def _nonce(self, size):
        self.nonces += 1
        return self.nonces.to_bytes(size)

    def answer(self, nonce=None):
        """What the time server answers to our next question, or to `nonce`."""
        return json.dumps(self.server.attest(nonce or self.clock.ask())).encode()

    def attest(self, time=None):
        """Ask and take the answer; `time` is the server's from now on."""
        self.server_time = time or self.server_time
        return self.clock.accept(self.answer())
