"""Flash of the simulated controller: erased bytes only, everything counted, nothing lost."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hil_rig.controller.boot import BootState
from hil_rig.controller.memory import Memory, MemoryDamaged, NotErased, PowerLost
from tests.unit.controller_driver import NEW, OLD, WINDOW, Bench

BANK = 4096


@pytest.fixture
def memory(tmp_path):
    made = Memory(tmp_path / "flash", BANK)
    yield made
    made.close()


def test_new_memory_is_erased_and_holds_no_software(memory):
    assert memory.is_new
    assert memory.read(0, 0, BANK) == memory.read(1, 0, BANK) == b"\xff" * BANK
    assert memory.state == BootState()


def test_programmed_bytes_can_only_be_changed_by_an_erase(memory):
    memory.program(0, 10, b"abc")
    with pytest.raises(NotErased):
        memory.program(0, 12, b"xy")
    assert memory.read(0, 9, 5) == b"\xffabc\xff"
    memory.erase(0, 10, 3)
    memory.program(0, 10, b"xyz")
    assert memory.read(0, 9, 5) == b"\xffxyz\xff"
    assert memory.read(1, 0, BANK) == b"\xff" * BANK


@pytest.mark.parametrize(("bank", "offset", "size"), [(2, 0, 1), (0, -1, 1), (0, 4095, 2)])
def test_nothing_outside_of_a_bank_is_touched(memory, bank, offset, size):
    with pytest.raises(ValueError, match="outside"):
        memory.erase(bank, offset, size)
    with pytest.raises(ValueError, match="outside"):
        memory.program(bank, offset, bytes(size))
    assert memory.writes == 0


def test_operations_are_counted_for_ever(tmp_path, memory):
    memory.erase(0, 0, 100)
    memory.program(0, 0, b"a")
    memory.program(0, 1, b"b")
    with pytest.raises(NotErased):
        memory.program(0, 0, b"a")
    again = Memory(tmp_path / "flash", BANK)
    assert (again.erases, again.programs, again.writes) == (1, 2, 3)
    again.close()


def test_a_factory_image_is_no_operation(memory):
    memory.install(OLD, "RX")
    assert memory.writes == 0
    assert not memory.is_new
    assert memory.state.hashes[0] == memory.digest(0)


def test_a_file_of_another_size_is_refused(tmp_path, memory):
    with pytest.raises(MemoryDamaged, match="2 banks of 8192 bytes"):
        Memory(tmp_path / "flash", 8192)


def test_a_damaged_state_is_refused(tmp_path, memory):
    (tmp_path / "flash.state").write_text('{"active": "no"}')
    with pytest.raises(MemoryDamaged, match=r"flash\.state"):
        Memory(tmp_path / "flash", BANK)


@pytest.mark.requirement("C1")
def test_power_lost_after_any_operation_leaves_old_or_new_software(tmp_path):
    for cut in range(1, 40):
        folder = tmp_path / str(cut)
        folder.mkdir()
        bench = Bench(folder)
        bench.fault(kind="power_cut", nth=cut)
        try:
            bench.install()
        except (AssertionError, ValueError):
            assert not bench.unit.powered
        finished = bench.unit.powered
        bench.unit.power_on(bench.now)
        bench.wait(10.0)
        assert bench.did("f189") in {"1.0.0", "2.0.0"}
        bench.memory.close()
        if finished:
            assert cut > 7
            return
    pytest.fail("the installation never got through")


def test_power_lost_leaves_the_operation_itself_done(memory):
    memory.lose_power_after = 2
    memory.erase(0, 0, 8)
    with pytest.raises(PowerLost):
        memory.program(0, 0, b"ab")
    assert memory.read(0, 0, 3) == b"ab\xff"
    memory.program(0, 2, b"c")


CHILD = """
    import sys
    from pathlib import Path
    from tests.unit.controller_driver import Bench
    bench = Bench(Path(sys.argv[1]), block_length=34)
    print("up", flush=True)
    for line in sys.stdin:
        print(bench.one(line.strip()), flush=True)
"""


@pytest.mark.requirement("C1")
def test_a_killed_controller_keeps_exactly_what_it_had_acknowledged(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    def ask(*requests):
        child.stdin.writelines(request.hex() + "\n" for request in requests)
        child.stdin.flush()

    where = WINDOW.to_bytes(4) + len(NEW).to_bytes(4)
    opening = [
        b"\x10\x03",
        b"\x10\x02",
        bytes.fromhex("2ef15a2611225445535445523031"),
        b"\x31\x01\xff\x00\x44" + where,
        b"\x34\x00\x44" + where,
    ]
    blocks = [NEW[at : at + 32] for at in range(0, len(NEW), 32)]
    assert child.stdout.readline() == "up\n"
    ask(*opening)
    for _ in opening:
        assert not child.stdout.readline().startswith("7f")
    ask(*(bytes((0x36, number)) + block for number, block in enumerate(blocks, start=1)))
    acknowledged = 20
    for number in range(1, acknowledged + 1):
        assert child.stdout.readline() == f"76{number:02x}\n"
    child.send_signal(signal.SIGKILL)
    acknowledged += len(child.stdout.read().splitlines())
    child.wait()

    bench = Bench(tmp_path)
    written = bench.memory.programs
    assert acknowledged <= written <= acknowledged + 1
    end = min(written * 32, len(NEW))
    found = bench.memory.read(1, 0, len(NEW))
    assert found in {NEW[:end].ljust(len(NEW), b"\xff"), NEW[: end - 32].ljust(len(NEW), b"\xff")}
    assert found[: acknowledged * 32] == NEW[: acknowledged * 32]
    assert bench.did("f189") == "1.0.0"
