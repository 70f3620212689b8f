"""After a cut at any instant of a durable write there is the old or the new, never half."""

from __future__ import annotations

import threading

import pytest

from tests.unit.power_cut import Recorder
from vehicle_agent.durable import write_durably
from vehicle_agent.trust import floors
from vehicle_agent.trust.floors import FileMonotonicStore


def laid_out(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("old", [b"old content", None])
def test_file_is_old_or_new(tmp_path, monkeypatch, old):
    folder = laid_out(tmp_path / "disk", {} if old is None else {"file": old})
    recorder = Recorder(folder, monkeypatch)
    states = list(recorder.after(lambda: write_durably(folder / "file", b"the new content")))
    found = {state.get("file") for state in states}
    assert found == {old, b"the new content"}
    assert states[-1]["file"] == b"the new content"


def test_recorder_sees_a_write_that_is_not_durable(tmp_path, monkeypatch):
    folder = laid_out(tmp_path / "disk", {"file": b"old content"})
    recorder = Recorder(folder, monkeypatch)
    found = {
        state["file"] for state in recorder.after(lambda: (folder / "file").write_bytes(b"new!"))
    }
    assert b"ne" in found


@pytest.mark.requirement("A3")
@pytest.mark.parametrize("first", [True, False])
def test_floor_is_old_or_new_and_never_lower_once_it_was_raised(tmp_path, monkeypatch, first):
    folder = laid_out(tmp_path / "disk", {})
    store = FileMonotonicStore(folder / "floors.json")
    if not first:
        store.raise_to("release_counter/A", 6)
        store.raise_to("time_s", 100)
    recorder = Recorder(folder, monkeypatch)
    states = list(recorder.after(lambda: store.raise_to("release_counter/A", 7)))
    monkeypatch.undo()
    for number, state in enumerate(states):
        after = FileMonotonicStore(laid_out(tmp_path / str(number), state) / "floors.json")
        assert after.get("release_counter/A") in ({0, 7} if first else {6, 7})
        assert after.get("time_s") == (0 if first else 100)
    assert after.get("release_counter/A") == 7


def test_two_writers_lower_nothing(tmp_path, monkeypatch):
    """The second tries between the first one's reading and its writing back."""
    ours, theirs = (FileMonotonicStore(tmp_path / "floors.json") for _ in range(2))
    other = threading.Thread(target=theirs.raise_to, args=("b", 5))

    def interrupted(path, content):
        if not other.ident:
            other.start()
            other.join(0.2)
        write_durably(path, content)

    monkeypatch.setattr(floors, "write_durably", interrupted)
    ours.raise_to("a", 1)
    other.join()
    again = FileMonotonicStore(tmp_path / "floors.json")
    assert (again.get("a"), again.get("b")) == (1, 5)
