"""The agent, unchanged but mortal: it ends as by SIGKILL exactly before or after a decision.

`python mortal_agent.py POINT run --config FILE`. POINT is `after STATE`: the decision for that
state is on disk and nothing else of it has happened; or `before STATE`: all that led to it has
happened and the decision is not on disk; or `told STATE`: the broker has acknowledged the report
of that state and the outbox still holds it. So the instants between two statements, which no
outside observer could catch without luck, are caught every time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from vehicle_agent.cli import main
from vehicle_agent.journal import Journal
from vehicle_agent.notices.mqtt import Mailbox
from vehicle_agent.update import Update


def mortal(point: str) -> None:
    """Make this process end at `point`."""
    when, state = point.split()
    record, publish = Journal.record, Mailbox.publish

    async def recording(journal: Journal, update: Update | None, **more: Any) -> None:
        new = update is not None and update.state == state
        if new and when == "before":
            _end()
        await record(journal, update, **more)
        if new and when == "after":
            _end()

    async def publishing(mailbox: Mailbox, topic: str, payload: bytes) -> None:
        await publish(mailbox, topic, payload)
        if when == "told" and json.loads(payload)["payload"].get("state") == state:
            _end()

    Journal.record, Mailbox.publish = recording, publishing  # type: ignore[method-assign]


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


if __name__ == "__main__":
    mortal(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
