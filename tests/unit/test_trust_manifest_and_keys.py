"""The signed vehicle version manifest, the car's key, and JSON with one meaning only."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.backend.pki import private_pem, public_pem
from hil_rig.backend.private_file import write_private
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.strict_json import DEEPEST, canonical, parse_object
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.keys import FileSigner, is_signed, keyid_of, load_public_key
from vehicle_agent.trust.manifest import EcuReport, build_manifest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def signer(tmp_path):
    write_private(tmp_path / "car.key", private_pem(KEY))
    return FileSigner(tmp_path / "car.key")


def manifest(signer, floors):
    report = EcuReport(
        serial="ADAS-0042",
        hardware_id="ADAS-HW-3",
        filepath="adas.bin",
        length=1200,
        sha256="ab" * 32,
        software_version="2.4.0",
        rxswin="R2",
        attack_counts={"UnmetThreshold": 3, "BadEcuId": 1},
    )
    return build_manifest(
        vin="LXMA7AEB1R0000042",
        primary_serial="HU-1",
        reports=[report],
        time=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        audit_head="cd" * 32,
        floors=floors,
        signer=signer,
    )


def test_manifest_and_each_statement_in_it_are_signed_by_the_car(signer, tmp_path):
    whole = manifest(signer, FileMonotonicStore(tmp_path / "floors.json"))
    statement = whole["signed"]["ecu_version_manifests"]["ADAS-0042"]
    for part in (whole, statement):
        (signature,) = part["signatures"]
        assert signature["keyid"] == keyid_of(KEY.public_key())
        assert is_signed(KEY.public_key(), signature["sig"], canonical(part["signed"]))
    said = statement["signed"]
    assert said["installed_image"]["fileinfo"] == {"length": 1200, "hashes": {"sha256": "ab" * 32}}
    assert said["attacks_detected"] == "UnmetThreshold,BadEcuId"
    assert said["attack_counts"] == {"UnmetThreshold": 3, "BadEcuId": 1}
    assert said["timeserver_time"] == "2026-03-01T12:00:00Z"
    assert whole["signed"]["audit_head"] == "cd" * 32


def test_report_counter_counts_on_over_a_restart(signer, tmp_path):
    counters = [
        manifest(signer, FileMonotonicStore(tmp_path / "floors.json"))["signed"]["report_counter"]
        for _ in range(3)
    ]
    assert counters == [1, 2, 3]


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_key_file_that_others_may_read_is_refused(signer, tmp_path, mode):
    (tmp_path / "car.key").chmod(mode)
    with pytest.raises(Refused, match="0600 is needed") as caught:
        FileSigner(tmp_path / "car.key")
    assert caught.value.refusal.code is Code.CONFIG_INVALID


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("content", [b"", b"no key", public_pem(KEY.public_key())])
def test_what_is_no_private_key_is_refused_without_showing_it(tmp_path, content):
    write_private(tmp_path / "car.key", content)
    with pytest.raises(Refused) as caught:
        FileSigner(tmp_path / "car.key")
    assert "PRIVATE" not in str(caught.value)


def test_public_key_is_read_and_anything_else_refused(tmp_path):
    (tmp_path / "key.pem").write_bytes(public_pem(KEY.public_key()))
    assert load_public_key(tmp_path / "key.pem") == KEY.public_key()
    (tmp_path / "key.pem").write_bytes(b"nothing")
    for name in ("key.pem", "absent.pem"):
        with pytest.raises(Refused, match=name):
            load_public_key(tmp_path / name)


@pytest.mark.parametrize("signature", [None, 7, "", "zz", "00", "00" * 64])
def test_nonsense_is_no_signature(signature):
    assert not is_signed(KEY.public_key(), signature, b"payload")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": 1.5}', "1.5"),
        (b'{"a": 1e400}', "1e400"),
        (b"[]", "list"),
        (b"7", "number"),
        (b"null", "null"),
        (b"\xff", "UTF-8"),
        (b"{", "not JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
    ],
)
def test_json_with_more_than_one_meaning_is_refused_in_words(data, words):
    with pytest.raises(ValueError, match=words):
        parse_object(data)


def test_depth_up_to_the_limit_is_read():
    parse_object(b'{"a":' * (DEEPEST - 1) + b"{}" + b"}" * (DEEPEST - 1))
    with pytest.raises(ValueError, match="nested"):
        parse_object(b'{"a":' * DEEPEST + b"{}" + b"}" * DEEPEST)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_parsing_gives_back_what_was_written(value):
    assert parse_object(json.dumps(value).encode()) == value


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_in_one_way(data):
    try:
        assert isinstance(parse_object(data), dict)
    except ValueError:
        return


@pytest.mark.parametrize("value", [1.5, {"a": object()}, "\ud800"])
def test_values_without_canonical_form_are_refused(value):
    with pytest.raises(ValueError, match="holds a"):
        canonical(value)
