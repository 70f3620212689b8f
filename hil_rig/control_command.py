"""`hil-rig ctl SOCKET do key=value …`: one request to a running part, its answer as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hil_rig.control import ControlError, call


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(argv: list[str]) -> int:
    """Exit 0 with the answer on stdout, 1 if the part refuses or is away."""
    parser = argparse.ArgumentParser(prog="hil-rig ctl", description=__doc__)
    parser.add_argument("socket", type=Path, help="control socket of the part")
    parser.add_argument("do", help="what to do; each part's --help lists its requests")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="values: JSON or text")
    options = parser.parse_args(argv)
    pairs = dict(argument.partition("=")[::2] for argument in options.arguments)
    try:
        answer = call(options.socket, options.do, **{k: _value(v) for k, v in pairs.items()})
    except ControlError as error:
        sys.stderr.write(f"hil-rig ctl: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
    return 0
