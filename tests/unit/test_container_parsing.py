"""Container targets become segments in the order of programming, or one clear refusal."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.flashing_bench import START, MemoryTransport, MiniServer, profile, run
from vehicle_agent.flashing import container
from vehicle_agent.flashing.images import Image, Segment, load_image
from vehicle_agent.flashing.profile import Window
from vehicle_agent.flashing.programmer import Programmer
from vehicle_agent.flashing.security import AesCmac
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import MemoryCheck

PROFILE = profile()
BOOT, APP, DATA = b"boot" * 100, b"application" * 99, b"calibration"
BLOCKS = {"app": (START + 0x1_0000, APP), "cal": (START + 0x1_0000 + len(APP), DATA)}
BLOCKS["boot"] = (START, BOOT)
SEGMENTS = tuple(Segment(*block) for block in BLOCKS.values())
SIGNATURE = {"keyid": "ab" * 32, "method": "ed25519", "sig": "cd" * 64}


def entries(blocks=BLOCKS):
    return [
        {"name": name, "address": at, "length": len(data), "crc32": f"{zlib.crc32(data):08x}"}
        for name, (at, data) in blocks.items()
    ]


def index(listed=None, **changes):
    fields = {"format": "vehicle-agent-container", "formatVersion": 1}
    return json.dumps(fields | {"blocks": entries() if listed is None else listed} | changes)


def archive(members, *, form=tarfile.USTAR_FORMAT):
    """A tar of `members`: (name, content), or a TarInfo for an entry without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def files(listed=None, blocks=BLOCKS, **changes):
    return [
        ("blocks.json", index(listed, **changes).encode()),
        *((f"blocks/{name}", data) for name, (_, data) in blocks.items()),
    ]


GOOD = archive(files())


def changed(**fields):
    """`blocks.json` whose second block has other fields."""
    listed = entries()
    listed[1] |= fields
    return archive(files(listed))


def load(folder, content, which=PROFILE):
    (folder / "image").write_bytes(content)
    return load_image(folder / "image", which)


def refusal(folder, content, which=PROFILE):
    with pytest.raises(Refused) as refused:
        load(folder, content, which)
    assert "\n" not in str(refused.value)
    return refused.value.refusal


def test_blocks_become_segments_in_their_own_order_and_are_never_joined(tmp_path):
    assert load(tmp_path, GOOD).segments == SEGMENTS


@pytest.mark.parametrize("form", [0, 1, 5, 19])
def test_the_zeroes_that_fill_the_last_record_may_be_more_or_fewer(tmp_path, form):
    bare = GOOD.rstrip(b"\0")
    bare += bytes(-len(bare) % 512)
    assert load(tmp_path, bare + bytes(1024 + 512 * form)).segments == SEGMENTS


def test_signatures_and_dependencies_are_carried():
    listed = entries()
    listed[1] |= {"signature": SIGNATURE, "dependsOn": ["app"]}
    blocks = container.parse(archive(files(listed)))
    assert blocks[1].entry.signature == container.Signature(**SIGNATURE)
    assert [block.entry.depends_on for block in blocks] == [(), ("app",), ()]
    assert [block.entry.name for block in blocks] == list(BLOCKS)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive(files()[1:]), "has to come first"),
        (archive([]), "not an archive|has to come first"),
        (archive([files()[0], *reversed(files()[1:])]), "has to stand"),
        (archive(files()[:-1]), "the end where block 'boot'"),
        (archive([*files(), ("blocks/more", b"x")]), "not listed"),
        (archive([files()[0], files()[1], files()[1], *files()[2:]]), "stands twice"),
        (archive([*files()[:2], ("blocks/cal", DATA + b"x"), files()[3]]), "has to stand"),
        (changed(crc32="00000000"), "CRC is"),
        (changed(dependsOn=["nothing"]), "which is missing"),
        (changed(dependsOn=["boot"]), "which is not before"),
        (changed(dependsOn=["cal"]), "which is not before"),
        (changed(name="app"), "listed twice"),
        (changed(address=START + 0x1_0000 + len(APP) - 1), "overlap"),
        (changed(address=-1), "address"),
        (changed(address=True), "address"),
        (changed(length=0), "length"),
        (changed(length=1 << 40), "length"),
        (changed(compression="lzma"), "compression"),
        (changed(name="../cal"), "name"),
        (changed(name="cal\n"), "name"),
        (changed(crc32="0000000G"), "crc32"),
        (changed(signature=SIGNATURE | {"sig": "cd" * 63}), "sig"),
        (changed(signature=SIGNATURE | {"method": "none"}), "method"),
        (changed(more=1), "more"),
        (archive(files(formatVersion=2)), "format_?[vV]ersion"),
        (archive(files(format="other")), "format"),
        (archive(files([])), "blocks"),
        (archive([("blocks.json", b"[]"), *files()[1:]]), "not an object"),
        (archive([("blocks.json", b" " * (1 << 18) + b"{}")]), "at most"),
        (archive([("blocks.json", b'{"format":1,"format":1}')]), "twice"),
        (GOOD + b"x", "behind the end"),
        (GOOD + bytes(512) * 20, "behind the end"),
        (GOOD[:-1], "behind the end"),
        (GOOD.rstrip(b"\0"), "cut off"),
        (GOOD[:700], "cut off"),
        (GOOD[: -20 * 512], "cut off|two empty blocks"),
        (archive([("./blocks.json", b"{}")]), "plain relative path"),
        (archive([("/blocks.json", b"{}")]), "plain relative path"),
        (archive([("a/../blocks.json", b"{}")]), "plain relative path"),
        (archive([("blöcks.json".encode().decode("latin-1"), b"{}")]), "path|first"),
        (archive([*files()[:3], ("blocks/" + "b" * 95, BOOT)]), "has to stand"),
        (archive(files(), form=tarfile.GNU_FORMAT), "POSIX ustar"),
        (archive([("é" * 90, b"x")], form=tarfile.PAX_FORMAT), "type b'x'"),
    ],
)
def test_what_is_not_plain_and_whole_is_refused(tmp_path, content, words):
    refused = refusal(tmp_path, content) if content[257:262] == b"ustar" else None
    if refused is not None:
        assert refused.code is Code.IMAGE_UNREADABLE
        assert refused.detail.startswith("image: broken container: ")
    with pytest.raises(ValueError, match=words):
        container.parse(content)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("kind", [*b"\x001234567SgxLK"])
