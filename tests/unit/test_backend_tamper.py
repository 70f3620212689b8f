"""Every named way to spoil metadata leaves a file that a plain TUF client refuses."""

from datetime import UTC, datetime

import pytest
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from hil_rig.backend.repository import Repository
from hil_rig.backend.tamper import TAMPERS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LARGEST = 1 << 20


def _accepts(repository, role):
    """Whether the file of `role` is what the repository last meant to publish."""
    try:
        content = repository.bytes_of(role)
        metadata = Metadata.from_bytes(content)
        repository.root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (KeyError, ValueError, RepositoryError):
        return False
    expected = getattr(repository, role).version
    fresh = not metadata.signed.is_expired(NOW)
    return fresh and metadata.signed.version == expected and len(content) < LARGEST


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("how", sorted(set(TAMPERS) - {"no_threshold"}))
def test_spoilt_file_is_refused(how, role):
    repository = Repository(NOW)
    repository.publish(NOW)
    assert _accepts(repository, role)
    TAMPERS[how](repository, role)
    assert not _accepts(repository, role)


def test_root_without_threshold_is_malformed():
    repository = Repository(NOW)
    repository.publish(NOW)
    TAMPERS["no_threshold"](repository, "targets")
    with pytest.raises(RepositoryError):
        Metadata.from_bytes(repository.bytes_of("root"))
