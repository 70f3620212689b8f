"""The maker's backend in one process: repositories over HTTPS, campaign desk, time server.

Configuration (TOML): see `hil_rig/backend/configuration.py`. Before it says `ready` it has made or
loaded all keys below `folder`, published the release for every VIN, and written what each car needs
into `<folder>/cars/<VIN>/`: director-root.json, image-root.json, ca.pem, time.pub, hmi.pub,
hmi.key, vehicle.key, vehicle.pub.

Control requests (`hil-rig ctl SOCKET DO key=value …`):
  info                         URLs, port, folders of the cars
  notice [vin activity_id version component director_url image_url]
                               send a notice; `raw` TEXT [size=N]: any bytes instead, filled up to N
  state                        per car: status, history, manifests; counts per recall
  reports [vin] [report]       all messages of the cars, by topic
  fault kind=… [url_path amount times] | kind=gone | kind=none
  tamper repository=director|image role=… how=… [vin]
  assign [campaign={…} ecus={…} image={…}]   publish with other contents, well signed
  publish                      publish anew, undoing what tamper did
  halt [halted=true|false]     stop the campaign, signed
  rotate repository=… role=…   replace a role's keys
  time [offset_s] [answers]    let the time server be wrong, or silent
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from hil_rig import control
from hil_rig.backend.configuration import BackendConfig
from hil_rig.backend.process import read_config, run, say_ready
from hil_rig.backend.service import Backend


def main(argv: list[str]) -> int:
    """Run the backend until SIGTERM; exit 1 if it cannot start."""
    parser = argparse.ArgumentParser(
        prog="hil-rig backend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    options = parser.parse_args(argv)

    async def part(ended: asyncio.Event) -> None:
        config = read_config(options.config, BackendConfig)
        backend = Backend(config)
        try:
            await backend.open()
            server = await control.serve(Path(config.control), backend.control)
            say_ready()
            await ended.wait()
            server.close()
        finally:
            await backend.close()

    return run(part, "backend")
