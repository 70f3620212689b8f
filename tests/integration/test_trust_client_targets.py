"""Targets and delegations by the repository client alone, over HTTP."""

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner

from tests.integration.tuf_desk import NOW, TOP, Desk, refused, served, sha256


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


def test_target_is_downloaded_once_and_again_when_it_changes(desk):
    desk.offer("path/to/a file.txt", b"first", hashes=["sha512", "sha256"])
    assert desk.download("path/to/a file.txt") == 0
    assert desk.downloaded() == [b"first"]
    assert desk.download("path/to/a file.txt") == 0
    assert not [name for name in desk.asked if name.startswith("targets/")]
    desk.offer("path/to/a file.txt", b"second")
    assert desk.download("path/to/a file.txt") == 0
    assert desk.downloaded() == [b"second"]


def test_hash_is_before_the_name_where_snapshots_are_consistent(consistent):
    consistent.offer("path/file", b"content")
    assert consistent.download("path/file") == 0
    assert consistent.asked[-1] == f"targets/path/{sha256(b'content')}.file"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (b"OTHER", "TargetHashMismatch"),
        (b"content and more", "OversizedTarget"),
        (b"con", "ImageTruncated"),
    ],
)
def test_other_bytes_than_the_signed_ones_are_not_kept(desk, capsys, other, code):
    desk.offer("file", b"first")
    desk.offer("old", b"stays")
    assert desk.download("old") == 0
    desk.repository.images["file"] = other
    assert desk.download("file") == 1
    refused(capsys, code if len(other) != 5 else "TargetHashMismatch")
    assert desk.downloaded() == [b"stays"]


def test_target_whose_hashes_are_all_unknown_is_refused(desk, capsys):
    desk.offer("file", b"content", hashes=["md5"])
    assert desk.download("file") == 1
    refused(capsys, "MetadataMalformed")
    assert desk.downloaded() == []


def test_unknown_target_is_refused_after_the_refresh(desk, capsys):
    assert desk.download("nothing") == 1
    refused(capsys, "TargetMismatch")
    assert desk.roles() == TOP


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "..", "a/../../b", "x" * 300])
def test_target_cannot_lead_out_of_its_folder(desk, name):
    desk.repository.add_target(name, b"content")
    desk.repository.publish(NOW)
    path = f"targets/{name}"
    if desk.repository.root.consistent_snapshot:
        folder, slash, last = name.rpartition("/")
        path = f"targets/{folder}{slash}{sha256(b'content')}.{last}"
    desk.answers[path] = (200, b"content")
    before = {each for each in desk.folder.rglob("*") if each.is_file()}
    desk.download(name)
    new = {each for each in desk.folder.rglob("*") if each.is_file()} - before
    assert all(each.parent in {desk.targets, desk.metadata} for each in new - _histories(desk))


def _histories(desk):
    return set((desk.metadata / "roots").rglob("*"))


GRAPHS = {
    "one": ([("targets", "A")], ["A"]),
    "two-by-priority": ([("targets", "A"), ("targets", "B")], ["A", "B"]),
    "depth-first": (
        [("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")],
        ["A", "C", "D", "B"],
    ),
    "terminating": (
        [("targets", "A"), ("targets", "B"), ("A", "C", True), ("A", "D"), ("C", "E")],
        ["A", "C", "E"],
    ),
    "not-covering": (
        [("targets", "A", False, "*.py"), ("targets", "B"), ("A", "C")],
        ["B"],
    ),
    "cycle": ([("targets", "A"), ("A", "B"), ("B", "C"), ("C", "A")], ["A", "B", "C"]),
    "two-ways-to-one": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("A", "C")],
        ["A", "C", "B"],
    ),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_delegations_are_searched_in_preorder_depth_first(desk, graph):
    delegations, order = GRAPHS[graph]
    for delegator, role, *more in delegations:
        terminating, pattern = [*more, False, "*"][0] if more else False, "*"
        if len(more) == 2:
            terminating, pattern = more
        desk.repository.delegate(delegator, role, [pattern], terminating=terminating)
    desk.repository.publish(NOW)
    assert desk.download("missing") == 1
    one = "1." if desk.repository.root.consistent_snapshot else ""
    assert desk.asked[4:] == [f"metadata/{one}{role}.json" for role in order]


