"""Containers made by `hil-rig container` are what the agent reads and the controller takes."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.container import (
    Block,
    ContainerError,
    in_order,
    make_container,
    memory_check_expected,
)
from hil_rig.container_command import main
from hil_rig.firmware import Image, render
from tests.unit.controller_driver import NEW, WINDOW, Bench
from tests.unit.flashing_bench import START, profile
from tests.unit.test_odx_f_reader import BLOCKS as ODX_BLOCKS
from tests.unit.test_odx_f_reader import DATAS, extern, odx, session
from tests.unit.test_odx_f_reader import block as datablock
from tests.unit.test_vbf_reader import vbf
from vehicle_agent.flashing import container
from vehicle_agent.flashing.images import load_image

APP = bytes(range(200))
VBF_BLOCKS = ((0x2000, b"primary" * 9), (0x3000, b"secondary" * 5))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.hex").write_bytes(render(Image(START, APP), "hex"))
    (tmp_path / "app.srec").write_bytes(render(Image(START, APP), "srec"))
    (tmp_path / "cal.bin").write_bytes(b"calibration")
    (tmp_path / "boot.vbf").write_bytes(vbf(VBF_BLOCKS))
    all_of_it = session("ALL", "BOOT", "APP")
    (tmp_path / "flash.odx-f").write_bytes(odx(ODX_BLOCKS, DATAS, all_of_it))
    (tmp_path / "two.odx-f").write_bytes(odx(ODX_BLOCKS, DATAS, all_of_it + session("B", "BOOT")))
    return tmp_path


def made(folder, *arguments):
    assert main(["make", "out.tar", *arguments]) == 0
    return container.parse((folder / "out.tar").read_bytes())


def told(capsys, *arguments):
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_files_of_all_forms_become_blocks_in_the_order_of_the_command_line(folder):
    blocks = made(
        folder,
        *("--block", "cal=cal.bin@0x08010000", "--block", "app=app.hex"),
        *("--block", "boot=boot.vbf", "--block", "odx=two.odx-f", "--session", "B"),
    )
    assert [(b.entry.name, b.entry.address, b.data) for b in blocks] == [
        ("cal", 0x0801_0000, b"calibration"),
        ("app", START, APP),
        ("boot.1", *VBF_BLOCKS[0]),
        ("boot.2", *VBF_BLOCKS[1]),
        ("odx", 0x8000, b"boot" * 4),
    ]


def test_small_holes_are_filled_and_large_ones_make_blocks(folder):
    text = render(Image(0x1000, b"ab"), "hex").splitlines()[:-1]
    text += render(Image(0x1006, b"cd"), "hex").splitlines()[:-1]
    text += render(Image(0x1010, b"ef"), "hex").splitlines()
    (folder / "holes.hex").write_bytes(b"\n".join(text) + b"\n")
    assert [
        (block.entry.name, block.entry.address, block.data)
        for block in made(folder, "--block", "x=holes.hex", "--gap", "4")
    ] == [("x.1", 0x1000, b"ab\xff\xff\xff\xffcd"), ("x.2", 0x1010, b"ef")]
    (whole,) = made(folder, "--block", "x=holes.hex")
    assert whole.entry.length == 18


def test_the_agent_loads_what_was_made(folder):
    made(folder, "--block", "cal=cal.bin@0x08010000", "--block", "app=app.srec")
    segments = load_image(folder / "out.tar", profile()).segments
    assert segments == ((0x0801_0000, b"calibration"), (START, APP))


def test_an_odx_f_brings_files_of_its_own_folder_and_no_other(folder, capsys):
    for name in ("app.hex", "../app.hex", "inner/app.hex", str(folder / "app.hex")):
        content = odx([datablock("APP")], [extern("APP", name)])
        (folder / "inner").mkdir(exist_ok=True)
        (folder / "inner" / "app.hex").write_bytes((folder / "app.hex").read_bytes())
        (folder / "inner" / "flash.odx-f").write_bytes(content)
        if name == "app.hex":
            (found,) = made(folder, "--block", "x=inner/flash.odx-f")
            assert found.data == APP
        else:
            said = told(capsys, "make", "out.tar", "--block", "x=inner/flash.odx-f")
            assert "a file of the same folder" in said


def test_a_block_stands_behind_those_it_needs(folder):
    blocks = made(
        folder,
        *("--block", "odx=flash.odx-f", "--block", "app=app.hex", "--block", "cal=cal.bin@7"),
        *("--depends", "odx:cal", "--depends", "app:odx"),
    )
    assert [(b.entry.name, b.entry.depends_on) for b in blocks] == [
        ("cal", ()),
        ("odx.1", ("cal",)),
        ("odx.2", ("odx.1",)),
        ("app", ("odx.2",)),
    ]


def test_each_block_is_signed_with_its_place(folder):
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (signed,) = made(folder, "--block", "app=app.hex", "--key", "key.pem")
    place = START.to_bytes(4) + len(APP).to_bytes(4)
    assert signed.entry.signature is not None
    key.public_key().verify(bytes.fromhex(signed.entry.signature.sig), place + APP)


def test_what_it_holds_is_shown(folder, capsys):
    made(folder, "--block", "app=app.hex", "--block", "cal=cal.bin@7", "--depends", "app:cal")
    assert main(["show", "out.tar", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    digests = [hashlib.sha256(data).hexdigest() for data in (b"calibration", APP)]
    assert facts["memoryCheck"] == "".join("00" + digest for digest in digests)
    assert [entry["name"] for entry in facts["blocks"]] == ["cal", "app"]
    assert main(["show", "out.tar"]) == 0
    assert "0x08000000+0xC8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["app"], "NAME=FILE"),
        (["app=none.hex"], "none.hex: No such file"),
        (["app=cal.bin"], "needs its address"),
        (["app=app.hex@0x0"], "addresses of its own"),
        (["a/b=app.hex"], "block name"),
        (["app=two.odx-f"], "choose one of ALL, B"),
        (["a=app.hex", "--block", "b=app.srec"], "overlap"),
        (["a=app.hex", "--block", "a=app.srec"], "given twice"),
        (["a=app.hex", "--depends", "a:b"], "no --block 'b'"),
        (["a=app.hex", "--block", "b=cal.bin@1", "--depends", "a:b", "--depends", "b:a"], "circle"),
        (["a=app.hex", "--depends", "a:a"], "circle"),
        (["a=app.hex", "--key", "cal.bin"], "not an Ed25519"),
        (["a=broken.vbf"], "broken.vbf: file_checksum"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(folder, capsys, arguments, words):
    (folder / "broken.vbf").write_bytes(vbf(checksum=1))
    assert words in told(capsys, "make", "out.tar", "--block", *arguments)
    assert not (folder / "out.tar").exists()


def test_what_is_no_container_is_told_in_one_line(folder, capsys):
    made(folder, "--block", "app=app.hex")
    content = (folder / "out.tar").read_bytes()
    for number, broken in enumerate([content[:600], b"", content.replace(APP, bytes(200)), APP]):
        (folder / str(number)).write_bytes(broken)
        assert "hil-rig container: " in told(capsys, "show", str(number))
    assert "No such file" in told(capsys, "show", "none")


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8))
def test_an_order_is_found_exactly_where_there_is_no_circle(needs):
    count = len(needs)
    blocks = [
        Block(f"b{i}", i, b"x", tuple(f"b{j}" for j in sorted(need) if j < count))
        for i, need in enumerate(needs)
    ]
    reachable = [{j for j in need if j < count} for need in needs]
    for _ in range(count):
        reachable = [each.union(*(reachable[j] for j in each)) for each in reachable]
    if any(i in each for i, each in enumerate(reachable)):
        with pytest.raises(ContainerError, match="circle"):
            in_order(blocks)
        return
    ordered = [block.name for block in in_order(blocks)]
    for block in blocks:
        assert all(ordered.index(need) < ordered.index(block.name) for need in block.depends_on)


@pytest.mark.requirement("B1")
def test_the_simulated_controller_takes_a_container_block_by_block(tmp_path):
    pieces = [Block("late", WINDOW + 2048, NEW[2048:]), Block("early", WINDOW, NEW[:2048])]
    content = make_container(pieces)
    bench = Bench(tmp_path)
    bench.programming()
    records = ""
    for _, address, data, _ in pieces:
        bench.download(data, address)
        where = address.to_bytes(4) + len(data).to_bytes(4)
        records += bench.one(b"\x31\x01\x02\x02" + where)[8:]
    assert records == memory_check_expected(content)
    assert bench.one("3101ff01") == "7101ff0100"
    bench.reset()
    assert bench.did("f189") == "2.0.0"
