"""The maker's offline Director: one repository for each VIN, its keys never on a server.

Below the maker's folder: `keys/director-offline/` (private), `director-offline/<VIN>/` (metadata),
and `cars/<VIN>/director-offline-root.json`, which the car is provisioned with. Each role carries
`custom.vin`, so that nothing of it can be used for another car.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Metadata, Targets

from hil_rig.backend.repository import Repository, make_signers, read_signers, write_signers

NAME = "director-offline"
ROOT_FILE = "director-offline-root.json"
DEFAULT_DAYS = 90


def open_director(
    folder: Path, vin: str, now: datetime, lifetime: timedelta = timedelta(days=DEFAULT_DAYS)
) -> Repository:
    """The offline Director of one car, made and its root provisioned where there is none.

    Timestamp, snapshot and targets live for `lifetime`. Raises OSError, ValueError.
    """
    keys = folder / "keys" / NAME
    if not keys.exists():
        write_signers(keys, make_signers())
    lifetimes = dict.fromkeys(("timestamp", "snapshot", "targets"), lifetime)
    repository = Repository(now, signers=read_signers(keys), lifetimes=lifetimes)
    place = folder / NAME / vin
    if (place / "timestamp.json").exists():
        repository.resume(place)
    else:
        bind(repository, vin)
        repository.publish(now)
        repository.write_to(place)
    car = folder / "cars" / vin
    if car.is_dir() and not (car / ROOT_FILE).exists():
        (car / ROOT_FILE).write_bytes(repository.files["1.root.json"])
    return repository


def bind(repository: Repository, vin: str) -> None:
    """Say in every role but root that it is for this car."""
    for role in (repository.targets, repository.snapshot, repository.timestamp):
        custom = role.unrecognized_fields.get("custom") or {}
        role.unrecognized_fields["custom"] = custom | {"vin": vin}


def direct_as_online(folder: Path, vin: str, repository: Repository, now: datetime) -> None:
    """Publish, signed offline, what the online Director last directed to this car.

    Raises OSError if there is none.
    """
    content = (folder / "director" / vin / "targets.json").read_bytes()
    online = Metadata[Targets].from_bytes(content).signed
    repository.targets.targets = online.targets
    repository.targets.unrecognized_fields = dict(online.unrecognized_fields)
    bind(repository, vin)
    repository.publish(now)
    repository.write_to(folder / NAME / vin)
