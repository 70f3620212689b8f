"""Real firmware through the whole job: an ELF, an S-record, and one with a hole too big to fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bincopy
import pytest

from hil_rig.bench_image import fit
from hil_rig.firmware import FirmwareError, crc_version, read_image, render
from hil_rig.launch import Rig

pytestmark = pytest.mark.scenario

UBOOT = Path("/usr/lib/u-boot/qemu_arm64/uboot.elf")
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.elf")


def packaged(path: Path, package: str) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is absent; apt-get install {package}")
    return path


def install(rig: Rig, version: str) -> None:
    """From notice to completed; agent and controller must both answer `version`."""
    rig.notify()
    rig.wait_for_state("approved")
    rig.tell("car", "park")
    done = rig.wait_for_state("completed", "failed", "rolled_back", limit_s=120)
    assert (done.state, done.software_before) == ("completed", "2.3.1")
    after = rig.tell("controller", "state")
    assert (after["version"], after["trial"]) == (version, False)
    assert done.software_after == version
    assert after["rxswin"] == "R157-HPA-1"


def test_an_elf_of_uboot_is_installed(start_rig: Callable[..., Rig]) -> None:
    path = packaged(UBOOT, "u-boot-qemu")
    install(start_rig(image=path), crc_version(fit(path, merge_gap=4096, fill=0xFF).pieces[0].data))


def test_an_s_record_of_opensbi_is_installed(start_rig: Callable[..., Rig], tmp_path: Path) -> None:
    image = read_image(packaged(OPENSBI, "opensbi"))
    path = tmp_path / "fw_jump.srec"
    path.write_bytes(render(image, "srec"))
    install(start_rig(image=path), crc_version(image.data))


def test_an_s_record_with_a_hole_is_installed_in_pieces(
    start_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    data = read_image(packaged(OPENSBI, "opensbi")).data
    file = bincopy.BinFile()
    file.add_binary(data[:50_000], 0x8000_0000)
    file.add_binary(data[50_000:], 0x8004_0000)
    path = tmp_path / "fw_jump.srec"
    path.write_text(file.as_srec())
    rig = start_rig(image=path)
    install(rig, crc_version(data))
    assert rig.tell("controller", "state")["erases"] == 2


def test_what_is_no_firmware_is_refused_before_anything_starts(
    start_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    path = tmp_path / "fw.elf"
    path.write_bytes(b"\x7fELF and no more")
    with pytest.raises(FirmwareError, match="not a readable ELF"):
        start_rig(image=path)
