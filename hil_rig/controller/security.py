"""SecurityAccess 0x27 of the rig: key = AES-128-CMAC(secret, seed of 16 bytes), level 01/02."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hil_rig.controller.iso14229 import Negative, Nrc

SEED_SIZE = 16


def key_for(secret: bytes, seed: bytes) -> bytes:
    """The key that opens the lock for `seed`."""
    mac = CMAC(AES(secret))
    mac.update(seed)
    return mac.finalize()


class Security:
    """The lock; failed attempts and the delay outlive resets, an unlocked state does not."""

    def __init__(
        self, secret: bytes, attempts: int, delay_s: float, random: Callable[[int], bytes]
    ) -> None:
        self._secret = secret
        self._attempts = attempts
        self._delay_s = delay_s
        self._random = random
        self._seed: bytes | None = None
        self._failed = 0
        self._delayed_until: float | None = None
        self.unlocked = False

    def relock(self) -> None:
        """Lock again, as every change of session and every reset does."""
        self.unlocked = False
        self._seed = None

    def request_seed(self, now: float) -> bytes:
        """A new seed, or zeros where the lock is open. Raises `Negative` (37)."""
        if self._delayed_until is not None:
            if now < self._delayed_until:
                raise Negative(Nrc.REQUIRED_TIME_DELAY_NOT_EXPIRED)
            self._delayed_until = None
            self._failed = 0
        if self.unlocked:
            return bytes(SEED_SIZE)
        self._seed = self._random(SEED_SIZE)
        return self._seed

    def send_key(self, now: float, key: bytes) -> None:
        """Open the lock. Raises `Negative`: 24 without a seed, 35, and 36 when too many failed."""
        seed, self._seed = self._seed, None
        if seed is None:
            raise Negative(Nrc.REQUEST_SEQUENCE_ERROR)
        if hmac.compare_digest(key, key_for(self._secret, seed)):
            self.unlocked = True
            self._failed = 0
            return
        self._failed += 1
        if self._failed < self._attempts:
            raise Negative(Nrc.INVALID_KEY)
        self._delayed_until = now + self._delay_s
        raise Negative(Nrc.EXCEEDED_NUMBER_OF_ATTEMPTS)
