"""The flashing room's front door: one conversation with one controller.

Nothing is sent at import or `open`. `abort` may be called at any instant; from then on nothing
goes on the bus before the next explicit call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vehicle_agent.bus import BusConfig
from vehicle_agent.flashing import sequence
from vehicle_agent.flashing.images import Image
from vehicle_agent.flashing.profile import ControllerProfile
from vehicle_agent.flashing.security import SecurityProvider, load_provider
from vehicle_agent.flashing.sequence import Health, Identification
from vehicle_agent.flashing.steps import Pause, Progress, Steps
from vehicle_agent.flashing.transport import IsoTpTransport, Transport
from vehicle_agent.flashing.uds import UdsClient
from vehicle_agent.refusals import Code, Refused
from vehicle_agent.release import MemoryCheck, Readback

__all__ = ["Health", "Identification", "Programmer", "Progress"]

_DEFAULT_SESSION = 1

T = TypeVar("T")


class Programmer:
    """Carries the sequences of `sequence.py` out on one transport, one at a time.

    Every coroutine raises `Refused`: with the code of the NRC table, CONTROLLER_SILENT,
    PROTOCOL_ERROR, or BUS_UNAVAILABLE on bus failure and abort.
    """

    @classmethod
    def open(
        cls, bus: BusConfig, profile: ControllerProfile, security_key_file: Path | None
    ) -> Programmer:
        """Open the bus in the running loop. Raises Refused(BUS_UNAVAILABLE, CONFIG_INVALID)."""
        provider = None
        if profile.security.access != "none":
            provider = load_provider(profile.security.provider, security_key_file)
        transport = IsoTpTransport(bus, profile.addressing, profile.isotp)
        return cls(transport, profile, provider)

    def __init__(
        self, transport: Transport, profile: ControllerProfile, provider: SecurityProvider | None
    ) -> None:
        """Use `open`; tests bring a transport of their own."""
        self._profile = profile
        self._provider = provider
        self._epoch = 0
        self._client = UdsClient(transport, profile.session)

    async def identify(self) -> Identification:
        """Read identification and bank status; compares nothing, changes no session."""
        return await self._run(sequence.identify(self._profile))

    async def program(
        self,
        image: Image,
        *,
        fingerprint: bytes,
        memory_check: MemoryCheck | None,
        on_progress: Callable[[Progress], None],
        start_gate: Callable[[], None],
    ) -> None:
        """Program `image` into the controller, up to the dependency check.

        `start_gate` is called right before each erase, block and check and raises Refused to stop
        there. The controller stays in its programming session.
        """
        await self._run(
            sequence.program(
                image,
                self._profile,
                fingerprint=fingerprint,
                memory_check=memory_check,
                key=self._key,
            ),
            on_progress=on_progress,
            start_gate=start_gate,
        )

    async def activate(self) -> None:
        """Restart the controller and wait until it answers; the extended session is open then."""
        if self._client.session == _DEFAULT_SESSION:
            await self._run(sequence.extend())
        await self._run(sequence.activate(self._profile))

    async def read_back(
        self, facts: Sequence[Readback], memory_check: MemoryCheck | None, image: Image
    ) -> dict[int, str]:
        """Return identifier → text. Raises READBACK_MISMATCH at the first that differs."""
        return await self._run(
            sequence.read_back(facts, memory_check, image, self._profile, self._key)
        )

    async def revert(self) -> None:
        """Choose the previous bank; it runs after the next `activate`."""
        await self._run(sequence.revert(self._profile, self._key))

    async def confirm(self) -> None:
        """End the trial boot for good."""
        await self._run(sequence.confirm(self._profile, self._key))

    async def health(self) -> Health:
        """Read trouble codes, bank status and the self-test's verdict."""
        return await self._run(sequence.health(self._profile, self._key))

    def abort(self) -> None:
        """Send nothing more, from this instant; the coroutine under way raises Refused."""
        self._epoch += 1
        self._client.abort()

    async def leave(self) -> None:
        """Restore communication and DTC setting, enter the default session; best effort.

        Raises only BUS_UNAVAILABLE.
        """
        await self._run(sequence.leave(self._profile))

    async def close(self) -> None:
        """Abort and give the bus back; sends nothing. May be called again."""
        self._epoch += 1
        await self._client.close()

    def _key(self, seed: bytes) -> bytes:
        if self._provider is None:
            raise Refused(Code.SECURITY_DENIED, "the profile names no security provider")
        try:
            return self._provider.key(seed, self._profile.security.level)
        except Refused:
            raise
        except Exception:  # a plug-in's message could carry a secret
            raise Refused(
                Code.SECURITY_DENIED,
                f"security provider {self._profile.security.provider} failed",
            ) from None

    async def _run(
        self,
        steps: Steps[T],
        *,
        on_progress: Callable[[Progress], None] = lambda _: None,
        start_gate: Callable[[], None] = lambda: None,
    ) -> T:
        """Carry `steps` out; silence is thrown into them, bus failure and abort end them."""
        epoch = self._epoch
        told: Progress | None = None
        try:
            item = next(steps)
            while True:
                silence: Refused | None = None
                if isinstance(item, Pause):
                    await asyncio.sleep(item.seconds)
                    response = None
                else:
                    if item.at != told:
                        on_progress(item.at)
                        told = item.at
                    if item.gated:
                        start_gate()
                    try:
                        response = await self._client.request(
                            item.request, functional=item.functional, once=item.once
                        )
                    except Refused as refused:
                        if refused.refusal.code is not Code.CONTROLLER_SILENT:
                            raise
                        silence = refused
                if epoch != self._epoch:
                    raise Refused(Code.BUS_UNAVAILABLE, "the conversation was aborted")
                item = steps.throw(silence) if silence is not None else steps.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            steps.close()
