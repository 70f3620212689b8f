"""Drives the simulated controller's pure core through time, for the unit tests of it."""

import msgspec

from hil_rig.controller.config import (
    Bus,
    Config,
    Flash,
    Identity,
    SecurityConfig,
    Timing,
    Transfer,
)
from hil_rig.controller.faults import Fault
from hil_rig.controller.memory import Memory
from hil_rig.controller.security import key_for
from hil_rig.controller.unit import Unit
from hil_rig.firmware import make_image

WINDOW = 0x0800_0000
BANK = 64 << 10
KEY = bytes(range(16))
OLD = make_image("1.0.0", "RX-OLD", "hw-1", 1024, 1)
NEW = make_image("2.0.0", "RX-NEW", "hw-1", 3000, 2)
FINGERPRINT = bytes.fromhex("2ef15a261122") + b"TESTER01"


class Bench:
    """A unit with old software in bank A, its clock, and the requests a tester needs."""

    def __init__(self, folder, *, locked=False, erase_s=0.0, program_s=0.0, block_length=1026):
        self.memory = Memory(folder / "flash", BANK)
        if self.memory.is_new:
            self.memory.install(OLD, "RX-OLD")
        self.now = 0.0
        self.config = Config(
            bus=Bus(interface="virtual", channel="none"),
            identity=Identity(vin="VIN", ecu_serial="SERIAL", hardware_id="hw-1"),
            memory=Flash(file=folder / "flash", bank_size=BANK),
            timing=Timing(reset_s=1.0, erase_s=erase_s, program_s=program_s),
            transfer=Transfer(block_length=block_length),
            security=SecurityConfig(key_file=folder / "key") if locked else None,
        )
        self.unit = Unit(
            self.config, self.memory, key=KEY if locked else None, random=lambda size: b"S" * size
        )
        self.unit.power_on(0.0)
        self.wait(1.0)

    def wait(self, seconds):
        """Let time pass, stopping at each deadline; the responses that came."""
        out, end = [], self.now + seconds
        while (deadline := self.unit.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            out += self.unit.due(self.now)
        self.now = end
        return out + self.unit.due(end)

    def ask(self, request, *, functional=False):
        """Responses that come at once, in hex."""
        data = bytes.fromhex(request) if isinstance(request, str) else request
        return [r.hex() for r in self.unit.request(self.now, data, functional=functional)]

    def one(self, request):
        """The only response, in hex."""
        (answer,) = self.ask(request)
        return answer

    def fault(self, **fields):
        self.unit.add_fault(msgspec.convert(fields, Fault))

    def programming(self):
        """Enter the programming session, unlock where locked, leave the fingerprint."""
        self.one("1003")
        self.one("1002")
        if self.config.security is not None:
            seed = bytes.fromhex(self.one("2701"))[2:]
            assert self.one(b"\x27\x02" + key_for(KEY, seed)) == "6702"
        assert self.one(FINGERPRINT) == "6ef15a"

    def download(self, image=NEW, start=WINDOW):
        """Erase, program and exit; the session must allow it."""
        where = start.to_bytes(4) + len(image).to_bytes(4)
        assert self.one(b"\x31\x01\xff\x00\x44" + where) == "7101ff0000"
        assert self.one(b"\x34\x00\x44" + where).startswith("74")
        size = self.config.transfer.block_length - 2
        for index, at in enumerate(range(0, len(image), size), start=1):
            counter = index & 0xFF
            assert self.one(bytes((0x36, counter)) + image[at : at + size]) == f"76{counter:02x}"
        assert self.one("37") == "77"

    def install(self, image=NEW):
        """The whole way to a trial boot."""
        self.programming()
        self.download(image)
        assert self.one("3101ff01") == "7101ff0100"
        self.reset()

    def reset(self):
        assert self.one("1101") == "5101"
        self.wait(10.0)

    def did(self, did):
        """What an identifier answers, as text."""
        return bytes.fromhex(self.one(f"22{did}"))[3:].decode()

    def banks(self):
        """F1F0: active, trial, boot count, revertible."""
        return tuple(bytes.fromhex(self.one("22f1f0"))[3:])
