"""Backend and display as processes of their own, spoken to over MQTT, HTTPS and control sockets."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root

from hil_rig import control
from hil_rig.backend.broker import Broker
from hil_rig.backend.mqtt_link import MqttConfig, MqttLink
from hil_rig.backend.repository import canonical

VIN = "LXMA7000MBEV00001"
IMAGE = bytes(range(256)) * 64
PART = "import sys, hil_rig.cli; sys.exit(hil_rig.cli.main())"


@contextmanager
def _part(name, config):
    process = subprocess.Popen(
        [sys.executable, "-c", PART, name, "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _write_backend_config(config, folder, *, port, version):
    (folder / "adas-2.4.0.bin").write_bytes(IMAGE)
    config.write_text(
        f"""
        folder = "{folder}/maker"
        control = "{folder}/backend.sock"
        vins = ["{VIN}"]
        [mqtt]
        port = {port}
        version = {version}
        [ecu]
        serial = "ADAS-0001"
        hardware_id = "ADAS-HW-3"
        [release]
        image = "{folder}/adas-2.4.0.bin"
        version = "2.4.0"
        counter = 24
        base_versions = ["2.3.1"]
        profile_sha256 = "{"ab" * 32}"
        rxswin_before = "R156 1.0"
        rxswin_after = "R156 1.1"
        memory_check_expected = "00"
        """
    )


class _Maker:
    """A running backend and what a car needs to talk to it."""

    def __init__(self, folder: Path, broker: Broker):
        self.folder, self.broker = folder, broker
        self.socket = folder / "backend.sock"
        self.car = folder / "maker" / "cars" / VIN
        self.config = folder / "backend.toml"
        _write_backend_config(self.config, folder, port=broker.port, version=broker.version)

    def ask(self, do, **arguments):
        return control.call(self.socket, do, **arguments)

    def get(self, url):
        with urllib3.PoolManager(ca_certs=str(self.car / "ca.pem"), retries=False) as pool:
            return pool.request("GET", url)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker.start(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def maker(tmp_path, broker):
    maker = _Maker(tmp_path, broker)
    with _part("backend", maker.config):
        yield maker


@pytest.fixture
async def car(broker):
    """The agent's side of the car: what arrives, by topic, and a way to send."""
    link = _Car(broker)
    await link.open()
    yield link
    await link.close()


class _Car(MqttLink):
    def __init__(self, broker):
        self.inbox = {}
        super().__init__(
            MqttConfig(port=broker.port, version=broker.version),
            client_id="agent",
            topics=[self.topic(n) for n in ("desiredstate", "time", "ownerconsentfeedback")],
            on_message=lambda topic, payload: self._box(topic).put_nowait(payload),
        )

    @staticmethod
    def topic(name):
        return f"vehicles/{VIN}/adasupdate/{name}"

    def _box(self, topic):
        return self.inbox.setdefault(topic, asyncio.Queue())

    async def receive(self, name):
        return await self._box(self.topic(name)).get()

    def send(self, name, payload, **more):
        message = {"activityId": "a1", "timestamp": 1, "payload": payload} | more
        self.publish(self.topic(name), json.dumps(message).encode())


async def _told(maker, fulfilled):
    """The backend's state once it fulfils the condition; messages take their time to arrive."""
    while True:
        state = await asyncio.to_thread(maker.ask, "state")
        if fulfilled(state):
            return state


async def test_notice_leads_to_metadata_and_image_that_verify(maker, car):
    sent = await asyncio.to_thread(maker.ask, "notice")
    notice = json.loads(await car.receive("desiredstate"))
    assert notice["activityId"] == sent["activity_id"]
    (component,) = notice["payload"]["domains"][0]["components"]
    assert (component["id"], component["version"]) == ("adas-controller", "2.4.0")
    urls = {entry["key"]: entry["value"] for entry in component["config"]}
    for name, url in (
        ("director", urls["uptane.director_url"]),
        ("image", urls["uptane.image_url"]),
    ):
        root = Metadata[Root].from_bytes((maker.car / f"{name}-root.json").read_bytes()).signed
        for role in ("timestamp", "snapshot", "targets"):
            fetched = Metadata.from_bytes(maker.get(f"{url}/{role}.json").data)
            root.verify_delegate(role, fetched.signed_bytes, fetched.signatures)
        (path,) = fetched.signed.targets
    image = maker.get(f"{urls['uptane.image_url']}/targets/{path}").data
    fetched.signed.targets[path].verify_length_and_hashes(image)


