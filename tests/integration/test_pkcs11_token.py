"""The car's key on a token: signs as a file would, and never shows itself or its PIN."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.scenario_bench import running_rig, update_in
from tests.integration.token_bench import PIN, Token
from vehicle_agent.trust.keys import FileSigner

SIGN = """
import sys
from pathlib import Path
from vehicle_agent.refusals import Refused
from vehicle_agent.trust.signer import open_signer
try:
    signer = open_signer(sys.argv[1], Path())
    first = signer.sign(b"manifest")
    signer._session.close()
    assert signer.sign(b"manifest") == first, "after the session was lost"
    print(signer.keyid, first.hex())
except Refused as refused:
    print(refused)
"""


def signed(uri: str) -> str:
    """What a process of its own says: a PKCS#11 library reads its configuration once."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGN, uri], capture_output=True, text=True, timeout=60, check=False
    )
    assert PIN not in ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(name="token")
def _token(tmp_path, monkeypatch):
    return Token(tmp_path / "token", monkeypatch)


@pytest.fixture(name="key_file")
def _key_file(tmp_path):
    path = tmp_path / "car.key"
    path.touch(0o600)
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.mark.requirement("A5")
def test_a_token_signs_as_the_same_key_in_a_file_does(token, key_file):
    token.import_key(key_file)
    file = FileSigner(key_file)
    assert signed(token.uri()).split() == [file.keyid, file.sign(b"manifest").hex()]


def test_a_key_that_is_not_there_and_a_wrong_pin_are_named(token, key_file):
    assert "no such key" in signed(token.uri())
    token.import_key(key_file)
    token.pin_file.write_text("0000")
    assert "PIN refused" in signed(token.uri())
    token.pin_file.write_text(PIN)
    assert "ConfigInvalid" not in signed(token.uri())  # tried once: the token is not locked


def test_a_pin_file_that_others_may_read_is_refused(token, key_file):
    token.import_key(key_file)
    token.pin_file.chmod(0o644)
    assert "0644" in signed(token.uri())


def test_a_token_that_is_away_is_no_broken_configuration(token):
    assert "SignerUnavailable" in signed(token.uri().replace("token=car", "token=other"))


@pytest.mark.scenario
@pytest.mark.requirement("A5")
def test_a_car_with_its_key_on_a_token_reports_as_any_other(tmp_path, token):
    with running_rig(tmp_path, driving=False, consent="approve") as rig:
        rig.agent.stop()
        provisioned = Path(rig.folder / "backend" / "cars" / rig.bench.vin)
        token.import_key(provisioned / "vehicle.key")
        config = rig.folder / "agent.toml"
        relative = f"backend/cars/{rig.bench.vin}/vehicle.key"
        text = config.read_text()
        assert relative in text
        config.write_text(text.replace(relative, token.uri()))
        rig.agent.start()
        update_in(rig, rig.notify(), "completed")
        rig.wait(lambda s: s.outbox == 0, "all reports told")
        manifests = rig.tell("backend", "state")["cars"][rig.bench.vin]["manifests"]
        assert manifests
        assert all(manifest["verified"] for manifest in manifests)
        assert PIN not in Path(rig.agent.log).read_text()
