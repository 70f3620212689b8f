"""ISO-TP of the controller by the can-isotp library, stepped by us and away from the bus.

The library's own thread ends where the bus takes no frame; its logic alone does not care.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import can
import isotp

from hil_rig.controller.config import Bus, Transfer

_log = logging.getLogger(__name__)

_STEP_S = 0.01
PADDING = 0xCC


class Transport:
    """ISO-TP of the controller: requests, physical and functional, in; responses out."""

    def __init__(
        self,
        bus: Bus,
        transfer: Transfer,
        send: Callable[[int, bytes], None],
        on_request: Callable[[bytes, bool], None],
    ) -> None:
        self._functional_id = bus.functional_id
        self._send = send
        self._on_request = on_request
        self._arrived: deque[isotp.CanMessage] = deque()
        self._step: asyncio.TimerHandle | None = None
        params: dict[str, Any] = {
            "stmin": transfer.st_min,
            "blocksize": transfer.block_size,
            "tx_padding": PADDING,
            "tx_data_length": 64 if bus.fd else 8,
            "tx_data_min_length": 8,
            "can_fd": bus.fd,
            "bitrate_switch": bus.fd,
            "max_frame_size": max(4095, transfer.block_length),
            "wftmax": 16,
            "wait_func": lambda _seconds: None,
        }
        self._physical = self._layer(bus.request_id, bus.response_id, params)
        # In listen mode a layer sends nothing: a functional request is a single frame, and a
        # first frame must not be answered.
        self._functional = self._layer(
            bus.functional_id, bus.response_id, params | {"listen_mode": True}
        )

    def receive(self, message: can.Message) -> None:
        """Take a frame from the bus."""
        functional = message.arbitration_id == self._functional_id
        first_byte = message.data[0] if message.data else 0
        if functional and first_byte >> 4:
            return
        self._arrived.append(
            isotp.CanMessage(
                arbitration_id=message.arbitration_id,
                dlc=message.dlc,
                data=bytes(message.data),
                extended_id=message.is_extended_id,
                is_fd=message.is_fd,
                bitrate_switch=message.bitrate_switch,
            )
        )
        self._process(self._functional if functional else self._physical, functional=functional)

    def respond(self, response: bytes) -> None:
        """Send a response, after those that are still being sent."""
        self._physical.send(response)
        self._process(self._physical, functional=False)

    def reset(self) -> None:
        """Forget everything under way, as a reset of the controller does."""
        self._arrived.clear()
        self._physical.reset()
        self._functional.reset()

    def close(self) -> None:
        """Stop the timer."""
        if self._step is not None:
            self._step.cancel()

    def _layer(self, rx_id: int, tx_id: int, params: dict[str, Any]) -> isotp.TransportLayerLogic:
        return isotp.TransportLayerLogic(
            rxfn=self._next_frame,
            txfn=lambda message: self._send(message.arbitration_id, bytes(message.data)),
            address=isotp.Address(isotp.AddressingMode.Normal_11bits, rxid=rx_id, txid=tx_id),
            error_handler=lambda error: _log.info("ISO-TP: %s", error),
            params=params,
        )

    def _next_frame(self, _timeout: float) -> isotp.CanMessage | None:
        return self._arrived.popleft() if self._arrived else None

    def _process(self, layer: isotp.TransportLayerLogic, *, functional: bool) -> None:
        layer.process()
        while (request := layer.recv()) is not None:
            self._on_request(bytes(request), functional)
        if self._step is None and (self._physical.transmitting() or self._physical.is_rx_active()):
            delay = self._physical.next_cf_delay()
            self._step = asyncio.get_running_loop().call_later(
                _STEP_S if delay is None else delay, self._timer
            )

    def _timer(self) -> None:
        self._step = None
        self._process(self._physical, functional=False)
