"""Security providers: AES-CMAC, private key files, plug-ins; no secret in any message."""

from __future__ import annotations

import pytest

from tests.unit.flashing_bench import START, MemoryTransport, MiniServer, profile, run
from vehicle_agent.flashing import security
from vehicle_agent.flashing.images import Image, Segment
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.flashing.security import AesCmac, load_provider
from vehicle_agent.refusals import Code, Refused

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "adas.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("message", "mac"),
    [
        ("", "bb1d6929e95937287fa37d129b756746"),
        ("6bc1bee22e409f96e93d7e117393172a", "070a16b46b4d4144f79bdd9dd04a287c"),
    ],
)
def test_aes_cmac_gives_the_examples_of_rfc_4493(key_file, message, mac):
    provider = load_provider("aes-cmac", key_file)
    assert provider.key(bytes.fromhex(message), 1).hex() == mac


def test_a_key_may_be_hex_text(key_file):
    key_file.write_text(KEY.hex() + "\n")
    assert load_provider("aes-cmac", key_file).key(b"", 1)[:2].hex() == "bb1d"


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_may_read_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(Refused, match=f"{mode:04o}") as refused:
        load_provider("aes-cmac", key_file)
    assert refused.value.refusal.code is Code.CONFIG_INVALID


@pytest.mark.parametrize("content", [b"", KEY[:-1], KEY + b"\0", b"zz" * 16])
def test_a_file_without_a_key_is_refused_without_showing_it(key_file, content):
    key_file.write_bytes(content)
    with pytest.raises(Refused) as refused:
        load_provider("aes-cmac", key_file)
    assert refused.value.refusal.code is Code.CONFIG_INVALID
    if content:
        assert content.hex() not in str(refused.value)


def test_no_file_a_directory_and_an_unknown_provider_are_refused(tmp_path):
    for name, path in (
        ("aes-cmac", None),
        ("aes-cmac", tmp_path),
        ("aes-cmac", tmp_path / "none"),
        ("nobody", tmp_path),
    ):
        with pytest.raises(Refused) as refused:
            load_provider(name, path)
        assert refused.value.refusal.code is Code.CONFIG_INVALID


def test_a_plug_in_is_found_by_its_entry_point(monkeypatch):
    class Point:
        def load(self):
            return lambda key_file: AesCmac(KEY)

    class Points(list):
        names = frozenset({"maker"})

    def entry_points(*, group, name=None):
        assert group == "vehicle_agent.security"
        return Points([Point()] if name == "maker" else [])

    monkeypatch.setattr(security, "entry_points", entry_points)
    assert load_provider("maker", None).key(b"", 1)[:2].hex() == "bb1d"
    with pytest.raises(Refused, match="aes-cmac, maker"):
        load_provider("other", None)


class Leaky:
    """A provider whose own error would show the key."""

    def key(self, seed, level):
        raise RuntimeError(KEY.hex())


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("provider", [Leaky(), AesCmac(KEY)])
@pytest.mark.parametrize("answer", [[], [b"\x7f\x27\x35"], [b"\x7f\x27\x78"]])
def test_no_refusal_shows_a_key_or_an_answer_to_a_seed(provider, answer):
    server = MiniServer()
    server.twist = lambda pdu: answer if pdu[:2] == b"\x27\x02" else None

    async def work():
        programmer = Programmer(MemoryTransport(server), profile(), provider)
        try:
            await programmer.program(
                Image((Segment(START, b"x"),)),
                fingerprint=bytes(11),
                memory_check=None,
                on_progress=lambda _: None,
                start_gate=lambda: None,
            )
        finally:
            await programmer.close()

    with pytest.raises(Refused) as refused:
        run(work())
    text = str(refused.value).replace(" ", "")
    assert KEY.hex() not in text
    assert AesCmac(KEY).key(server.seed, 1).hex()[:4] not in text
    assert refused.value.__cause__ is None
    assert KEY.hex() not in repr(provider)
    if isinstance(provider, Leaky):
        assert refused.value.refusal.code is Code.SECURITY_DENIED
