"""`hil-rig wire`: run a CAN wire in software, for any number of python-can programs."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import signal
import sys
from pathlib import Path
from typing import NoReturn

from hil_rig.wire.bits import Rates
from hil_rig.wire.hub import LARGEST_QUEUE, Hub
from hil_rig.wire.listening import HubError
from hil_rig.wire.records import Statistics, WireProperties

_SLOWEST, _FASTEST_NOMINAL, _FASTEST_DATA = 5_000, 1_000_000, 8_000_000


class _BadArguments(Exception):
    """Carries the one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _BadArguments(message)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT. Exit 0; 1 if the socket cannot be served; 2: bad arguments."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        options = _parser().parse_args(argv)
        properties = _properties(options)
    except _BadArguments as error:
        sys.stderr.write(f"hil-rig wire: {error} (see hil-rig wire --help)\n")
        return 2
    try:
        hub = Hub(options.socket, properties)
    except HubError as error:
        sys.stderr.write(f"hil-rig wire: {error}\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: hub.stop())
    sys.stdout.write(f"ready {options.socket}\n")
    sys.stdout.flush()
    # Nothing in the loop makes cycles; a collection would only make frames late.
    gc.disable()
    hub.serve()
    if options.stats:
        sys.stdout.write(json.dumps(_summary(hub.statistics())) + "\n")
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="hil-rig wire", description=__doc__)
    add = parser.add_argument
    add("--socket", type=Path, required=True, metavar="PATH", help="Unix socket to serve")
    add("--bitrate", type=int, default=Rates().nominal, metavar="BIT/S", help="default %(default)s")
    add(
        "--data-bitrate",
        type=int,
        default=Rates().data,
        metavar="BIT/S",
        help="in the data phase of CAN FD, default %(default)s",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--fd", action="store_true", help="a CAN FD wire")
    form.add_argument("--classic", action="store_true", help="no CAN FD frames (the default)")
    add(
        "--queue",
        type=int,
        default=64,
        metavar="FRAMES",
        help="transmit queue of each client, default %(default)s",
    )
    add("--stats", action="store_true", help="print one JSON line of statistics at the end")
    return parser


def _properties(options: argparse.Namespace) -> WireProperties:
    for name, value, low, high in (
        ("--bitrate", options.bitrate, _SLOWEST, _FASTEST_NOMINAL),
        ("--data-bitrate", options.data_bitrate, options.bitrate, _FASTEST_DATA),
        ("--queue", options.queue, 1, LARGEST_QUEUE),
    ):
        if not low <= value <= high:
            raise _BadArguments(f"{name} {value}: allowed are {low} to {high}")
    return WireProperties(Rates(options.bitrate, options.data_bitrate), options.fd, options.queue)


def _summary(statistics: Statistics) -> dict[str, int | float]:
    return {**statistics._asdict(), "load": round(statistics.load, 4)}
