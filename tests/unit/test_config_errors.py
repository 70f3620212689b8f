"""A configuration that is wrong: file, key, value, what is allowed; never a traceback."""

from __future__ import annotations

import contextlib
import json
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle_agent.config import load_config
from vehicle_agent.refusals import Code, Refused

GOOD = """
[agent]
state_dir = "state"
[vehicle]
vin = "LNBXMA7R2RB000149"
model = "XMA7000MBEVR2"
production_date = 2024-05-17
[[vehicle.ecus]]
component = "adas-controller"
serial = "S"
hardware_id = "H"
profile = "adas.toml"
bus = "adas"
[bus.adas]
interface = "wire"
channel = "hub"
[bus.vehicle]
interface = "wire"
channel = "hub"
fd = true
[mqtt]
port = 1883
version = 5
[trust]
directory = "trust"
director_root = "d.json"
image_root = "i.json"
time_key = "time.pub"
vehicle_key = "vehicle.key"
allowed_hosts = ["localhost"]
[download]
ca = "ca.pem"
[consent]
hmi_key = "hmi.pub"
[park]
bus = "vehicle"
dbc = ["vehicle.dbc"]
[inhibit]
bus = "vehicle"
dbc = ["adas.dbc"]
[inhibit.request]
message = "OTA_DriveInhibit"
inhibit = {OTA_InhibitRequest = "INHIBIT"}
release = {OTA_InhibitRequest = "RELEASE"}
[inhibit.status]
message = "DU_InhibitStatus"
signal = "DU_Inhibited"
acknowledged = "YES"
"""


def refusal_of(text: str | bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(Refused) as caught:
            load_config(path)
        assert caught.value.refusal.code is Code.CONFIG_INVALID
        detail = caught.value.refusal.detail
        assert detail.startswith(f"{path}: ")
        assert "\n" not in detail
        return detail.removeprefix(f"{path}: ")


def test_a_good_file_is_taken_and_its_paths_start_from_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.state_dir == tmp_path / "state"
    assert config.console_socket == tmp_path / "state" / "console.sock"
    assert config.path("/etc/x") == Path("/etc/x")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("port = 1883", 'port = "x"', ["mqtt.port = 'x'", "int"]),
        ("version = 5", "version = 7", ["mqtt.version = 7", "4, 5"]),
        ("port = 1883", "prot = 1883", ["mqtt", "prot", "keepalive_s", "port"]),
        ("fd = true", 'fd = "yes"', ["bus.vehicle.fd = 'yes'", "bool"]),
        ('serial = "S"', "serial = 5", ["vehicle.ecus[0].serial = 5", "str"]),
        ('serial = "S"', "", ["vehicle.ecus[0]", "serial"]),
        ('"LNBXMA7R2RB000149"', '"SHORT"', ["vehicle", "'SHORT'", "17"]),
        ('bus = "adas"', 'bus = "adsa"', ["vehicle.ecus[adas-controller].bus", "adsa", "'adas'"]),
        ("[agent]\n", "base = 'x'\n[agent]\n", ["base"]),
        ('state_dir = "state"', 'state_dir = ""', ["agent", "state_dir is empty"]),
        ('state_dir = "state"', 'state_dir = "a\\u0000"', ["agent.state_dir", "NUL"]),
        ("[download]\n", "[donwload]\n", ["donwload", "download"]),
        ("port = 1883", "port = 18 83", ["line 22"]),
        ("production_date = 2024-05-17", "production_date = 'May'", ["production_date = 'May'"]),
    ],
)
def test_the_message_names_key_value_and_what_is_allowed(
    good: str, bad: str, said: list[str]
) -> None:
    assert good in GOOD
    detail = refusal_of(GOOD.replace(good, bad, 1))
    for words in said:
        assert words in detail


def test_a_file_that_is_not_there_not_text_or_nested_without_end(tmp_path: Path) -> None:
    assert refusal_of(b"\xff\xfe\x00")
    assert refusal_of("x = " + "[" * 5000)
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(Refused) as caught:
            load_config(path)
        assert str(path) in caught.value.refusal.detail


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=4), st.integers(0, 3), max_size=2),
)
TABLE = tomllib.loads(GOOD)


def toml(value: object) -> str:
    """Inline TOML of a value."""
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items())
        return "{" + inner + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return str(value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    copy = tomllib.loads(GOOD)
    target, keys = copy, []
    while True:
        key = data.draw(st.sampled_from(sorted(target)))
        keys.append(key)
        inner = target[key]
        if not isinstance(inner, dict) or data.draw(st.booleans()):
            break
        target = inner
    if data.draw(st.booleans()):
        key = data.draw(st.text(max_size=6))
    target[key] = data.draw(VALUES)
    text = "\n".join(f"{json.dumps(name)} = {toml(value)}" for name, value in copy.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.toml"
        path.write_text(text.replace("\\ud", "\\u0"), "utf-8", "replace")
        with contextlib.suppress(Refused):  # a refusal is one line by its making
            load_config(path)
