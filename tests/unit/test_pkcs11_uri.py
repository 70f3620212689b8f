"""The URI of a key on a token: what RFC 7512 allows of it here, and no PIN in a configuration."""

from __future__ import annotations

import sys

import pytest

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.pkcs11 import TokenKey, TokenSigner, parse_uri

GOOD = "pkcs11:token=car%20key;object=vehicle?module-path=/usr/lib/t.so&pin-source=file:/run/pin"


def test_a_uri_is_read_with_its_escapes():
    assert parse_uri(GOOD) == TokenKey(
        module="/usr/lib/t.so",
        pin_file="/run/pin",
        token="car key",
        serial=None,
        label="vehicle",
        id=None,
    )
    by_id = "pkcs11:serial=07;id=%00%ff;type=private?pin-source=/run/pin&module-path=t.so"
    assert (parse_uri(by_id).serial, parse_uri(by_id).id) == ("07", b"\0\xff")
    authority = GOOD.replace("file:/run", "file:///run")
    assert parse_uri(authority).pin_file == "/run/pin"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("/etc/car.key", "pkcs11:"),
        ("pkcs11:", "module-path"),
        (GOOD.replace("&pin-source=file:/run/pin", ""), "pin-source"),
        (GOOD.replace("token=car%20key;", ""), "token or serial"),
        (GOOD.replace(";object=vehicle", ""), "object or id"),
        (GOOD.replace("object=", "colour="), "'colour'"),
        (GOOD.replace(";object", ";token=x;object"), "'token'"),
        (GOOD.replace(";object", ";type=cert;object"), "type"),
        (GOOD.replace(";object=vehicle", ";object"), "'object'"),
    ],
)
def test_a_uri_that_leaves_something_open_is_refused(uri, says):
    with pytest.raises(Refused, match=says) as raised:
        parse_uri(uri)
    assert raised.value.refusal.code is Code.CONFIG_INVALID


def test_a_pin_in_the_uri_is_refused_and_not_repeated():
    with pytest.raises(Refused) as raised:
        parse_uri(f"{GOOD}&pin-value=271828")
    assert "pin-source" in str(raised.value)
    assert "271828" not in str(raised.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Refused, match="python-pkcs11"):
        TokenSigner(GOOD)
