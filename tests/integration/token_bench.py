"""A PKCS#11 token in software (SoftHSM2), in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "271828"


class Token:
    """One token labelled `car`; `import_key` puts a PKCS8 PEM key on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tool = shutil.which("softhsm2-util")
        if tool is None or not MODULE.exists():
            pytest.skip("softhsm2 is not installed")
        pytest.importorskip("pkcs11", reason="the package python-pkcs11 is not installed")
        self.tool, self.folder = tool, folder
        (folder / "tokens").mkdir(parents=True)
        conf = folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(conf))
        self.pin_file = folder / "pin"
        self.pin_file.touch(0o600)
        self.pin_file.write_text(f"{PIN}\n")
        self._run("--init-token", "--free", "--label", "car", "--so-pin", "314159", "--pin", PIN)

    def import_key(self, path: Path, label: str = "vehicle") -> None:
        """Put the key in `path` on the token."""
        where = ["--token", "car", "--label", label, "--id", "07", "--pin", PIN]
        self._run("--import", str(path), *where)

    def uri(self, label: str = "vehicle") -> str:
        """The key's URI for `[trust] vehicle_key`."""
        return (
            f"pkcs11:token=car;object={label}?module-path={MODULE}&pin-source=file:{self.pin_file}"
        )

    def _run(self, *arguments: str) -> None:
        subprocess.run([self.tool, *arguments], check=True, capture_output=True, timeout=60)
