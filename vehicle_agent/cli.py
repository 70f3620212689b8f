"""`vehicle-agent`: the embedded engineer's and the service manager's front door."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from vehicle_agent import __version__
from vehicle_agent.refusals import Refused

_DEFAULT_CONFIG = Path("/etc/vehicle-agent/agent.toml")


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit 0: done; 1: refused (the code stands on stderr); 2: wrong usage."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["repository"]:
        from vehicle_agent.trust.client import main as repository

        return repository(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except Refused as refused:
        return _say(refused)
    except ExceptionGroup as group:
        refusals, defects = group.split(Refused)
        if defects is not None or refusals is None:
            raise
        return _say(_first(refusals))
    except KeyboardInterrupt:
        return 130


def _say(refused: BaseException) -> int:
    sys.stderr.write(f"vehicle-agent: {refused}\n")
    return 1


def _first(group: BaseException) -> BaseException:
    """The first of what ended the parts that run side by side."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vehicle-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what)
        made.add_argument(
            "--config", type=Path, default=_DEFAULT_CONFIG, help=f"default: {_DEFAULT_CONFIG}"
        )
        return made

    run = command("run", "run the daemon until SIGTERM")
    run.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    run.set_defaults(run=_run)
    doctor = command("doctor", "check configuration and every outside part, say what to do")
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    doctor.set_defaults(run=_doctor)
    status = command("status", "show the current update of the running agent")
    status.add_argument("--json", action="store_true", help="one JSON object")
    status.set_defaults(run=_ask, command="status")
    park = command("park", "show the park conditions and what each still needs")
    park.add_argument("--json", action="store_true", help="one JSON object")
    park.set_defaults(run=_ask, command="park")
    provision = command("provision", "give the car its roots of trust and a key of its own")
    for name in ("director", "image"):
        provision.add_argument(
            f"--{name}-root",
            type=Path,
            nargs="+",
            default=[],
            metavar="FILE",
            help="root metadata, or a chain of them",
        )
    for name in ("time-key", "hmi-key", "ca"):
        provision.add_argument(f"--{name}", type=Path, metavar="PEM")
    provision.set_defaults(run=_provision)
    commands.add_parser("repository", help="a plain TUF client, for a desk", add_help=False)
    return parser


def _run(options: argparse.Namespace) -> int:
    from vehicle_agent import daemon
    from vehicle_agent.config import load_config

    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    asyncio.run(daemon.run(load_config(options.config)))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from vehicle_agent.doctor import main as examine

    return examine(options.config, as_json=options.json)


def _provision(options: argparse.Namespace) -> int:
    from vehicle_agent.provision import Given, main

    roots = {"director": options.director_root, "image": options.image_root}
    given = Given(roots=roots, time_key=options.time_key, hmi_key=options.hmi_key, ca=options.ca)
    return main(options.config, given)


def _ask(options: argparse.Namespace) -> int:
    from vehicle_agent.config import load_config
    from vehicle_agent.console.client import ask

    prefix = "@json " if options.json else ""
    print(ask(load_config(options.config).console_socket, prefix + options.command))
    return 0
