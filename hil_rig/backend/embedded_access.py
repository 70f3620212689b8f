"""Who may use the embedded broker: everyone on this machine, and with a lasting session."""

from __future__ import annotations

from amqtt.broker import BrokerContext
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session


class Everyone(BaseAuthPlugin):
    """Lets every client in. amqtt's own anonymous plugin would drop what a client misses."""

    def __init__(self, context: BrokerContext) -> None:
        super().__init__(context)

    async def authenticate(self, *, session: Session) -> bool | None:
        """Yes, without marking the session as anonymous."""
        return True
