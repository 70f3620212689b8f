"""Uptane's full verification at the edge: fetches and stores what the pure parts decide on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from vehicle_agent.identity import VehicleIdentity
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import Release
from vehicle_agent.trust.delegations import locate
from vehicle_agent.trust.floors import MonotonicStore
from vehicle_agent.trust.release import directed_to, is_halted, release_for
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.store import TrustStore
from vehicle_agent.trust.workflow import Want, Workflow, drive_async, refresh

Fetch = Callable[[str, int], Awaitable[bytes | None]]
"""`fetch(url, limit)`: the file of at most `limit` bytes, None if the server says it has none.

Raises Refused(METADATA_UNAVAILABLE) if the server does not answer."""

DIRECTOR, DIRECTOR_OFFLINE, IMAGE = "director", "director-offline", "image"

R = TypeVar("R")


class TrustConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table `[trust]`.

    `directory` holds the stored metadata and the floors; `director_root` and `image_root` are the
    root metadata that the car was provisioned with, `director_offline_root` the one for bundles
    (none: this car takes no bundles); `time_key` (the time server's, public) and
    `vehicle_key` (private, mode 0600) are PEM files. `allowed_hosts` are `host` (any port) or
    `host:port`. `vehicle_key` may be the URI of a key on a token (`trust/pkcs11.py`);
    `image_key` (private, mode 0600) opens images that are encrypted for this car. A time
    attestation counts for `attestation_max_age_s`; a metadata file has at most `metadata_limit`
    bytes.
    """

    directory: str
    director_root: str
    image_root: str
    director_offline_root: str | None = None
    time_key: str
    vehicle_key: str
    image_key: str | None = None
    allowed_hosts: tuple[str, ...]
    attestation_max_age_s: float = 86_400.0
    metadata_limit: int = 1 << 20

    def store(self, base: Path = Path()) -> TrustStore:
        """The metadata store; `base` is the folder that relative paths start from."""
        roots = {DIRECTOR: base / self.director_root, IMAGE: base / self.image_root}
        if self.director_offline_root is not None:
            roots[DIRECTOR_OFFLINE] = base / self.director_offline_root
        return TrustStore(base / self.directory / "metadata", roots)

    def floors_path(self, base: Path = Path()) -> Path:
        """Where the FileMonotonicStore belongs."""
        return base / self.directory / "floors.json"


def release_counter(serial: str) -> str:
    """Name of a controller's release-counter floor in the MonotonicStore."""
    return f"release_counter/{serial}"


class Verifier:
    """Verifies notices, one at a time."""

    def __init__(
        self,
        config: TrustConfig,
        store: TrustStore,
        fetch: Fetch,
        identity: VehicleIdentity,
        *,
        floors: MonotonicStore,
        now: Callable[[], datetime | None],
    ) -> None:
        """`now` is trusted time or None, as `TrustedClock.now`."""
        self._config = config
        self._store = store
        self._floors = floors
        self._fetch = fetch
        self._identity = identity
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def verify(
        self, component: str, version: str, director_url: str, image_url: str
    ) -> Release:
        """The release that Director and Image repository agree on for `component`.

        `version` is the one that the notice names. Metadata accepted on the way is stored, so that
        nothing older is accepted later. Raises Refused with a trust code, NO_TRUSTED_TIME,
        URL_NOT_ALLOWED, METADATA_UNAVAILABLE.
        """
        now = self._now()
        if now is None:
            raise Refused(Code.NO_TRUSTED_TIME, "expiry of metadata cannot be judged")
        ecu = self._identity.ecu(component)
        if ecu is None:
            raise Refused(Code.UNKNOWN_COMPONENT, f"{component!r} is not in the configuration")
        for url in (director_url, image_url):
            check_url(url, self._config.allowed_hosts)
        async with self._one_at_a_time:
            director = await self._trusted(DIRECTOR)
            await self._carry_out(director, director_url, refresh(director, now))
            directed = directed_to(component, self._identity, director.targets)
            image = await self._trusted(IMAGE)
            await self._carry_out(image, image_url, refresh(image, now))
            located = await self._carry_out(
                image, image_url, locate(image, directed.path, ecu.hardware_id)
            )
        release = release_for(
            directed,
            located,
            image_url=image_url,
            counter_floor=self._floors.get(release_counter(ecu.serial)),
            signed_by=director.targets_signed_by + (located.signed_by if located else ()),
            hash_prefixed=bool(image.root.consistent_snapshot),
        )
        if release.facts.version != version:
            raise Refused(
                Code.TARGET_MISMATCH,
                f"the notice names version {version[:32]!r}, "
                f"Director and Image {release.facts.version!r}",
            )
        return release

    async def halted(self, component: str, filepath: str, director_url: str) -> bool:
        """Whether the Director, asked anew, says that the campaign of this target is halted.

        A Director that has nothing or something else for the controller says nothing of it.
        Raises Refused as `verify`: whether it is halted is not known then.
        """
        now = self._now()
        if now is None:
            raise Refused(Code.NO_TRUSTED_TIME, "expiry of metadata cannot be judged")
        check_url(director_url, self._config.allowed_hosts)
        async with self._one_at_a_time:
            director = await self._trusted(DIRECTOR)
            await self._carry_out(director, director_url, refresh(director, now))
            try:
                directed = directed_to(component, self._identity, director.targets)
            except Refused as refused:
                if refused.refusal.code is Code.NO_UPDATE:
                    return False
                raise
        return directed.path == filepath and is_halted(directed)

    async def _trusted(self, name: str) -> RepositoryTrust:
        return await asyncio.to_thread(self._store.trusted, name)

    async def _carry_out(self, trust: RepositoryTrust, url: str, workflow: Workflow[R]) -> R:
        """Go through `workflow`; what it accepted is stored, also if a later file is refused."""

        async def fetch(file: Want) -> bytes | None:
            return await self._get(url, file)

        try:
            return await drive_async(workflow, fetch)
        finally:
            await asyncio.shield(asyncio.to_thread(self._store.keep, trust))

    async def _get(self, url: str, file: Want) -> bytes | None:
        limit = self._config.metadata_limit
        if file.length is not None:
            limit = min(limit, file.length)
        data = await self._fetch(f"{url.rstrip('/')}/{file.name}", limit)
        if data is not None and len(data) > limit:
            raise Refused(Code.METADATA_MALFORMED, f"{file.name[:80]}: longer than {limit} bytes")
        return data


def check_url(url: str, allowed_hosts: tuple[str, ...]) -> None:
    """Raise Refused(URL_NOT_ALLOWED) unless `url` is https to a host on the allow-list."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if (
        not plain
        or parts.scheme != "https"
        or parts.username is not None
        or parts.password is not None
        or parts.query
        or parts.fragment
        or not {host, f"{host}:{port}"} & set(allowed_hosts)
    ):
        raise Refused(
            Code.URL_NOT_ALLOWED,
            f"{url[:80]!r}: https to one of {', '.join(allowed_hosts)} is needed",
        )
