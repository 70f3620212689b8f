"""Keys for security access (0x27): providers are plug-ins, keys never stand in profiles or logs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from vehicle_agent.refusals import Code, Refused

ENTRY_POINTS = "vehicle_agent.security"
"""Entry point group: name → callable(key_file: Path | None) → SecurityProvider."""

_KEY_LENGTH = 16
_MAX_KEY_FILE = 4096


class SecurityProvider(Protocol):
    """Answers a controller's seed. Implementations never log or show seed or key."""

    def key(self, seed: bytes, level: int) -> bytes:
        """Return the key for `seed` at the odd `level`; raises Refused(SECURITY_DENIED)."""


class AesCmac:
    """AES-128-CMAC(key, seed), RFC 4493."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def from_file(cls, key_file: Path | None) -> AesCmac:
        """Read the key: 16 bytes, or 32 hexadecimal digits. Raises Refused(CONFIG_INVALID)."""
        if key_file is None:
            raise Refused(Code.CONFIG_INVALID, "security provider aes-cmac needs a key file")
        raw = _read_private(key_file)
        if len(raw) != _KEY_LENGTH:
            try:
                raw = bytes.fromhex(raw.decode("ascii"))
            except ValueError:
                raw = b""
        if len(raw) != _KEY_LENGTH:
            raise Refused(Code.CONFIG_INVALID, f"{key_file}: not 16 bytes or 32 hex digits")
        return cls(raw)

    def __repr__(self) -> str:
        return "AesCmac()"

    def key(self, seed: bytes, level: int) -> bytes:
        """The 16 bytes of the CMAC; the level does not enter."""
        mac = CMAC(AES(self._key))
        mac.update(seed)
        return mac.finalize()


_BUILT_IN: dict[str, Callable[[Path | None], SecurityProvider]] = {"aes-cmac": AesCmac.from_file}


def load_provider(name: str, key_file: Path | None) -> SecurityProvider:
    """Make the provider of that name, built-in or plug-in. Raises Refused(CONFIG_INVALID)."""
    if name in _BUILT_IN:
        return _BUILT_IN[name](key_file)
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        known = sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINTS).names})
        raise Refused(
            Code.CONFIG_INVALID,
            f"security.provider = {name!r}: not installed; there are {', '.join(known)}",
        )
    factory: Callable[[Path | None], SecurityProvider] = next(iter(found)).load()
    return factory(key_file)


def _read_private(path: Path) -> bytes:
    """A file that its owner alone can read; judged by the opened file, not by its name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(Code.CONFIG_INVALID, f"{path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(Code.CONFIG_INVALID, f"{path}: not a regular file")
        if status.st_mode & 0o077:
            raise Refused(
                Code.CONFIG_INVALID,
                f"{path}: mode {stat.S_IMODE(status.st_mode):04o} lets others read a key; "
                "allowed is 0600 or 0400",
            )
        return os.read(descriptor, _MAX_KEY_FILE)
    finally:
        os.close(descriptor)
