"""`hil-rig controller --config FILE`: the simulated ADAS controller as a process.

Requests on its control socket (`hil-rig ctl SOCKET …`):

    state                                       versions, banks, writes, session, boot count, trial
    fault kind=nrc service=54 nrc=114 nth=3     kinds and fields: hil_rig/controller/faults.py
    clear                                       take all faults away
    power to=off|on|cycle                       flash stays, RAM and session go

The configuration is described in hil_rig/controller/config.py.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hil_rig import control
from hil_rig.controller.config import Config, ConfigError, load, load_key
from hil_rig.controller.faults import Fault
from hil_rig.controller.link import CanLink
from hil_rig.controller.memory import Memory, MemoryDamaged
from hil_rig.controller.status import StatusFrame
from hil_rig.controller.transport import Transport
from hil_rig.controller.unit import Unit
from hil_rig.firmware import FirmwareError, find_descriptor, make_image, read_image


class Controller:
    """The unit on its bus: carries frames, keeps its deadlines, answers the control socket."""

    def __init__(self, config: Config) -> None:
        """Open memory and bus; needs a running loop. Raises `ConfigError`, `MemoryDamaged`."""
        self._loop = asyncio.get_running_loop()
        self._config = config
        self.lost = asyncio.Event()
        self._status = StatusFrame(config.status.dbc) if config.status is not None else None
        key = load_key(config.security.key_file) if config.security is not None else None
        self._memory = open_memory(config)
        self._unit = Unit(config, self._memory, key=key, random=os.urandom)
        self._transport = Transport(
            config.bus,
            config.transfer,
            lambda can_id, data: self._link.send(can_id, data, fd=config.bus.fd),
            self._on_request,
        )
        try:
            self._link = CanLink(config.bus, self._transport.receive, self.lost.set)
        except ConfigError:
            self._memory.close()
            raise
        self._wake: asyncio.TimerHandle | None = None
        self._status_timer: asyncio.TimerHandle | None = None
        self._unit.power_on(self._loop.time())
        self._arm()
        if self._status is not None:
            self._send_status(self._loop.time())

    def close(self) -> None:
        """Leave bus and memory."""
        for timer in (self._wake, self._status_timer):
            if timer is not None:
                timer.cancel()
        self._transport.close()
        self._link.close()
        self._memory.close()

    async def handle(self, do: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one control request."""
        arguments = {key: value for key, value in request.items() if key != "do"}
        if do == "fault":
            try:
                fault = msgspec.convert(arguments, Fault)
            except msgspec.ValidationError as error:
                raise control.ControlError(f"fault: {error}") from error
            self._unit.add_fault(fault)
        elif do == "clear":
            self._unit.clear_faults()
        elif do == "power":
            self._power(str(arguments["to"]))
        elif do != "state":
            raise control.ControlError(f"no request {do!r}; one of state, fault, clear, power")
        return self._unit.facts()

    def _power(self, to: str) -> None:
        if to not in {"off", "on", "cycle"}:
            raise control.ControlError(f"power to {to!r}; one of off, on, cycle")
        if to != "on":
            self._unit.power_off()
            self._transport.reset()
        if to != "off":
            self._unit.power_on(self._loop.time())
        self._arm()

    def _on_request(self, data: bytes, functional: bool) -> None:
        self._answer(self._unit.request(self._loop.time(), data, functional=functional))

    def _on_deadline(self) -> None:
        self._wake = None
        self._answer(self._unit.due(self._loop.time()))

    def _answer(self, responses: list[bytes]) -> None:
        for response in responses:
            self._transport.respond(response)
        self._arm()

    def _arm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
        deadline = self._unit.deadline
        self._wake = None if deadline is None else self._loop.call_at(deadline, self._on_deadline)

    def _send_status(self, planned: float) -> None:
        assert self._status is not None
        values = self._unit.status()
        if values is not None and not self._link.backed_up:
            self._link.send(self._status.arbitration_id, self._status.next(values), fd=False)
        planned = max(planned + self._status.cycle_s, self._loop.time())
        self._status_timer = self._loop.call_at(planned, self._send_status, planned)


def open_memory(config: Config) -> Memory:
    """The memory file; a new one gets the factory image. Raises `ConfigError`, `MemoryDamaged`."""
    flash = config.memory
    try:
        flash.file.parent.mkdir(parents=True, exist_ok=True)
        memory = Memory(flash.file, flash.bank_size)
        if not memory.is_new:
            return memory
        if flash.image is None:
            hardware = config.identity.hardware_id
            data = make_image(flash.version, flash.rxswin, hardware, flash.image_size, 0)
        else:
            data = read_image(flash.image).data
        descriptor = find_descriptor(data)
        memory.install(data, flash.rxswin if descriptor is None else descriptor.rxswin)
    except FirmwareError as error:
        raise ConfigError(f"memory: {error}") from error
    except OSError as error:
        raise ConfigError(f"memory {flash.file}: {error.strerror}") from error
    return memory


async def run(config: Config) -> bool:
    """Serve until SIGTERM or SIGINT; prints `ready` once requests are heard.

    False if it ended because the bus was lost.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    controller = Controller(config)
    server = None
    try:
        if config.control_socket is not None:
            server = await control.serve(config.control_socket, controller.handle)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        ends = [asyncio.ensure_future(event.wait()) for event in (stop, controller.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
    finally:
        controller.close()
        if server is not None and config.control_socket is not None:
            server.close()
            config.control_socket.unlink(missing_ok=True)
    return not controller.lost.is_set()


def main(argv: list[str]) -> int:
    """Exit 0 after a signal, 1 if the bus was lost, 2 for a configuration that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="hil-rig controller",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--verbose", action="store_true", help="log what ISO-TP finds odd")
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="controller: %(message)s",
    )
    if not options.verbose:
        logging.getLogger("isotp").setLevel(logging.ERROR)
    try:
        served = asyncio.run(run(load(options.config)))
    except (ConfigError, MemoryDamaged, OSError) as error:
        sys.stderr.write(f"hil-rig controller: {error}\n")
        return 2
    return 0 if served else 1
