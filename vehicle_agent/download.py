"""HTTPS to disk: bounded, resumable, hashed while it streams.

The library blocks, so each transfer runs in a thread; the coroutine that waits for it watches the
rate, and shuts the socket when it is cancelled or when the server drips.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, IncompleteRead, ProtocolError
from urllib3.response import BaseHTTPResponse

from vehicle_agent.durable import sync_folder
from vehicle_agent.refusals import Code, Refused

Result = TypeVar("Result")
Now = Callable[[], datetime | None]

_CHUNK = 1 << 16
_BROKEN = (HTTPError, HTTPException, OSError)
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: the system clock has no say; trusted time has, below."""


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
    """Fetches metadata and images from servers that show a certificate of our own CA."""

    def __init__(self, config: DownloadConfig, *, ca: Path, now: Now = lambda: None) -> None:
        """`ca` is `config.ca` resolved; `now` is trusted time, None while there is none.

        Before the first time attestation only chain and name of a certificate are judged, or a
        dead clock would lock TLS and time against each other. Raises Refused(CONFIG_INVALID).
        """
        self._config = config
        self._now = now
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        try:
            self._tls.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise Refused(Code.CONFIG_INVALID, f"download.ca = {str(ca)!r}: {error}") from None

    async def fetch(self, url: str, limit: int) -> bytes | None:
        """The file at `url`, at most `limit` bytes; None if the server says that it has none.

        Raises Refused: METADATA_UNAVAILABLE, METADATA_MALFORMED (longer than `limit`).
        """
        return await self._in_thread(
            lambda line: self._fetch(line, url, limit), Code.METADATA_UNAVAILABLE, url
        )

    async def image(
        self,
        url: str,
        length: int,
        sha256: str,
        destination: Path,
        on_progress: Callable[[int, int], None],
    ) -> Path:
        """Bring the image of exactly `length` bytes and digest `sha256` (hex) to `destination`.

        What is there already is hashed again instead; what `<destination>.part` holds is resumed.
        `on_progress(bytes there, length)` is called on the loop. On return the file and its name
        have reached the disk. Raises Refused: IMAGE_SERVER_UNAVAILABLE, IMAGE_TRUNCATED,
        OVERSIZED_TARGET, TARGET_HASH_MISMATCH, DISK_FULL.
        """
        loop = asyncio.get_running_loop()

        def report(there: int) -> None:
            loop.call_soon_threadsafe(on_progress, there, length)

        return await self._in_thread(
            lambda line: self._image(line, url, (length, sha256), destination, report),
            Code.IMAGE_SERVER_UNAVAILABLE,
            url,
        )

    async def _in_thread(
        self, work: Callable[[_Line], Result], unavailable: Code, url: str
    ) -> Result:
        line = _Line()
        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(None, work, line)
        least = self._config.minimum_rate * self._config.slow_after_s
        moved = 0
        try:
            while not (await asyncio.wait({thread}, timeout=self._config.slow_after_s))[0]:
                if line.moved - moved < least:
                    line.cut(f"slower than {self._config.minimum_rate} bytes/s")
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
            raise Refused(unavailable, f"{url[:160]}: {why}") from None

    def _open(self, line: _Line, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise OSError("not an https address")
        connection = _Connection(
            parts.hostname,
            parts.port,
            timeout=self._config.connect_timeout_s,
            ssl_context=self._tls,
        )
        connection.line, connection.now = line, self._now
        line.connection = connection
        connection.request(
            "GET",
            parts.path or "/",
            headers={"Accept-Encoding": "identity", **headers},
            preload_content=False,
            decode_content=False,
        )
        response = connection.getresponse()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError("sent with a content encoding that was not asked for")
        return response

    def _fetch(self, line: _Line, url: str, limit: int) -> bytes | None:
        response = self._open(line, url, {})
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

    def _image(
        self,
        line: _Line,
        url: str,
        expected: tuple[int, str],
        destination: Path,
        report: Callable[[int], None],
    ) -> Path:
        length, sha256 = expected
        part = _Part(destination)
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(Code.DISK_FULL, f"{str(destination)!r}: {error.strerror}") from None
        if destination.exists():
            digest = hashlib.sha256()
            if (_hash_into(digest, destination, line), digest.hexdigest()) == expected:
                report(length)
                return destination
            destination.unlink()
        try:
            if self._stream(line, url, length, part, report) != sha256:
                # What was resumed may have been torn by a power cut: that is no attack yet.
                resumed = part.was_resumed
                part.remove()
                if not resumed or self._stream(line, url, length, part, report) != sha256:
                    part.remove()
                    raise Refused(
                        Code.TARGET_HASH_MISMATCH, f"{url[:160]}: SHA-256 is not {sha256[:16]}..."
                    )
        except _DiskError as error:
            raise Refused(Code.DISK_FULL, f"{str(part.path)!r}: {error}") from None
        part.finish(destination)
        report(length)
        return destination

    def _stream(
        self, line: _Line, url: str, length: int, part: _Part, report: Callable[[int], None]
    ) -> str:
        """Complete the part file to `length` bytes and return its digest."""
        there, etag, digest = part.resume(length, line)
        if there == length:
            return str(digest.hexdigest())
        free = shutil.disk_usage(part.path.parent).free
        if free < length - there + self._config.disk_reserve:
            raise _DiskError(f"{free} bytes free, {length - there} to fetch")
        headers = {"Range": f"bytes={there}-", "If-Range": etag} if there else {}
        response = self._open(line, url, headers)
        if _start_of(response, there, length, part) == 0:
            there, digest = 0, hashlib.sha256()
            part.begin(response.headers.get("ETag", ""))
        reported = there
        with part.append() as file:
            for chunk in _body(response):
                there += len(chunk)
                line.moved += len(chunk)
                if there > length:
                    part.remove()
                    raise Refused(Code.OVERSIZED_TARGET, f"{url[:160]}: longer than {length} bytes")
                digest.update(chunk)
                _write(file, chunk)
                if there - reported >= max(_CHUNK, length // 200):
                    report(there)
                    reported = there
            _sync(file)
        line.check()
        if there < length:
            raise Refused(Code.IMAGE_TRUNCATED, f"{url[:160]}: {there} of {length} bytes")
        return str(digest.hexdigest())


class _Line:
    """One transfer as its watcher sees it: bytes moved so far, and a way to cut it."""

    def __init__(self) -> None:
        self.moved = 0
        self.why_cut = ""
        self.connection: _Connection | None = None
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def attach(self, connected: socket.socket) -> None:
        """Hold a second handle of the socket: TLS takes the first one over."""
        with self._lock:
            self._socket = connected.dup()
            if self.why_cut:
                self._shut()

    def cut(self, why: str) -> None:
        """End the transfer at once; the thread's next read finds the end."""
        with self._lock:
            self.why_cut = self.why_cut or why
            self._shut()

    def check(self) -> None:
        """Raise OSError if it was cut: the end that was read is not the server's."""
        if self.why_cut:
            raise OSError(self.why_cut)

    def close(self) -> None:
        """Free the sockets, after the thread has ended."""
        if self._socket is not None:
            self._socket.close()
        if self.connection is not None:
            self.connection.close()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class _Connection(HTTPSConnection):
    """Lets the watcher cut the socket, and judges the certificate's dates by trusted time."""

    line: _Line
    now: Now

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        self.line.attach(connected)
        return connected

    def connect(self) -> None:
        super().connect()
        now = self.now()
        if now is None or not isinstance(self.sock, ssl.SSLSocket):
            return
        certificate = self.sock.getpeercert() or {}
        first, last = (
            ssl.cert_time_to_seconds(str(certificate.get(name)))
            for name in ("notBefore", "notAfter")
        )
        if not first <= now.timestamp() <= last:
            raise ssl.SSLError("the server's certificate is not valid at trusted time")


class _DiskError(Exception):
    """There is no room for what is to be written."""


class _Part:
    """`<destination>.part`, and beside it the ETag of the object that it is a part of."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._etag = destination.with_name(f"{destination.name}.etag")
        self.was_resumed = False

    def resume(self, length: int, line: _Line) -> tuple[int, str, Any]:
        """Size, ETag and running SHA-256 of what is there; nothing without an ETag."""
        etag = self._etag.read_text("ascii", "replace") if self._etag.exists() else ""
        digest = hashlib.sha256()
        self.was_resumed = bool(etag) and self.path.exists()
        if not self.was_resumed or not 0 < self.path.stat().st_size <= length:
            self.was_resumed = False
            return 0, "", digest
        size = _hash_into(digest, self.path, line)
        return size, etag, digest

    def begin(self, etag: str) -> None:
        """Start anew. Only a strong ETag lets a later request resume this object."""
        self.remove()
        self.was_resumed = False
        self.path.touch(0o600)
        if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag):
            self._etag.write_text(etag, "ascii")

    def append(self) -> FileIO:
        """The part file, open at its end, without a buffer: what was written is in the file."""
        return FileIO(self.path, "ab")

    def remove(self) -> None:
        """Forget what was fetched so far."""
        self._etag.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the synced part its name; on return that name has reached the disk."""
        self.path.replace(destination)
        sync_folder(destination.parent)
        self._etag.unlink(missing_ok=True)


def _start_of(response: BaseHTTPResponse, there: int, length: int, part: _Part) -> int:
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


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _DiskError(error.strerror) from None


def _sync(file: FileIO) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _DiskError(error.strerror) from None


def _hash_into(digest: Any, path: Path, line: _Line) -> int:
    """Feed the file to `digest`; returns its size. Moves the line, as it is no server's delay."""
    size = 0
    buffer = memoryview(bytearray(1 << 20))
    with FileIO(path) as file:
        while count := file.readinto(buffer):
            line.check()
            digest.update(buffer[:count])
            size += count
            line.moved += count
    return size
