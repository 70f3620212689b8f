"""One TLS connection as its watcher sees it: bytes moved so far, and a way to cut it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from urllib3.connection import HTTPSConnection
from urllib3.response import BaseHTTPResponse

from vehicle_agent.refusals import Code, Refused

Now = Callable[[], datetime | None]

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: the system clock has no say; trusted time has, below."""


def tls_context(ca: Path) -> ssl.SSLContext:
    """TLS 1.3 to servers that `ca` vouches for, dates aside; raises Refused(CONFIG_INVALID)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise Refused(Code.CONFIG_INVALID, f"download.ca = {str(ca)!r}: {error}") from None
    return context


class Line:
    """One transfer; its thread works on it, its watcher may `cut` it at any instant."""

    def __init__(self) -> None:
        self.moved = 0
        self.answered = False
        self.why_cut = ""
        self._connection: _Connection | None = None
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def get(
        self, url: str, headers: dict[str, str], *, tls: ssl.SSLContext, now: Now, connect_s: float
    ) -> BaseHTTPResponse:
        """Ask for `url` and read the head of the answer; OSError or urllib3's errors if none.

        Once connected there is no timeout here: the watcher judges by the bytes that move.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise OSError("not an https address")
        connection = _Connection(parts.hostname, parts.port, timeout=connect_s, ssl_context=tls)
        connection.line, connection.now = self, now
        self._connection = connection
        connection.connect()
        connection.timeout = None
        connection.request(
            "GET",
            parts.path or "/",
            headers={"Accept-Encoding": "identity", **headers},
            preload_content=False,
            decode_content=False,
        )
        response = connection.getresponse()
        self.answered = True
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise OSError("sent with a content encoding that was not asked for")
        return response

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
        if self._connection is not None:
            self._connection.close()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class _Connection(HTTPSConnection):
    """Lets the watcher cut the socket, and judges the certificate's dates by trusted time."""

    line: Line
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