@pytest.mark.requirement("A1")
async def test_raw_notice_is_sent_as_it_is(maker, car):
    await asyncio.to_thread(maker.ask, "notice", raw="{not json", size=10_000_000)
    assert await car.receive("desiredstate") == b"{not json".ljust(10_000_000)


async def test_time_is_attested_for_the_nonce_by_the_key_in_the_car(maker, car):
    car.send("time/get", {"nonce": "0011"})
    attestation = json.loads(await car.receive("time"))["payload"]
    assert attestation["signed"]["nonce"] == "0011"
    told = datetime.fromisoformat(attestation["signed"]["time"])
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60
    key = load_pem_public_key((maker.car / "time.pub").read_bytes())
    (signature,) = attestation["signatures"]
    assert signature["keyid"] == SSlibKey.from_crypto(key).keyid
    key.verify(bytes.fromhex(signature["sig"]), canonical(attestation["signed"]))


@pytest.mark.requirement("D6")
async def test_reports_count_once_even_over_a_restart_of_the_desk(tmp_path, broker, car):
    maker = _Maker(tmp_path, broker)
    done = {"baseline": "adas", "status": "COMPLETED", "message": "", "actions": []}
    with _part("backend", maker.config):
        await asyncio.to_thread(maker.ask, "notice")
        for _ in range(3):
            car.send("desiredstatefeedback", done, messageId="m1", seq=1)
        await _told(maker, lambda state: state["duplicates"] == 2)
    car.send("desiredstatefeedback", done, messageId="m1", seq=1)
    car.send("desiredstatefeedback", done, messageId="m2", seq=2)
    with _part("backend", maker.config):
        state = await _told(maker, lambda state: state["duplicates"] == 1)
        state = await _told(maker, lambda state: len(state["cars"][VIN]["feedback"]) == 2)
    row = state["recalls"]["S2025M0149I"]
    assert (row["notified"], row["completed"], row["open"]) == (1, 1, row["affected"] - 1)


async def test_restarted_maker_keeps_its_keys_and_counts_versions_up(tmp_path, broker):
    maker = _Maker(tmp_path, broker)
    with _part("backend", maker.config):
        roots = [(maker.car / f"{name}-root.json").read_bytes() for name in ("director", "image")]
        maker.ask("rotate", repository="director", role="targets")
    with _part("backend", maker.config):
        assert roots == [
            (maker.car / f"{name}-root.json").read_bytes() for name in ("director", "image")
        ]
        url = maker.ask("info")["cars"][VIN]["director_url"]
        second = Metadata[Root].from_bytes(maker.get(f"{url}/2.root.json").data).signed
        targets = Metadata.from_bytes(maker.get(f"{url}/targets.json").data)
        second.verify_delegate("targets", targets.signed_bytes, targets.signatures)
        assert targets.signed.version == 3