def test_links_devices_folders_sparse_files_and_extensions_are_refused(tmp_path, kind):
    content = bytearray(GOOD)
    at = content.index(b"blocks/app\0")
    content[at + 156] = kind
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    assert "only plain files" in refusal(tmp_path, bytes(content)).detail


def test_a_block_outside_of_the_memory_map_is_refused(tmp_path):
    small = msgspec.structs.replace(PROFILE, memory=(Window(start=START, length=0x1_0000),))
    assert refusal(tmp_path, GOOD, small).code is Code.IMAGE_OUTSIDE_MEMORY


def test_a_tar_is_never_taken_for_a_plain_binary(tmp_path):
    for damaged in (b"x" + GOOD[1:], GOOD[:257] + b"USTAR" + GOOD[262:], GOOD[:300]):
        assert refusal(tmp_path, damaged).code is Code.IMAGE_UNREADABLE


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_container_is_refused_or_says_the_same(data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 1200))
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        found = [(block.entry.address, block.data) for block in container.parse(bytes(content))]
        # A change that stays within the CRC of the header and JSON has moved no byte of a block.
        assert [block for _, block in found] == [block for _, block in SEGMENTS]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2048), st.booleans())
def test_any_bytes_are_blocks_or_an_error(content, behind_a_good_start):
    start = GOOD[: 512 * 3] if behind_a_good_start else b"blocks.json\0"
    with contextlib.suppress(ValueError):
        container.parse(start + content)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("wrong", [None, 0, 2])
def test_each_block_is_erased_programmed_and_checked_in_order(tmp_path, wrong):
    image = load(tmp_path, GOOD)
    records = [b"\0" + hashlib.sha256(data).digest() for _, data in image.segments]
    if wrong is not None:
        records[wrong] = b"\0" + bytes(32)
    check = MemoryCheck(routine=0x0202, expected=b"".join(records).hex())
    server = MiniServer()

    async def work():
        programmer = Programmer(MemoryTransport(server), PROFILE, AesCmac(bytes(16)))
        try:
            await programmer.program(
                image,
                fingerprint=bytes(11),
                memory_check=check,
                on_progress=lambda _: None,
                start_gate=lambda: None,
            )
            await programmer.read_back((), check, image)
        finally:
            await programmer.close()

    if wrong is None:
        run(work())
    else:
        with pytest.raises(Refused) as refused:
            run(work())
        assert refused.value.refusal.code is Code.MEMORY_CHECK_FAILED
        assert b"\x31\x01\xff\x01" not in server.requests
    erased = [int.from_bytes(pdu[5:9]) for pdu in server.requests if pdu[:4] == b"\x31\x01\xff\x00"]
    assert erased == [address for address, _ in BLOCKS.values()]
    for address, data in BLOCKS.values():
        assert bytes(server.memory[address + i] for i in range(len(data))) == data


def test_a_container_of_one_block_is_an_image(tmp_path):
    one = {"app": (START, APP)}
    content = archive(files(entries(one), one))
    assert load(tmp_path, content) == Image((Segment(START, APP),))