def test_delegated_target_is_found_where_the_patterns_lead(desk):
    repository = desk.repository
    repository.delegate("targets", "docs", ["*.md"])
    repository.delegate("targets", "releases", ["releases/*/*"])
    repository.delegate("releases", "y", ["releases/y/*.zip"])
    desk.offer("releases/y/1.zip", b"zip", role="y")
    desk.offer("releases/z/1.zip", b"not its to sign", role="y")
    assert desk.download("releases/y/1.zip") == 0
    assert desk.downloaded() == [b"zip"]
    assert desk.download("releases/z/1.zip") == 1


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "..", "a b", "%2e", "ä"])
def test_role_of_an_unusual_name_stays_in_its_folder(desk, role):
    desk.repository.delegate("targets", role, ["*"])
    desk.offer("file", b"content", role=role)
    before = set(desk.folder.parent.iterdir())
    assert desk.download("file") == 0
    assert len(desk.roles()) == 5
    assert set(desk.folder.parent.iterdir()) == before


def test_cached_role_is_verified_for_whoever_delegates_to_it_now(desk, capsys):
    repository = desk.repository
    repository.delegate("targets", "A", ["a/*"])
    repository.delegate("targets", "B", ["b/*"])
    repository.delegate("A", "shared", ["*/*"])
    signed_for_a = repository.signers["shared"]
    repository.add_target("a/file", b"content", role="shared")
    repository.add_target("b/file", b"content", role="shared")
    repository.images |= {"a/file": b"content", "b/file": b"content"}
    repository.delegate("B", "shared", ["*/*"], signers=[CryptoSigner.generate_ed25519()])
    repository.signers["shared"] = signed_for_a
    repository.publish(NOW)
    assert desk.download("a/file") == 0
    assert desk.download("b/file") == 1
    refused(capsys, "UnmetThreshold")


@pytest.mark.parametrize("delegator", ["targets", "A"])
def test_cached_delegated_role_ends_with_the_key_that_signed_it(desk, delegator):
    repository = desk.repository
    repository.delegate("targets", "A", ["*"])
    if delegator == "A":
        repository.delegate("A", "B", ["*"])
    role = {"targets": "A", "A": "B"}[delegator]
    desk.offer("file", b"content", role=role)
    assert desk.download("file") == 0
    old = list(repository.signers[role])
    repository.delegate(delegator, role, ["*"], signers=[CryptoSigner.generate_ed25519()])
    repository.signers[role] = old
    version = repository.delegated[role].version
    repository.publish(NOW)
    repository.delegated[role].version = version
    repository.refresh(NOW)
    assert desk.download("file") == 1


def test_delegated_role_that_has_expired_is_not_used(desk, capsys):
    desk.repository.delegate("targets", "A", ["*"])
    desk.offer("first", b"first", role="A")
    desk.offer("second", b"second", role="A")
    assert desk.download("first") == 0
    desk.repository.lifetimes |= dict.fromkeys(("timestamp", "snapshot"), timedelta(days=999))
    desk.time = NOW + timedelta(days=366)
    desk.repository.targets.version += 1
    desk.repository.targets.expires = desk.time + timedelta(days=1)
    desk.repository._write("targets", desk.repository.targets)
    desk.repository.refresh(desk.time)
    assert desk.download("second") == 1
    refused(capsys, "ExpiredMetadata")
    desk.repository.publish(desk.time)
    assert desk.download("second") == 0


@pytest.mark.parametrize(("count", "found"), [(32, 0), (33, 1)])
def test_search_visits_a_bounded_number_of_roles(desk, capsys, count, found):
    for number in range(count):
        desk.repository.delegate("targets", f"role{number}", ["*"])
    desk.offer("file", b"content", role=f"role{count - 1}")
    assert desk.download("file") == found
    if found:
        refused(capsys, "DelegationMissing")


def test_delegated_role_that_is_not_served_ends_the_search(desk, capsys):
    desk.repository.delegate("targets", "A", ["*"])
    desk.repository.delegate("targets", "B", ["*"])
    desk.offer("file", b"content", role="B")
    del desk.repository.files[desk.repository.file_name("A")]
    assert desk.download("file") == 1
    refused(capsys, "DelegationMissing")
