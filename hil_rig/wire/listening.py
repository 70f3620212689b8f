"""Opening the hub's socket: a stale one is replaced, a live one and anything else is left alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


class HubError(Exception):
    """The hub cannot serve; the message is one line."""


def listen(path: Path) -> socket.socket:
    """Return a listening, non-blocking socket at `path`; raises HubError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _clear_stale(path)
        listener.bind(str(path))
        listener.listen(64)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise HubError(f"{path}: {reason}; choose another --socket") from error
    except HubError:
        listener.close()
        raise
    return listener


def _clear_stale(path: Path) -> None:
    """Remove the socket of a hub that is no more; raises HubError for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HubError(f"{path}: is there and no socket; choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        found = probe.connect_ex(str(path))
    if found != errno.ECONNREFUSED:
        raise HubError(f"{path}: something serves it already; stop that or choose another --socket")
    path.unlink(missing_ok=True)
