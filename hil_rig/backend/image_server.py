"""HTTPS on 127.0.0.1: metadata and images with ranges and ETags, and faults on demand.

TLS 1.3 only. What is served is asked from a `Resolve` at each request, so that a repository that
publishes anew is served anew.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from hil_rig.backend.faults import Fault, Kind


class Content(Protocol):
    """Something too large to hold in memory: bytes by slices, and its entity tag."""

    etag: str

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


Resolve = Callable[[str], "bytes | Content | None"]

_PIECE = 64 * 1024


@dataclass
class Answer:
    """One line of the server's log; `sent` counts the bytes of the body so far."""

    path: str
    range: str
    status: int = 0
    sent: int = 0


_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class ImageServer:
    """An HTTPS server in threads of its own; all methods may be called from any thread."""

    def __init__(
        self,
        resolve: Resolve,
        *,
        certificate: Path,
        key: Path,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        """Bind and serve at once; port 0 takes a free one. OSError if the port is taken."""
        self._resolve = resolve
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_cert_chain(certificate, key)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._address = (host, port)
        self._server: _Server | None = None
        self.requests: list[str] = []
        self.log: list[Answer] = []
        self.open()

    @property
    def port(self) -> int:
        """The TCP port; it stays the same over `close` and `open`."""
        return self._address[1]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that hold now."""
        with self._lock:
            return tuple(self._faults)

    def open(self) -> None:
        """Listen (again); nothing happens if it does already."""
        if self._server is None:
            self._server = _Server(self._address, self, self._context)
            self._address = (self._address[0], int(self._server.server_address[1]))
            threading.Thread(
                target=self._server.serve_forever, args=(0.05,), name="image server", daemon=True
            ).start()

    def close(self) -> None:
        """Refuse connections and end running answers: the server is gone."""
        if self._server is not None:
            self._server.ending.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def inject(self, fault: Fault) -> None:
        """Let requests meet `fault` from now on; of two that match, the older one holds."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """End all faults and listen again."""
        with self._lock:
            self._faults.clear()
        self.open()

    def take_fault(self, path: str) -> Fault | None:
        """The fault that a request for `path` meets; counts it as used."""
        with self._lock:
            self.requests.append(path)
            for index, fault in enumerate(self._faults):
                if fault.concerns(path):
                    if fault.times is not None:
                        if fault.times <= 1:
                            del self._faults[index]
                        else:
                            self._faults[index] = replace(fault, times=fault.times - 1)
                    return fault
        return None

    def content(self, path: str) -> bytes | Content | None:
        """What stands under the URL path, or None."""
        return self._resolve(path)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], owner: ImageServer, context: ssl.SSLContext
    ) -> None:
        self.owner = owner
        self.ending = threading.Event()
        self._context = context
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(30)
        with self._context.wrap_socket(request, server_side=True) as connection:
            _Handler(connection, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up in the middle are everyday life for this server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Requests are counted by the server, not logged."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self._logged = Answer(path, self.headers.get("Range", ""))
        self.server.owner.log.append(self._logged)
        fault = self.server.owner.take_fault(path)
        kind = fault.kind if fault else None
        amount = fault.amount if fault else 0
        content = self.server.owner.content(path)
        if kind is Kind.DROPPED:
            self.close_connection = True
            return
        if kind is Kind.STATUS or content is None:
            self._say(amount if kind is Kind.STATUS else HTTPStatus.NOT_FOUND)
            return
        etag = _etag(content)
        if kind is Kind.LONGER and isinstance(content, bytes):
            content += bytes(amount)
        elif kind is Kind.CORRUPT and isinstance(content, bytes):
            content = _flip(content, amount)
        span = None if kind is Kind.WITHOUT_RANGES else self._asked_range(len(content), etag)
        if span == (0, 0):
            self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{len(content)}")
            return
        first, end = span or (0, len(content))
        if span and kind is Kind.OTHER_RANGE:
            first = max(first - amount, 0)
        self._logged.status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
        self.send_response(self._logged.status)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(content)}")
        if kind is Kind.ENDLESS:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - first))
        self.send_header("Accept-Ranges", "none" if kind is Kind.WITHOUT_RANGES else "bytes")
        self.send_header("ETag", etag)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if with_body:
            self._send(content, (first, end), kind, amount)

    def _asked_range(self, length: int, etag: str) -> tuple[int, int] | None:
        """First byte and end (exclusive) of the range asked for; (0, 0) cannot be satisfied."""
        match = _RANGE.match(self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", etag) != etag:
            return None
        first, last = match.groups()
        if first:
            start, end = int(first), min(int(last) + 1 if last else length, length)
        elif last:
            start, end = max(length - int(last), 0), length
        else:
            return None
        return (start, end) if start < end else (0, 0)

    def _send(
        self, content: bytes | Content, span: tuple[int, int], kind: Kind | None, amount: int
    ) -> None:
        if kind in {Kind.TRUNCATED, Kind.STALL}:
            span = (span[0], min(span[0] + amount, span[1]))
            self.close_connection = True
        for piece in self._pieces(content, span, kind, amount):
            self.wfile.write(piece)
            self._logged.sent += len(piece)
        if kind is Kind.STALL:
            self.server.ending.wait()

    def _pieces(
        self, content: bytes | Content, span: tuple[int, int], kind: Kind | None, amount: int
    ) -> Iterator[bytes]:
        """The body in writes, paced by the fault; ends when the server is closed."""
        if kind is not Kind.DRIP:
            for at in range(*span, _PIECE):
                yield content[at : min(at + _PIECE, span[1])]
            while kind is Kind.ENDLESS and not self.server.ending.is_set():
                yield bytes(_PIECE)
            return
        step = max(amount // 10, 1)
        for at in range(*span, step):
            yield content[at : min(at + step, span[1])]
            if self.server.ending.wait(step / max(amount, 1)):
                self.close_connection = True
                return

    def _say(self, status: int, content_range: str | None = None) -> None:
        self._logged.status = status
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(content: bytes | Content) -> str:
    if not isinstance(content, bytes):
        return content.etag
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _flip(content: bytes, offset: int) -> bytes:
    changed = bytearray(content)
    changed[min(offset, len(content) - 1)] ^= 0x01
    return bytes(changed)
