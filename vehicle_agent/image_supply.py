"""Brings the image of an update to the disk: fetched as it is, or opened for this car."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from vehicle_agent.download import Downloader
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import ImageEncryption, Release
from vehicle_agent.trust.encryption import ImageKey, content_key, decrypt_image


class ImageSupply:
    """Images by their digest in one folder; `disk_reserve` bytes of the disk stay free."""

    def __init__(
        self, downloader: Downloader, folder: Path, image_key: ImageKey | None, disk_reserve: int
    ) -> None:
        self._downloader = downloader
        self._folder = folder
        self._image_key = image_key
        self._disk_reserve = disk_reserve

    async def bring(
        self, release: Release, director_url: str, on_progress: Callable[[int, int], None]
    ) -> Path:
        """The image on disk, hashed this very moment; fetched where it is not there.

        An encrypted image is fetched from the Director, which made it for this car alone. Raises
        Refused as `Downloader.image`, `content_key` and `decrypt_image` do.
        """
        path = self._folder / f"{release.sha256}.image"
        hashes = _hashes(release)
        if release.encryption is not None and not path.exists():
            source = f"{director_url.rstrip('/')}/targets/{quote(release.filepath)}"
            await self._open(release, release.encryption, source, path, on_progress)
        return await self._downloader.image(
            release.image_url, release.length, hashes, path, on_progress
        )

    async def _open(
        self,
        release: Release,
        encryption: ImageEncryption,
        source: str,
        path: Path,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Fetch the encrypted image from `source` and open it to `path`.

        What does not open is forgotten, so that the next try fetches it anew.
        """
        key = content_key(self._image_key, encryption, release.length, release.sha256)
        sealed = await self._downloader.image(
            source, encryption.length, encryption.hashes, path.with_suffix(".sealed"), on_progress
        )
        try:
            await asyncio.to_thread(
                decrypt_image,
                sealed,
                path,
                encryption=encryption,
                key=key,
                length=release.length,
                hashes=_hashes(release),
                reserve=self._disk_reserve,
            )
        except Refused as refused:
            if refused.refusal.code is not Code.DISK_FULL:
                sealed.unlink(missing_ok=True)
            raise
        sealed.unlink(missing_ok=True)


def _hashes(release: Release) -> dict[str, str]:
    return {"sha256": release.sha256, **release.hashes}
