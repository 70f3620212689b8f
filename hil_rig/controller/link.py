"""The controller's bus: a python-can bus in the event loop.

Frames to send go to a queue of our own that waits where the transmit buffer is full, so that a
full buffer costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import can

from hil_rig.controller.config import Bus, ConfigError

_log = logging.getLogger(__name__)

_DRAIN = 64
_RETRY_S = 0.001
_GIVE_UP_S = 2.0
_LOOK_AGAIN_S = 0.5
_LOST_AFTER = 10


class CanLink:
    """Frames in and out of one bus; frames out keep their order and wait for room."""

    def __init__(
        self, config: Bus, on_frame: Callable[[can.Message], None], on_lost: Callable[[], None]
    ) -> None:
        """Join the bus; needs a running loop. Raises `ConfigError` if it cannot be joined.

        `on_lost` is called when the bus has been failing for five seconds.
        """
        self._loop = asyncio.get_running_loop()
        self._fd = config.fd
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._failures = 0
        self._queue: deque[can.Message] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._stuck_since: float | None = None
        self._closed = threading.Event()
        options: dict[str, Any] = config.options
        try:
            self._bus = can.Bus(
                interface=config.interface,
                channel=config.channel,
                fd=config.fd,
                can_filters=[
                    {"can_id": can_id, "can_mask": 0x7FF, "extended": False}
                    for can_id in (config.request_id, config.functional_id)
                ],
                **options,
            )
        except (can.CanError, OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"bus {config.interface} {config.channel} cannot be joined: {error}"
            ) from error
        self._reader: threading.Thread | None = None
        try:
            self._fileno = self._bus.fileno()
        except NotImplementedError:
            self._fileno = -1
        if self._fileno >= 0:
            self._listen()
        else:
            self._reader = threading.Thread(target=self._read_blocking, daemon=True)
            self._reader.start()

    @property
    def backed_up(self) -> bool:
        """Whether frames wait for room in the transmit buffer."""
        return bool(self._queue)

    def send(self, can_id: int, data: bytes, *, fd: bool) -> None:
        """Send after everything that waits already."""
        self._queue.append(
            can.Message(
                arbitration_id=can_id,
                is_extended_id=False,
                data=data,
                is_fd=fd,
                bitrate_switch=fd,
            )
        )
        if self._retry is None:
            self._flush()

    def close(self) -> None:
        """Leave the bus; what waits is dropped."""
        self._closed.set()
        if self._retry is not None:
            self._retry.cancel()
        if self._fileno >= 0:
            self._loop.remove_reader(self._fileno)
        if self._reader is not None:
            self._reader.join()
        self._bus.shutdown()

    def _flush(self) -> None:
        self._retry = None
        while self._queue:
            try:
                self._bus.send(self._queue[0])
            except can.CanOperationError as error:
                self._wait(error)
                return
            self._queue.popleft()
            self._stuck_since = None

    def _wait(self, error: can.CanOperationError) -> None:
        now = self._loop.time()
        if self._stuck_since is None:
            self._stuck_since = now
        if now - self._stuck_since >= _GIVE_UP_S:
            _log.warning("bus takes no frames, %d dropped: %s", len(self._queue), error)
            self._queue.clear()
            self._stuck_since = None
            return
        self._retry = self._loop.call_later(_RETRY_S, self._flush)

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                message = self._bus.recv(0)
            except can.CanOperationError as error:
                self._look_again(error)
                return
            self._failures = 0
            if message is None:
                return
            self._take(message)

    def _look_again(self, error: can.CanOperationError) -> None:
        """An interface may be down for a while: listen again a little later."""
        self._loop.remove_reader(self._fileno)
        self._failures += 1
        if self._failures == 1:
            _log.warning("bus fails: %s", error)
        if self._failures >= _LOST_AFTER:
            self._on_lost()
        else:
            self._loop.call_later(_LOOK_AGAIN_S, self._listen)

    def _listen(self) -> None:
        if not self._closed.is_set():
            self._loop.add_reader(self._fileno, self._drain)

    def _read_blocking(self) -> None:
        while not self._closed.is_set():
            message = self._bus.recv(0.1)
            if message is not None:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._take, message)

    def _take(self, message: can.Message) -> None:
        if not message.is_error_frame and not message.is_remote_frame:
            self._on_frame(message)
