"""`hil-rig`: one command for every part of the rig; each part parses its own arguments."""

from __future__ import annotations

import importlib
import sys

_PARTS = {
    "demo": ("hil_rig.demo", "replay recall S2025M0149I for one car, live"),
    "wire": ("hil_rig.wire.command", "run a CAN wire in software"),
    "car": ("hil_rig.car", "run the moving car: residual bus and drive unit"),
    "controller": ("hil_rig.controller.command", "run the simulated ADAS controller"),
    "backend": ("hil_rig.backend.command", "run repositories, image server and campaign desk"),
    "hmi": ("hil_rig.backend.hmi", "run the driver's display that asks for consent"),
    "firmware": ("hil_rig.firmware", "make and show controller images"),
    "container": ("hil_rig.container_command", "make and show targets of several blocks"),
    "bundle": ("hil_rig.bundle_command", "make and show updates for a car without a network"),
    "ctl": ("hil_rig.control_command", "tell a running part something over its control socket"),
}


def main() -> int:
    """Run the part named by the first argument; its exit code is ours (2: no such part)."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in _PARTS:
        part = importlib.import_module(_PARTS[arguments[0]][0])
        return int(part.main(arguments[1:]))
    asked_for_help = not arguments or arguments[0] in {"-h", "--help"}
    stream = sys.stdout if asked_for_help else sys.stderr
    if not asked_for_help:
        print(f"hil-rig: no part {arguments[0]!r}; one of {', '.join(_PARTS)}", file=stream)
        return 2
    print("usage: hil-rig PART [arguments]   (hil-rig PART --help tells more)\n", file=stream)
    for name, (_, what) in _PARTS.items():
        print(f"  {name:<12}{what}", file=stream)
    return 0
