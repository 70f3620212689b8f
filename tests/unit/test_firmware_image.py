"""Images of the controller: made, wrapped, written, read and described."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_rig.firmware import (
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_SIZE,
    HEADER_SIZE,
    Descriptor,
    FirmwareError,
    Image,
    find_descriptor,
    main,
    make_image,
    memory_check_expected,
    read_image,
    render,
    wrap,
)

FIELD = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=31)
SOFTWARE = Descriptor("adas-controller", "2.4.0", "RX-2", "hw-3", "build-9")


@given(st.builds(Descriptor, FIELD, FIELD, FIELD, FIELD, FIELD))
def test_a_descriptor_is_found_as_it_was_written(descriptor):
    assert find_descriptor(bytes(DESCRIPTOR_OFFSET) + descriptor.encode()) == descriptor


@pytest.mark.parametrize("text", ["v" * 32, "vérsion", "a\0b"])
def test_a_field_that_does_not_fit_is_refused(text):
    with pytest.raises(FirmwareError, match="field version"):
        SOFTWARE._replace(version=text).encode()


@given(st.binary(max_size=600))
def test_other_bytes_are_no_descriptor(data):
    assert find_descriptor(data) is None


def test_a_field_without_its_end_is_no_descriptor():
    raw = bytearray(bytes(DESCRIPTOR_OFFSET) + SOFTWARE.encode())
    raw[DESCRIPTOR_OFFSET + 8 : DESCRIPTOR_OFFSET + 40] = b"x" * 32
    assert find_descriptor(bytes(raw)) is None


def test_a_generated_image_is_the_same_each_time():
    image = make_image("2.4.0", "RX-2", "hw-3", 5000, 7)
    assert image == make_image("2.4.0", "RX-2", "hw-3", 5000, 7)
    assert image != make_image("2.4.0", "RX-2", "hw-3", 5000, 8)
    assert len(image) == 5000
    assert find_descriptor(image) == Descriptor(
        "adas-controller", "2.4.0", "RX-2", "hw-3", "seed-7"
    )


def test_an_image_without_room_for_its_descriptor_is_refused():
    least = DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE
    assert len(make_image("1", "", "h", least, 0)) == least
    with pytest.raises(FirmwareError, match=f"{least} bytes or more"):
        make_image("1", "", "h", least - 1, 0)


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_a_descriptor_stands_in_the_padding_of_a_payload(padding):
    payload = b"code" + padding * 1000 + b"more"
    image = wrap(payload, SOFTWARE)
    assert find_descriptor(image) == SOFTWARE
    end = DESCRIPTOR_OFFSET + DESCRIPTOR_SIZE
    assert image[:DESCRIPTOR_OFFSET] + image[end:] == payload[:DESCRIPTOR_OFFSET] + payload[end:]


@pytest.mark.parametrize("payload", [b"c" * 2000, b"short"])
def test_a_payload_without_padding_gets_a_header(payload):
    image = wrap(payload, SOFTWARE)
    assert find_descriptor(image) == SOFTWARE
    assert image[HEADER_SIZE:] == payload


@pytest.mark.parametrize(("form", "suffix"), [("bin", "bin"), ("hex", "hex"), ("srec", "s19")])
def test_an_image_is_read_back_from_each_format(tmp_path, form, suffix):
    image = Image(0x0800_0000, make_image("1.0", "", "hw", 3000, 1))
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(render(image, form))
    assert read_image(path) == image


def test_the_memory_check_expects_a_passed_status_and_the_digest():
    assert memory_check_expected(b"abc") == "00" + hashlib.sha256(b"abc").hexdigest()


def test_make_and_show_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "new.srec"
    arguments = ["--version", "2.4.0", "--rxswin", "RX", "--hardware-id", "hw-3", "--seed", "5"]
    assert main(["make", str(path), *arguments, "--size", "0x1000"]) == 0
    assert main(["show", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    image = make_image("2.4.0", "RX", "hw-3", 4096, 5)
    assert told["version"] == "2.4.0"
    assert told["memoryCheck"] == memory_check_expected(image)
    assert (told["address"], told["length"]) == ("0x08000000", 4096)


def test_a_real_payload_stays_as_it_is_when_asked(tmp_path, capsys):
    payload, path = tmp_path / "real.bin", tmp_path / "out.hex"
    payload.write_bytes(bytes(range(256)) * 4)
    assert main(["make", str(path), "--payload", str(payload), "--plain"]) == 0
    assert read_image(path).data == payload.read_bytes()
    assert main(["show", str(path)]) == 0
    assert "crc32:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "name"),
    [(b":zz\n", "a.hex"), (b"S1zz\n", "a.srec"), (b"\x7fELFjunk", "a.elf"), (b"", "a.bin")],
)
def test_an_unreadable_file_costs_one_line(tmp_path, capsys, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["show", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["make", "out.bin"],
        ["make", "out.bin", "--plain"],
        ["make", "out.bin", "--version", "1", "--hardware-id", "h", "--size", "10"],
        ["make", "missing/out.bin", "--version", "1", "--hardware-id", "h"],
        ["make", "out.bin", "--payload", "missing.elf", "--plain"],
        ["show", "missing.bin"],
    ],
)
def test_wrong_arguments_cost_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_span_larger_than_the_limit_is_refused(tmp_path):
    path = tmp_path / "far.hex"
    path.write_text(":0100000001FE\n:020000040800F2\n:0100000001FE\n:00000001FF\n")
    with pytest.raises(FirmwareError, match="spans"):
        read_image(path)
