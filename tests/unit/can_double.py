"""A python-can bus in memory: `frames` sent, and messages that come back when a test says so."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque

import can


class BusDouble:
    """Stands for `can.Bus`; `fileno` is readable while a message waits."""

    def __init__(self, **options) -> None:
        self.options = options
        self.sent: list[can.Message] = []
        self.took = asyncio.Event()  # set by every send that succeeds
        self.full = 0  # so many sends more meet a full transmit buffer
        self.broken = False
        self.flushes = 0
        self.shut = False
        self._messages: deque[can.Message] = deque()
        self._near, self._far = socket.socketpair()

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, message: can.Message) -> None:
        if self.broken:
            raise can.CanOperationError("gone", errno.ENETDOWN)
        if self.full:
            self.full -= 1
            raise can.CanOperationError("full", errno.ENOBUFS)
        self.sent.append(message)
        self.took.set()

    def recv(self, timeout: float) -> can.Message | None:
        assert timeout == 0
        if self.broken:
            raise can.CanOperationError("gone", errno.ENETDOWN)
        if not self._messages:
            return None
        self._near.recv(1)
        return self._messages.popleft()

    def flush_tx_buffer(self) -> None:
        self.flushes += 1

    def shutdown(self) -> None:
        self.shut = True
        self._near.close()
        self._far.close()

    def deliver(self, message: can.Message) -> None:
        self._messages.append(message)
        self._far.send(b"\0")

    def give_back(self, index: int) -> None:
        """The bus confirms the frame that was sent as number `index`."""
        sent = self.sent[index]
        self.deliver(
            can.Message(
                arbitration_id=sent.arbitration_id,
                data=sent.data,
                is_extended_id=sent.is_extended_id,
                is_rx=False,
            )
        )

    def say(self, identifier: int, data: bytes, *, extended: bool = False, rx: bool = True) -> None:
        self.deliver(
            can.Message(arbitration_id=identifier, data=data, is_extended_id=extended, is_rx=rx)
        )
