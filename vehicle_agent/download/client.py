"""Fetches metadata and images.

The library blocks, so each transfer runs in a thread; the coroutine that waits for it watches the
rate, and shuts the socket when it is cancelled or when the server drips. Nothing is tried again
here, save one object that a power cut has torn: when to come back is the life's decision
(`agent.Life`, capped back-off).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

import msgspec
from urllib3.exceptions import HTTPError, IncompleteRead, ProtocolError
from urllib3.response import BaseHTTPResponse

from vehicle_agent.download.line import Line, Now, tls_context
from vehicle_agent.download.part import Digests, DiskError, Part, TooLong, hash_file
from vehicle_agent.refusals import Code, Refused

Result = TypeVar("Result")

_CHUNK = 1 << 16
_BROKEN = (HTTPError, HTTPException, OSError)


class DownloadConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table `[download]`.

    `ca`: PEM file of the only certificate authority that servers are believed by. A transfer that
    moves less than `minimum_rate` bytes/s over `slow_after_s` is ended. `disk_reserve` bytes
    stay free.
    """

    ca: str
    connect_timeout_s: float = 10.0
    slow_after_s: float = 20.0
    minimum_rate: int = 1024
    disk_reserve: int = 16 << 20

    def __post_init__(self) -> None:
        if self.connect_timeout_s <= 0 or self.slow_after_s <= 0:
            raise ValueError("connect_timeout_s and slow_after_s must be above 0")
        if self.minimum_rate < 1 or self.disk_reserve < 0:
            raise ValueError("minimum_rate must be at least 1, disk_reserve at least 0")


