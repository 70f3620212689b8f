"""The controller as a process on the software wire, with its control socket."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import can
import pytest

from hil_rig import control
from hil_rig.firmware import make_image
from tests.integration.controller_client import KEY, extended, reprogram, uds_client

DBC = Path(__file__).parents[2] / "dbc" / "adas.dbc"
RUN = "from hil_rig.cli import main; raise SystemExit(main())"


@contextlib.contextmanager
def part(*arguments):
    """A part of the rig that has said it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


def configuration(folder, *, fd):
    (folder / "adas.key").write_text(KEY.hex())
    path = folder / "controller.toml"
    path.write_text(
        f"""
        control_socket = "adas.sock"
        bus = {{ interface = "wire", channel = "{folder}/hub.sock", fd = {json.dumps(fd)} }}
        identity = {{ vin = "LXMA7000000000001", ecu_serial = "ADAS-1", hardware_id = "hw-3" }}
        security = {{ key_file = "adas.key" }}
        status = {{ dbc = "{DBC}" }}
        [memory]
        file = "adas.flash"
        bank_size = 0x40000
        version = "2.3.1"
        rxswin = "RX1"
        image_size = 0x2000
        [timing]
        reset_s = 0.05
        erase_s = 0.02
        """
    )
    return path


@pytest.fixture(params=[False, True], ids=["classic", "fd"])
def rig(request, tmp_path):
    """A wire, and the file of a controller that may join it."""
    fd = request.param
    options = ["--fd"] if fd else []
    with part("wire", "--socket", str(tmp_path / "hub.sock"), *options):
        yield tmp_path, configuration(tmp_path, fd=fd), fd


def test_a_client_that_sends_back_to_back_reprograms_the_process(rig):
    folder, path, fd = rig
    image = make_image("2.4.0", "RX2", "hw-3", 100_000 if fd else 20_000, 7)
    hub = str(folder / "hub.sock")
    with part("controller", "--config", str(path)), uds_client(hub, fd=fd, interface="wire") as c:
        extended(c)
        assert c.read_data_by_identifier_first(0xF189) == "2.3.1"
        reprogram(c, image)
        extended(c)
        assert c.read_data_by_identifier_first(0xF189) == "2.4.0"
        state = control.call(folder / "adas.sock", "state")
        assert (state["active"], state["trial"], state["version"]) == (1, True, "2.4.0")
        assert state["writes"] == state["erases"] + state["programs"]
        assert (state["erases"], state["programs"]) == (2 if fd else 1, -(-len(image) // 4093))


def test_a_restarted_process_goes_on_with_the_flash_it_has(rig):
    folder, path, fd = rig
    image = make_image("2.4.0", "RX2", "hw-3", 5000, 7)
    hub = str(folder / "hub.sock")
    with part("controller", "--config", str(path)) as process:
        with uds_client(hub, fd=fd, interface="wire") as client:
            reprogram(client, image)
            extended(client)
        process.kill()
        process.wait()
    with part("controller", "--config", str(path)) as process:
        with uds_client(hub, fd=fd, interface="wire") as client:
            extended(client)
            assert client.read_data_by_identifier_first(0xF189) == "2.4.0"
            assert client.read_data_by_identifier_first(0xF1F0) == bytes((1, 1, 2, 1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not (folder / "adas.sock").exists()


def test_the_control_socket_sets_faults_and_switches_power(rig):
    folder, path, fd = rig
    socket = folder / "adas.sock"
    hub = str(folder / "hub.sock")
    with part("controller", "--config", str(path)), uds_client(hub, fd=fd, interface="wire") as c:
        extended(c)
        control.call(socket, "fault", kind="nrc", service=0x22, nrc=0x22)
        c.config["exception_on_negative_response"] = False
        assert c.read_data_by_identifier(0xF189).code == 0x22
        assert c.read_data_by_identifier(0xF189).positive
        assert control.call(socket, "power", to="off")["powered"] is False
        assert control.call(socket, "power", to="on")["powered"] is True
        extended(c)
        assert control.call(socket, "state")["session"] == "extended"
        assert control.call(socket, "power", to="cycle")["session"] is None
        control.call(socket, "clear")
        for do, arguments in (
            ("fault", {"kind": "unheard"}),
            ("fault", {"kind": "nrc", "match": "xyz"}),
            ("power", {"to": "sideways"}),
            ("power", {}),
            ("unheard", {}),
        ):
            with pytest.raises(control.ControlError):
                control.call(socket, do, **arguments)


def test_the_status_frame_keeps_its_cycle(rig):
    folder, path, _ = rig
    with (
        part("controller", "--config", str(path)),
        can.Bus(interface="wire", channel=str(folder / "hub.sock")) as bus,
    ):
        frames = [bus.recv(10) for _ in range(8)]
    assert {frame.arbitration_id for frame in frames} == {0x300}
    counters = [frame.data[1] & 0xF for frame in frames]
    assert counters == [(counters[0] + step) % 15 for step in range(8)]
    assert frames[-1].timestamp - frames[0].timestamp == pytest.approx(0.7, abs=0.05)


def test_a_controller_whose_bus_is_gone_ends(tmp_path):
    path = configuration(tmp_path, fd=False)
    with (
        part("wire", "--socket", str(tmp_path / "hub.sock")) as wire,
        part("controller", "--config", str(path)) as process,
    ):
        wire.terminate()
        assert process.wait(30) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('interface = "wire"', 'interface = "wire", speed = 1'), "speed"),
        (("hub.sock", "nobody.sock"), "nobody.sock"),
        (("adas.dbc", "nothing.dbc"), "nothing.dbc"),
        (("adas.key", "other.key"), "other.key"),
        (("bank_size = 0x40000", "bank_size = 0x1000"), "bank"),
        (("image_size = 0x2000", "image_size = 5"), "size 5"),
    ],
)
def test_a_configuration_that_cannot_be_used_costs_one_line(tmp_path, change, named):
    path = configuration(tmp_path, fd=False)
    path.write_text(path.read_text().replace(*change))
    done = subprocess.run(
        [sys.executable, "-c", RUN, "controller", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
