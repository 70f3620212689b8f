"""What trust has proved about one release, as the other rooms read it. A leaf: values only."""

from __future__ import annotations

from datetime import date

import msgspec


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """Driver information in one language: UN R156 7.2.2.2 (a) to (e), requirement D1."""

    purpose: str
    changes: str
    minutes: str
    unavailable: str
    instructions: str


class ProductionWindow(msgspec.Struct, frozen=True, kw_only=True):
    """First and last production date (both included) of the affected cars."""

    first: date = msgspec.field(name="from")
    last: date = msgspec.field(name="to")


class Campaign(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the Director says of the recall (requirements B4, D1, E2)."""

    vin: str
    recall: str
    authority: str
    filing: str
    models: tuple[str, ...]
    production_window: ProductionWindow
    texts: dict[str, Texts]
    hotline: str
    pages: tuple[str, ...]
    halted: bool = False


class Readback(msgspec.Struct, frozen=True, kw_only=True):
    """A data identifier (UDS 0x22) and the text it must answer once the release runs."""

    did: int
    equals: str


class MemoryCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The check-memory routine and the status record it must answer, in hex."""

    routine: int
    expected: str


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy in Wh that installing and, on failure, recovering take (requirement C2)."""

    install_wh: float
    recovery_wh: float


class Rxswin(msgspec.Struct, frozen=True, kw_only=True):
    """RX software identification number before and after the update (requirement B3)."""

    before: str
    after: str


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """How long, in minutes, the new software is watched before the update counts as completed."""

    minutes: float


class ReleaseFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The Image role's custom fields: what safety rests on, signed offline."""

    version: str
    release_counter: int
    hardware_ids: tuple[str, ...]
    base_versions: tuple[str, ...]
    profile_sha256: str
    energy: Energy
    minutes: int
    readback: tuple[Readback, ...]
    memory_check: MemoryCheck
    rxswin: Rxswin
    needs_technician: bool
    soak: Soak


class ImageEncryption(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the Director has encrypted the image for this car; `trust/encryption.py` reads it.

    `recipient` names the car's image key; `sealed_key` and `nonce` are hex. `length` and `hashes`
    are of the encrypted file.
    """

    algorithm: str
    recipient: str
    sealed_key: str
    nonce: str
    length: int
    hashes: dict[str, str]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One verified target for one controller of this car.

    `length` and hashes are of the image as it is installed; `encryption` is None for an image that
    is fetched as it is.

    `manifest_sha256` is the digest of the canonical JSON of both repositories' target entries: it
    stays the same when roles are only signed anew, and changes with anything decided on.
    `texts_sha256` is the digest of the canonical JSON of `campaign.texts`. `hashes` are all signed
    digests of the image (hex, by algorithm), `sha256` the one that every image has.
    """

    component: str
    ecu_serial: str
    hardware_id: str
    filepath: str
    length: int
    sha256: str
    image_url: str
    facts: ReleaseFacts
    campaign: Campaign
    correlation_id: str
    manifest_sha256: str
    texts_sha256: str
    signed_by: tuple[str, ...]
    encryption: ImageEncryption | None = None
    hashes: dict[str, str] = {}