class Downloader:
    """Fetches from servers that show a certificate of our own CA."""

    def __init__(self, config: DownloadConfig, *, ca: Path, now: Now = lambda: None) -> None:
        """`ca` is `config.ca` resolved; `now` is trusted time, None while there is none.

        Before the first time attestation only chain and name of a certificate are judged, or a
        dead clock would lock TLS and time against each other. Raises Refused(CONFIG_INVALID).
        """
        self._config = config
        self._now = now
        self._tls = tls_context(ca)

    async def fetch(self, url: str, limit: int) -> bytes | None:
        """The file at `url`, at most `limit` bytes; None if the server says that it has none.

        Raises Refused: METADATA_UNAVAILABLE, SLOW_RETRIEVAL, METADATA_MALFORMED (longer than
        `limit`).
        """
        return await self._in_thread(
            lambda line: self._fetch(line, url, limit), Code.METADATA_UNAVAILABLE, url
        )

    async def image(
        self,
        url: str,
        length: int,
        hashes: Mapping[str, str],
        destination: Path,
        on_progress: Callable[[int, int], None],
    ) -> Path:
        """Bring the image of exactly `length` bytes and all these `hashes` to `destination`.

        `hashes`: algorithm to hex digest, as signed. What is there already is hashed again
        instead; what `<destination>.part` holds is resumed. `on_progress(bytes there, length)` is
        called on the loop. On return the file and its name have reached the disk. Raises Refused:
        IMAGE_SERVER_UNAVAILABLE, SLOW_RETRIEVAL, IMAGE_TRUNCATED, OVERSIZED_TARGET,
        TARGET_HASH_MISMATCH, DISK_FULL.
        """
        loop = asyncio.get_running_loop()

        def report(there: int) -> None:
            loop.call_soon_threadsafe(on_progress, there, length)

        def work(line: Line) -> Path:
            arrival = _Arrival(self._get, line, url, length=length, hashes=hashes, report=report)
            return arrival.bring(destination, reserve=self._config.disk_reserve)

        return await self._in_thread(work, Code.IMAGE_SERVER_UNAVAILABLE, url)

    async def _in_thread(
        self, work: Callable[[Line], Result], unavailable: Code, url: str
    ) -> Result:
        line = Line()
        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(None, work, line)
        least = self._config.minimum_rate * self._config.slow_after_s
        slow, moved = False, 0
        try:
            while not (await asyncio.wait({thread}, timeout=self._config.slow_after_s))[0]:
                if line.moved - moved < least:
                    slow = line.answered
                    line.cut(f"less than {self._config.minimum_rate} bytes/s")
                moved = line.moved
        except asyncio.CancelledError:
            line.cut("cancelled")
            await asyncio.wait({thread})
            thread.exception()
            raise
        finally:
            line.close()
        try:
            return thread.result()
        except _BROKEN as error:
            why = line.why_cut or str(error.args[0] if error.args else error)[:160]
            code = Code.SLOW_RETRIEVAL if slow else unavailable
            raise Refused(code, f"{url[:160]}: {why}") from None

    def _get(self, line: Line, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        return line.get(
            url,
            headers,
            tls=self._tls,
            now=self._now,
            connect_s=self._config.connect_timeout_s,
        )

    def _fetch(self, line: Line, url: str, limit: int) -> bytes | None:
        response = self._get(line, url, {})
        if response.status in (404, 410):
            return None
        if response.status != 200:
            raise OSError(f"HTTP status {response.status}")
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            line.moved += len(chunk)
            if len(data) > limit:
                raise Refused(Code.METADATA_MALFORMED, f"{url[:160]}: longer than {limit} bytes")
        line.check()
        if int(response.headers.get("Content-Length", len(data))) != len(data):
            raise OSError("ended early")
        return bytes(data)


class _Arrival:
    """One image on its way, seen from its thread."""

    def __init__(
        self,
        get: Callable[[Line, str, dict[str, str]], BaseHTTPResponse],
        line: Line,
        url: str,
        *,
        length: int,
        hashes: Mapping[str, str],
        report: Callable[[int], None],
    ) -> None:
        self._get = get
        self._line = line
        self._url = url
        self._length = length
        self._hashes = hashes
        self._report = report
        self._there = self._reported = 0

    def bring(self, destination: Path, *, reserve: int) -> Path:
        part = Part(destination)
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_there(destination):
                self._complete(part, reserve)
                part.finish(destination)
        except DiskError as error:
            raise Refused(Code.DISK_FULL, f"{str(part.path)!r}: {error}") from None
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise Refused(Code.DISK_FULL, f"{str(destination)!r}: {error.strerror}") from None
        self._report(self._length)
        return destination

    def _is_there(self, destination: Path) -> bool:
        if not destination.exists():
            return False
        digests = Digests(self._hashes)
        size = hash_file(destination, digests, self._note_read)
        if size == self._length and not digests.wrong():
            return True
        destination.unlink()
        return False

    def _complete(self, part: Part, reserve: int) -> None:
        wrong = self._stream(part, reserve)
        if wrong and part.was_resumed:
            # What was resumed may have been torn by a power cut: that is no attack yet.
            part.remove()
            wrong = self._stream(part, reserve)
        if wrong:
            part.remove()
            raise Refused(
                Code.TARGET_HASH_MISMATCH,
                f"{self._url[:160]}: {', '.join(wrong)} of the image is not the signed one",
            )

    def _stream(self, part: Part, reserve: int) -> list[str]:
        """Complete the part to its length; the algorithms whose digest is wrong."""
        digests = Digests(self._hashes)
        there, etag = part.resume(self._length, digests, self._note_read)
        if there == self._length:
            return digests.wrong()
        part.need_room(self._length - there + reserve)
        headers = {"Range": f"bytes={there}-", "If-Range": etag} if there else {}
        response = self._get(self._line, self._url, headers)
        if start_of(response, there, self._length, part) == 0:
            there, digests = 0, Digests(self._hashes)
            part.begin(response.headers.get("ETag", ""))
        self._there = self._reported = there
        try:
            there = part.store(_body(response), there, self._length, digests, self._note_written)
        except TooLong:
            part.remove()
            raise Refused(
                Code.OVERSIZED_TARGET, f"{self._url[:160]}: longer than {self._length} bytes"
            ) from None
        self._line.check()
        if there < self._length:
            raise Refused(
                Code.IMAGE_TRUNCATED, f"{self._url[:160]}: {there} of {self._length} bytes"
            )
        return digests.wrong()

    def _note_read(self, count: int) -> None:
        """Reading what is there is no server's delay: the watcher must see that it moves."""
        self._line.check()
        self._line.moved += count

    def _note_written(self, there: int) -> None:
        self._line.moved += there - self._there
        self._there = there
        if there - self._reported >= max(_CHUNK, self._length // 200):
            self._report(there)
            self._reported = there


def start_of(response: BaseHTTPResponse, there: int, length: int, part: Part) -> int:
    """Where the body of `response` begins: `there` if the server resumes, else 0."""
    if response.status == 200:
        offered = int(response.headers.get("Content-Length", length))
        if offered > length:
            raise Refused(Code.OVERSIZED_TARGET, f"server offers {offered} of {length} bytes")
        if offered < length:
            raise Refused(Code.IMAGE_TRUNCATED, f"server offers {offered} of {length} bytes")
        return 0
    if response.status == 206 and there:
        span = response.headers.get("Content-Range", "")
        if span == f"bytes {there}-{length - 1}/{length}":
            return there
        part.remove()
        raise OSError(f"answered range {span[:40]!r}, asked from {there} of {length}")
    if response.status == 416:
        part.remove()
    raise OSError(f"HTTP status {response.status}")


def _body(response: BaseHTTPResponse) -> Iterator[bytes]:
    """The body in pieces; one that ends before its time just ends, the caller counts."""
    try:
        while chunk := response.read1(_CHUNK):
            yield chunk
    except ProtocolError as error:
        if not isinstance(error.__cause__, IncompleteRead):
            raise
