"""The car's own key, wherever the configuration says that it is."""

from __future__ import annotations

from pathlib import Path

from vehicle_agent.trust import pkcs11
from vehicle_agent.trust.keys import FileSigner, Signer


def open_signer(vehicle_key: str, base: Path) -> Signer:
    """The signer for `[trust] vehicle_key`: a PKCS#11 URI, or a key file, relative to `base`.

    Raises Refused: CONFIG_INVALID, SIGNER_UNAVAILABLE.
    """
    if vehicle_key.startswith(pkcs11.SCHEME):
        return pkcs11.TokenSigner(vehicle_key)
    return FileSigner(base / vehicle_key)
