"""The repository client alone, over HTTP: the histories that a TUF client has to get right."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner

from hil_rig.backend.repository import make_signers, signed_file
from hil_rig.backend.tamper import TAMPERS
from tests.integration.tuf_desk import NOW, TOP, Desk, refused, served


@pytest.fixture(params=[False, True], ids=["plain-names", "consistent-snapshots"])
def desk(request, tmp_path):
    with served(Desk(tmp_path, consistent_snapshot=request.param)) as desk:
        assert desk.init() == 0
        yield desk


@pytest.fixture
def consistent(tmp_path):
    with served(Desk(tmp_path, consistent_snapshot=True, describe_files=True)) as desk:
        assert desk.init() == 0
        yield desk


def test_refresh_asks_for_the_four_roles_in_order_and_keeps_them(desk):
    assert desk.asked == []
    assert desk.refresh() == 0
    one = "1." if desk.repository.root.consistent_snapshot else ""
    names = ["2.root", "timestamp", f"{one}snapshot", f"{one}targets"]
    assert desk.asked == [f"metadata/{name}.json" for name in names]
    assert desk.roles() == TOP
    assert [desk.version(role) for role in TOP] == [1, 1, 1, 1]
    assert desk.refresh() == 0
    assert desk.asked == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_command_of_the_installed_program_does_the_same(consistent):
    where = ["--metadata-dir", str(consistent.metadata), "--time", NOW.isoformat()]
    where += ["--metadata-url", f"{consistent.url}/metadata"]
    done = subprocess.run(
        [sys.executable, "-m", "vehicle_agent", "repository", "refresh", *where],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert consistent.version("targets") == 1


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_key_type_of_tuf_is_read(tmp_path, kind):
    signers = {role: [getattr(CryptoSigner, f"generate_{kind}")()] for role in make_signers()}
    with served(Desk(tmp_path, signers=signers)) as desk:
        assert desk.init() == 0
        assert desk.refresh() == 0
        assert desk.version("targets") == 1


def test_initial_root_has_to_be_one(desk, capsys):
    root = desk.repository.files["1.root.json"]
    broken = json.loads(root)
    unsigned = {**json.loads(root), "signatures": []}
    del broken["signed"]["version"]
    for each, code in ((broken, "MetadataMalformed"), (unsigned, "UnmetThreshold")):
        assert desk.init(json.dumps(each).encode()) == 1
        refused(capsys, code)
    desk.metadata = desk.folder / "empty"
    assert desk.refresh() == 1
    refused(capsys, "ConfigInvalid")
    assert desk.asked == []


def test_http_is_taken_from_this_machine_only(desk, capsys):
    desk.url = "http://repository.example"
    assert desk.refresh() == 1
    refused(capsys, "UrlNotAllowed")


def test_root_goes_forward_one_by_one_over_every_rotation(desk):
    for _ in range(3):
        desk.repository.rotate("root", NOW)
    assert desk.refresh() == 0
    assert desk.version("root") == 4
    assert [name for name in desk.asked if "root" in name] == [
        f"metadata/{n}.root.json" for n in (2, 3, 4, 5)
    ]


def test_root_beyond_a_gap_is_not_reached(desk):
    for _ in range(3):
        desk.repository.rotate("snapshot", NOW)
    desk.repository.publish(NOW)
    del desk.repository.files["3.root.json"]
    assert desk.refresh() == 1
    assert desk.version("root") == 2


def test_root_goes_forward_a_bounded_number_of_versions(desk):
    for version in range(2, 260):
        desk.repository.root.version = version
        desk.repository.files[f"{version}.root.json"] = signed_file(
            desk.repository.root.to_dict(), desk.repository.signers["root"]
        )
    assert desk.refresh() == 0
    assert desk.version("root") == 257
    assert desk.refresh() == 0
    assert desk.version("root") == 259


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_rotated_keys_are_followed_and_old_ones_refused(desk, role):
    assert desk.refresh() == 0
    desk.repository.rotate(role, NOW)
    if role != "root":
        assert desk.refresh() == 1
    desk.repository.publish(NOW)
    assert desk.refresh() == 0
    assert (desk.version("root"), desk.version("targets")) == (2, 2)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_role_is_not_taken(desk, role, capsys):
    assert desk.refresh() == 0
    desk.repository.publish(NOW)
    TAMPERS["expired"](desk.repository, role)
    assert desk.refresh() == 1
    refused(capsys, "ExpiredMetadata")
    assert desk.version(role) == 1


def test_expired_root_is_kept_but_nothing_after_it_is_asked_for(desk, capsys):
    assert desk.refresh() == 0
    desk.repository.lifetimes["root"] = timedelta(days=-1)
    desk.repository.rotate("timestamp", NOW)
    assert desk.refresh() == 1
    refused(capsys, "ExpiredMetadata")
    assert desk.version("root") == 2
    assert "metadata/timestamp.json" not in desk.asked


def test_expired_stored_files_do_not_stand_in_the_way_of_new_ones(desk):
    assert desk.refresh() == 0
    desk.time = NOW + timedelta(days=100)
    assert desk.refresh() == 1
    desk.repository.publish(desk.time)
    assert desk.refresh() == 0


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rollback_is_refused(tmp_path, role, described):
    with served(Desk(tmp_path, describe_files=described)) as desk:
        desk.repository.publish(NOW)
        desk.init()
        assert desk.refresh() == 0
        getattr(desk.repository, role).version -= 2 if role == "timestamp" else 1
        if role == "timestamp":
            desk.repository.snapshot.version -= 1
        if role == "snapshot":
            desk.repository.snapshot.version -= 1
        desk.repository.refresh(NOW)
        assert desk.refresh() == 1
        assert desk.version(role) == 2


def test_timestamp_of_an_equal_version_is_no_news(desk):
    assert desk.refresh() == 0
    desk.repository.forge("timestamp", lambda s: s["meta"]["snapshot.json"].update(version=100))
    assert desk.refresh() == 0
    assert json.loads((desk.metadata / "timestamp.json").read_bytes())["signed"]["meta"] == {
        "snapshot.json": {"version": 1}
    }


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_fast_forward_is_recovered_from_by_new_keys(desk, role):
    getattr(desk.repository, role).version = 99_999
    desk.repository.publish(NOW)
    assert desk.refresh() == 0
    for each in ("timestamp", "snapshot"):
        desk.repository.rotate(each, NOW)
    for each in ("timestamp", "snapshot", "targets"):
        getattr(desk.repository, each).version = 1
    desk.repository.publish(NOW)
    assert desk.refresh() == 0
    assert desk.version(role) == 2


def test_mix_of_two_repository_states_is_refused(desk, capsys):
    desk.repository.targets.targets.clear()
    old = desk.repository.bytes_of("targets")
    desk.repository.publish(NOW)
    desk.repository.files[desk.repository.file_name("targets")] = old
    assert desk.refresh() == 1
    refused(capsys, "VersionMismatch")
    assert desk.roles() == ["root", "snapshot", "timestamp"]


@pytest.mark.parametrize("role", ["snapshot", "targets"])
@pytest.mark.parametrize("lie", [{"length": 7}, {"hashes": {"sha256": "00" * 32}}])
def test_length_and_hash_that_the_parent_names_are_kept_to(consistent, role, lie):
    parent, name = {
        "snapshot": ("timestamp", "snapshot.json"),
        "targets": ("snapshot", "targets.json"),
    }[role]
    assert consistent.refresh() == 0
    consistent.repository.publish(NOW)
    consistent.repository.describe_files = False
    if parent == "snapshot":
        consistent.repository.timestamp.snapshot_meta.length = None
        consistent.repository.timestamp.snapshot_meta.hashes = None
        consistent.repository.timestamp.version += 1
        consistent.repository.forge(
            "timestamp", lambda s: s["meta"].update({"snapshot.json": {"version": 2}})
        )
    consistent.repository.forge(parent, lambda s: s["meta"][name].update(lie))
    assert consistent.refresh() == 1
    assert consistent.version(role) == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(
    "how", ["unsigned", "unknown_key", "bad_key_id", "repeated_signature", "truncated", "huge"]
)
def test_spoilt_role_is_refused(desk, how, role):
    TAMPERS[how](desk.repository, role)
    assert desk.refresh() == 1
    assert desk.version(role) is None


def test_one_key_under_two_ids_is_one_signature(tmp_path):
    signers = make_signers({"snapshot": 1})
    key = signers["snapshot"][0]
    other = CryptoSigner(key._private_key, key.public_key.from_dict("b" * 64, _plain(key)))
    signers["snapshot"] = [key, other]
    with served(Desk(tmp_path, signers=signers, thresholds={"snapshot": 2})) as desk:
        assert desk.init() == 0
        assert desk.refresh() == 1
        assert desk.roles() == ["root", "timestamp"]


def _plain(signer):
    return json.loads(json.dumps(signer.public_key.to_dict()))


def test_key_ids_of_a_repositorys_own_choosing_are_taken_by_this_tool(tmp_path):
    signers = make_signers()
    key = signers["targets"][0]
    signers["targets"] = [
        CryptoSigner(key._private_key, key.public_key.from_dict("my-key", _plain(key)))
    ]
    with served(Desk(tmp_path, signers=signers)) as desk:
        assert desk.init() == 0
        assert desk.refresh() == 0


def test_fields_that_nobody_knows_are_covered_by_the_signature_and_no_hindrance(desk):
    desk.repository.root.unrecognized_fields["custom-field"] = {"a": [1, None]}
    keyid = desk.repository.root.roles["root"].keyids[0]
    desk.repository.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    desk.repository.rotate("timestamp", NOW)
    desk.repository.publish(NOW)
    assert desk.refresh() == 0
    assert desk.version("root") == 2


@pytest.mark.parametrize("status", [301, 500, 503])
def test_server_in_trouble_is_no_missing_root(desk, capsys, status):
    desk.answers["metadata/2.root.json"] = (status, b"")
    assert desk.refresh() == 1
    refused(capsys, "MetadataUnavailable")


@pytest.mark.parametrize("damaged", ["root", "timestamp", "snapshot", "targets"])
def test_damaged_store_is_made_good_and_goes_back_to_nothing(desk, damaged):
    desk.repository.rotate("timestamp", NOW)
    desk.repository.publish(NOW)
    old = dict(desk.repository.files)
    desk.repository.publish(NOW)
    assert desk.refresh() == 0
    for role in TOP:
        if damaged in {role, "root"}:
            (desk.metadata / f"{role}.json").write_bytes(b"\0\0\0")
    new, desk.repository.files = desk.repository.files, old
    assert desk.refresh() == 1
    desk.repository.files = new
    assert desk.refresh() == 0
    assert [desk.version(role) for role in TOP] == [2, 3, 3, 3]
