"""Floors that never go down, and files that hold after a power cut."""

import os
from pathlib import Path

import pytest

from vehicle_agent.durable import write_durably
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.floors import FileMonotonicStore
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.time_key import FLOOR


def test_floors_only_rise_and_hold_over_a_restart(tmp_path):
    path = tmp_path / "floors.json"
    floors = FileMonotonicStore(path)
    assert floors.get("a") == 0
    assert floors.raise_to("a", 5) == 5
    assert floors.raise_to("a", 3) == 5
    floors.raise_to("b", 1)
    again = FileMonotonicStore(path)
    assert (again.get("a"), again.get("b")) == (5, 1)


def test_floor_that_another_process_has_raised_stays_raised(tmp_path):
    ours, theirs = (FileMonotonicStore(tmp_path / "floors.json") for _ in range(2))
    theirs.raise_to("time_s", 9)
    assert ours.raise_to("time_s", 7) == 9
    ours.raise_to("report_counter", 1)
    again = FileMonotonicStore(tmp_path / "floors.json")
    assert (again.get("time_s"), again.get("report_counter")) == (9, 1)


@pytest.mark.parametrize("damage", ["", "{}", '{"floors": {"a": 1}, "sha256": "00"}', None])
@pytest.mark.parametrize("copy", ["floors.json", "floors.json.copy"])
def test_damaged_copy_of_the_floors_lowers_nothing(tmp_path, copy, damage):
    FileMonotonicStore(tmp_path / "floors.json").raise_to("a", 5)
    if damage is None:
        (tmp_path / copy).unlink()
    else:
        (tmp_path / copy).write_text(damage)
    floors = FileMonotonicStore(tmp_path / "floors.json")
    assert floors.get("a") == 5
    floors.raise_to("a", 6)
    assert (tmp_path / "floors.json").read_bytes() == (tmp_path / "floors.json.copy").read_bytes()


def test_floors_that_are_lost_in_both_copies_are_not_taken_for_zero(tmp_path):
    path = tmp_path / "floors.json"
    FileMonotonicStore(path).raise_to(FLOOR, 5)
    for copy in (path, tmp_path / "floors.json.copy"):
        copy.write_bytes(b"\0" * 10)
    with pytest.raises(Refused) as caught:
        FileMonotonicStore(path)
    assert caught.value.refusal.code is Code.JOURNAL_DAMAGED


def test_writing_syncs_the_file_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    real = os.fsync

    def fsync(descriptor):
        seen.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.read_bytes()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_durably(path, b"new")
    assert seen == [(tmp_path / "file.new", b"old"), (tmp_path, b"new")]
    assert path.stat().st_mode & 0o777 == 0o600


def test_provisioned_root_counts_until_one_is_stored(tmp_path):
    (tmp_path / "root.json").write_bytes(b"provisioned")
    store = TrustStore(tmp_path / "trust", {"image": tmp_path / "root.json"})
    assert store.load("image") == {"root": b"provisioned"}
    store.save("image", {"root": b"rotated", "timestamp": b"t"})
    assert store.load("image") == {"root": b"rotated", "timestamp": b"t"}


def test_missing_provisioned_root_names_the_key_of_the_configuration(tmp_path):
    store = TrustStore(tmp_path, {"image": tmp_path / "nowhere.json"})
    with pytest.raises(Refused, match=r"trust\.image_root"):
        store.load("image")