@pytest.mark.requirement("B4")
async def test_well_signed_but_wrong_campaign_halt_tampering_and_faults(maker):
    def targets():
        url = maker.ask("info")["cars"][VIN]["director_url"]
        return json.loads(maker.get(f"{url}/targets.json").data)

    def custom():
        return next(iter(targets()["signed"]["targets"].values()))["custom"]

    maker.ask("assign", campaign={"vin": "OTHER"}, ecus={"X": "Y"})
    assert custom()["campaign"]["vin"] == "OTHER"
    assert custom()["ecuIdentifiers"] == {"X": {"hardwareId": "Y"}}
    maker.ask("assign")
    maker.ask("halt")
    assert custom()["campaign"]["halted"] is True
    assert custom()["campaign"]["vin"] == VIN
    maker.ask("tamper", repository="director", role="targets", how="unsigned")
    assert targets()["signatures"] == []
    maker.ask("publish")
    assert len(targets()["signatures"]) == 1
    maker.ask("fault", kind="status", url_path="/director/*", amount=503, times=1)
    assert maker.get(maker.ask("info")["cars"][VIN]["director_url"] + "/targets.json").status == 503
    with pytest.raises(control.ControlError, match="one of"):
        maker.ask("tamper", repository="director", role="targets", how="politely")


@pytest.mark.requirement("A2")
async def test_private_keys_are_the_owners_alone(maker):
    keys = [*maker.folder.rglob("*.key"), *maker.folder.rglob("keys/*/*.pem")]
    assert len(keys) > 8
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def _question(texts):
    return {
        "activityId": "a1",
        "manifestSha256": "aa" * 32,
        "textsSha256": hashlib.sha256(canonical(texts)).hexdigest(),
        "challenge": "bb" * 16,
        "recall": "S2025M0149I",
        "minutes": 25,
        "texts": texts,
    }


@pytest.mark.requirement("D2")
async def test_display_shows_then_answers_and_the_desk_counts_it(maker, car, broker):
    url = maker.ask("info")["cars"][VIN]["director_url"]
    targets = json.loads(maker.get(f"{url}/targets.json").data)["signed"]["targets"]
    texts = next(iter(targets.values()))["custom"]["campaign"]["texts"]
    socket, config = maker.folder / "hmi.sock", maker.folder / "hmi.toml"
    config.write_text(
        f"""
        vin = "{VIN}"
        key = "{maker.car}/hmi.key"
        control = "{socket}"
        policy = "ask"
        [mqtt]
        port = {broker.port}
        version = {broker.version}
        """
    )
    with _part("hmi", config):
        with pytest.raises(control.ControlError, match="nothing is being asked"):
            control.call(socket, "answer", status="APPROVED")
        car.send("ownerconsent", _question(texts), messageId="q1", seq=1)
        state = {"showing": None}
        while state["showing"] is None:
            state = await asyncio.to_thread(control.call, socket, "state")
        assert state["showing"]["texts"] == texts["zh-CN"]
        assert state["answers"] == []
        await asyncio.to_thread(control.call, socket, "answer", status="APPROVED")
        said = json.loads(await car.receive("ownerconsentfeedback"))["payload"]
        key = load_pem_public_key((maker.car / "hmi.pub").read_bytes())
        rest = {name: value for name, value in said.items() if name != "signature"}
        key.verify(bytes.fromhex(said["signature"]), canonical(rest))
        state = await _told(maker, lambda state: state["cars"][VIN]["consented"])
        assert state["recalls"]["S2025M0149I"]["consented"] == 1


@pytest.mark.parametrize("part", ["backend", "hmi"])
@pytest.mark.parametrize(
    ("content", "told"), [("vin = 1", "vin"), ("= nonsense", "line 1"), (None, "No such file")]
)
def test_bad_configuration_is_one_clear_line(tmp_path, part, content, told):
    config = tmp_path / "part.toml"
    if content is not None:
        config.write_text(content)
    ended = subprocess.run(
        [sys.executable, "-c", PART, part, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "part.toml" in ended.stderr
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [((VIN, "TOO-SHORT"), "TOO-SHORT"), (("[mqtt]", 'recall = "S1"\n[mqtt]'), "S2025M0149I")],
)
def test_impossible_car_or_recall_is_one_clear_line(tmp_path, change, told):
    config = tmp_path / "backend.toml"
    _write_backend_config(config, tmp_path, port=1, version=5)
    config.write_text(config.read_text().replace(*change))
    ended = subprocess.run(
        [sys.executable, "-c", PART, "backend", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
