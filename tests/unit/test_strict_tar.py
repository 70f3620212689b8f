"""Only plain ustar archives are read, front to back, whatever their size."""

from __future__ import annotations

import io
import tarfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle_agent.strict_tar import CutOff, Member, TarError, TarReader

CONTENT = {"first.json": b"{}", "folder/second": b"x" * 700, "empty": b""}
NAME = st.text(st.characters(categories=["L", "N"], max_codepoint=0x2FF), min_size=1, max_size=40)


def ustar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


GOOD = ustar(CONTENT)


def with_header(change, at=0):
    """The archive with `change` made to the header at `at`, its checksum right again."""
    content = bytearray(GOOD)
    header = content[at : at + 512]
    change(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[at : at + 512] = header
    return bytes(content)


def put(offset, data):
    def change(header):
        header[offset : offset + len(data)] = data

    return change


def read(content, most_members=100):
    reader = TarReader(io.BytesIO(content), most_members=most_members)
    found = {}
    while (member := reader.next()) is not None:
        found[member.name] = reader.read(member.size)
    return found


def test_what_python_writes_as_ustar_is_read_back():
    assert read(GOOD) == CONTENT
    assert list(read(GOOD)) == list(CONTENT)


@given(st.dictionaries(NAME, st.binary(max_size=2000), max_size=4))
def test_plain_archives_say_what_pythons_reader_says(files):
    content = ustar(files)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert read(content) == {each.name: archive.extractfile(each).read() for each in archive}


def test_a_long_name_may_be_in_two_fields():
    name = "/".join(["folder" * 10] * 3)
    assert read(ustar({name: b"x"})) == {name: b"x"}


def test_what_is_not_read_is_passed_over():
    reader = TarReader(io.BytesIO(GOOD), most_members=3)
    assert [reader.next() for _ in range(4)] == [
        *(Member(name, len(content)) for name, content in CONTENT.items()),
        None,
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_header(put(157, b"link")), "only plain files"),
        (with_header(put(156, b"2")), "only plain files"),
        (with_header(put(0, b"first\0json")), "bytes behind its end"),
        (with_header(put(0, b"\xff")), "not UTF-8"),
        (with_header(put(0, b"\n")), "not a plain relative path"),
        (with_header(put(0, b"//")), "not a plain relative path"),
        (with_header(put(345, b"..")), "not a plain relative path"),
        (with_header(put(0, bytes(100))), "not a plain relative path"),
        (with_header(put(0, b"empty\0\0\0\0\0\0")), "stands twice"),
        (with_header(put(124, b"\x80" + bytes(11))), "11 octal digits"),
        (with_header(put(124, b"        002\0")), "11 octal digits"),
        (with_header(put(124, b"77777777777\0")), "cut off"),
        (with_header(put(257, b"ustar  \0")), "POSIX ustar"),
        (GOOD[:148] + b"000000\0 " + GOOD[156:], "checksum"),
        (GOOD[:1] + b"I" + GOOD[2:], "checksum"),
        (GOOD[:520] + b"x" + GOOD[521:], "padding"),
        (GOOD + b"x" * 512, "behind the end"),
        (GOOD + bytes(20 * 512), "behind the end"),
        (GOOD[:-1], "behind the end"),
    ],
)
def test_what_other_readers_would_interpret_is_an_error(content, words):
    with pytest.raises(TarError, match=words):
        read(content)


@pytest.mark.parametrize("length", [0, 5, 512, 600, 1024, 2000, 3071, 3072, 3584])
def test_an_archive_that_is_cut_off_is_told_apart(length):
    with pytest.raises(CutOff):
        read(GOOD[:length])


def test_members_and_their_sizes_are_bounded():
    assert len(read(GOOD, most_members=3)) == 3
    with pytest.raises(TarError, match="more than 2 files"):
        read(GOOD, most_members=2)
    reader = TarReader(io.BytesIO(GOOD), most_members=3)
    reader.next()
    with pytest.raises(TarError, match="at most 1"):
        reader.read(1)


class Endless:
    """A member of 8 GiB that no memory holds."""

    def __init__(self):
        head = tarfile.TarInfo("big")
        head.size = (8 << 30) - 1
        self.head = io.BytesIO(head.tobuf(tarfile.USTAR_FORMAT))

    def read(self, size, /):
        return self.head.read(size) or bytes(size)


def test_memory_does_not_grow_with_a_member():
    reader = TarReader(Endless(), most_members=1)
    reader.next()
    tracemalloc.start()
    for number, _ in enumerate(reader.pieces()):
        if number == 64:
            break
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_an_archive_or_an_error(data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, 3600))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content) + data.draw(st.binary(max_size=20)))
    except TarError:
        return
