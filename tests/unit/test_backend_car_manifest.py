"""Whose word a vehicle version manifest is: every part of it needs the car's own signature."""

import copy

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil_rig.backend.car_manifest import is_signed_by
from hil_rig.backend.repository import canonical

CAR, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


def _sign(signed, key=CAR):
    return {
        "signed": signed,
        "signatures": [{"keyid": "k", "sig": key.sign(canonical(signed)).hex()}],
    }


def _manifest(statement_key=CAR, key=CAR):
    statement = _sign({"ecu_serial": "ADAS-0001"}, statement_key)
    return _sign({"ecu_version_manifests": {"ADAS-0001": statement}, "report_counter": 1}, key)


def test_manifest_signed_throughout_is_the_cars():
    assert is_signed_by(CAR.public_key(), _manifest())


@pytest.mark.parametrize("manifest", [_manifest(STRANGER), _manifest(CAR, STRANGER)])
def test_one_part_by_another_key_is_not(manifest):
    assert not is_signed_by(CAR.public_key(), manifest)


def test_changed_or_unsigned_manifest_is_not():
    changed = copy.deepcopy(_manifest())
    changed["signed"]["report_counter"] = 2
    assert not is_signed_by(CAR.public_key(), changed)
    assert not is_signed_by(CAR.public_key(), _manifest() | {"signatures": []})


@pytest.mark.parametrize(
    "manifest", [{}, {"signed": {}}, {"signed": {"ecu_version_manifests": []}}]
)
def test_other_shapes_are_not(manifest):
    assert not is_signed_by(CAR.public_key(), manifest)
