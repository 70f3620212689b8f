"""Every reason to say no: a stable code, its words, what would lift it.

A leaf: all rooms import it and it imports none. Codes of the trust room are the names of the
Uptane test vectors; the others follow their manner of writing. A code once published stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """Stable refusal codes, as they stand in feedback, journal and command output."""

    # notices
    NOTICE_NOT_JSON = "NoticeNotJson"
    NOTICE_SHAPE = "NoticeShape"
    NOTICE_TOO_LARGE = "NoticeTooLarge"
    UNKNOWN_COMPONENT = "UnknownComponent"
    UPDATE_IN_PROGRESS = "UpdateInProgress"
    # trust
    UNMET_THRESHOLD = "UnmetThreshold"
    EXPIRED_METADATA = "ExpiredMetadata"
    NON_UNIQUE_SIGNATURES = "NonUniqueSignatures"
    BAD_KEY_ID = "BadKeyId"
    ILLEGAL_THRESHOLD = "IllegalThreshold"
    ROOT_ROTATION_ERROR = "RootRotationError"
    VERSION_MISMATCH = "VersionMismatch"
    TARGET_MISMATCH = "TargetMismatch"
    TARGET_HASH_MISMATCH = "TargetHashMismatch"
    OVERSIZED_TARGET = "OversizedTarget"
    DECRYPTION_FAILED = "DecryptionFailed"
    BAD_HARDWARE_ID = "BadHardwareId"
    BAD_ECU_ID = "BadEcuId"
    DIRECTOR_DELEGATION = "DirectorDelegation"
    DIRECTOR_REPEATED_ECU_ID = "DirectorRepeatedEcuId"
    DELEGATION_MISSING = "DelegationMissing"
    NO_UPDATE = "NoUpdate"
    METADATA_MALFORMED = "MetadataMalformed"
    METADATA_UNAVAILABLE = "MetadataUnavailable"
    URL_NOT_ALLOWED = "UrlNotAllowed"
    NO_TRUSTED_TIME = "NoTrustedTime"
    TIME_ATTESTATION_INVALID = "TimeAttestationInvalid"
    SIGNER_UNAVAILABLE = "SignerUnavailable"
    RELEASE_COUNTER_TOO_LOW = "ReleaseCounterTooLow"
    DIRECTOR_LOOSENS = "DirectorLoosens"
    # campaign
    VIN_MISMATCH = "VinMismatch"
    MODEL_NOT_AFFECTED = "ModelNotAffected"
    BUILD_DATE_NOT_AFFECTED = "BuildDateNotAffected"
    BASE_VERSION_MISMATCH = "BaseVersionMismatch"
    ALREADY_INSTALLED = "AlreadyInstalled"
    CAMPAIGN_HALTED = "CampaignHalted"
    FILING_MISSING = "FilingMissing"
    TEXTS_MISSING = "TextsMissing"
    NEEDS_TECHNICIAN = "NeedsTechnician"
    PROFILE_MISMATCH = "ProfileMismatch"
    # download
    IMAGE_SERVER_UNAVAILABLE = "ImageServerUnavailable"
    SLOW_RETRIEVAL = "SlowRetrieval"
    IMAGE_TRUNCATED = "ImageTruncated"
    DISK_FULL = "DiskFull"
    # consent
    CONSENT_DENIED = "ConsentDenied"
    CONSENT_INVALID = "ConsentInvalid"
    # park gate and drive inhibit
    NOT_PARKED = "NotParked"
    PARK_LOST = "ParkLost"
    GATE_INCOMPLETE = "GateIncomplete"
    INHIBIT_NOT_ACKNOWLEDGED = "InhibitNotAcknowledged"
    INHIBIT_LOST = "InhibitLost"
    # flashing
    BUS_UNAVAILABLE = "BusUnavailable"
    CONTROLLER_SILENT = "ControllerSilent"
    CONTROLLER_REFUSED = "ControllerRefused"
    CONTROLLER_IDENTITY = "ControllerIdentity"
    CONTROLLER_CONDITIONS = "ControllerConditions"
    CONTROLLER_VOLTAGE = "ControllerVoltage"
    SECURITY_DENIED = "SecurityDenied"
    PROTOCOL_ERROR = "ProtocolError"
    IMAGE_UNREADABLE = "ImageUnreadable"
    IMAGE_OUTSIDE_MEMORY = "ImageOutsideMemory"
    MEMORY_CHECK_FAILED = "MemoryCheckFailed"
    DEPENDENCY_CHECK_FAILED = "DependencyCheckFailed"
    READBACK_MISMATCH = "ReadbackMismatch"
    PROBATION_FAILED = "ProbationFailed"
    # the agent itself
    TRUST_ANCHOR_EXISTS = "TrustAnchorExists"
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    CONFIG_INVALID = "ConfigInvalid"
    JOURNAL_DAMAGED = "JournalDamaged"
    AGENT_UNREACHABLE = "AgentUnreachable"
    INTERNAL_ERROR = "InternalError"


class Retry(StrEnum):
    """What may follow a refusal without a new notice."""

    NEVER = "never"
    LATER = "later"
    PARKED = "parked"


class Rule(NamedTuple):
    """One row of the catalogue.

    `lifted_by`: what would lift the refusal, in words for a technician or engineer.
    `retry`: NEVER ends the update; LATER tries the same step again after a back-off; PARKED goes
    back to the park gate and starts the step anew.
    `attack`: whether it is evidence of an attack (requirement A5).
    """

    lifted_by: str
    retry: Retry = Retry.NEVER
    attack: bool = False


_ATTACK_METADATA = "metadata signed by the maker's current keys"

RULES: dict[Code, Rule] = {
    Code.NOTICE_NOT_JSON: Rule("a notice that is one JSON object in UTF-8"),
    Code.NOTICE_SHAPE: Rule("a notice with the fields of the Unified Update Agent API"),
    Code.NOTICE_TOO_LARGE: Rule("a notice within mqtt.max_packet bytes"),
    Code.UNKNOWN_COMPONENT: Rule("a notice for a component named in the configuration"),
    Code.UPDATE_IN_PROGRESS: Rule("the end of the running update; send the notice again then"),
    Code.UNMET_THRESHOLD: Rule(_ATTACK_METADATA, attack=True),
    Code.EXPIRED_METADATA: Rule("metadata that has not expired by trusted time", Retry.LATER),
    Code.NON_UNIQUE_SIGNATURES: Rule("metadata with one signature a key", attack=True),
    Code.BAD_KEY_ID: Rule("key ids that are the digests of their keys", attack=True),
    Code.ILLEGAL_THRESHOLD: Rule("roles with a threshold of one or more", attack=True),
    Code.ROOT_ROTATION_ERROR: Rule(
        "a root signed by the thresholds of the old and the new root", attack=True
    ),
    Code.VERSION_MISMATCH: Rule("metadata of the version its parent names", attack=True),
    Code.TARGET_MISMATCH: Rule(
        "a target described alike by Director and Image repository", attack=True
    ),
    Code.TARGET_HASH_MISMATCH: Rule("an image with the signed hashes", attack=True),
    Code.OVERSIZED_TARGET: Rule("an image of the signed length", attack=True),
    Code.DECRYPTION_FAILED: Rule("an image encrypted for this car's image key", attack=True),
    Code.BAD_HARDWARE_ID: Rule("a target for this controller's hardware", attack=True),
    Code.BAD_ECU_ID: Rule("a target for a controller of this car", attack=True),
    Code.DIRECTOR_DELEGATION: Rule("Director targets without delegations", attack=True),
    Code.DIRECTOR_REPEATED_ECU_ID: Rule("Director targets naming a controller once", attack=True),
    Code.DELEGATION_MISSING: Rule("a delegation that covers the target", attack=True),
    Code.NO_UPDATE: Rule("the campaign's stage reaching this car; a notice will come then"),
    Code.METADATA_MALFORMED: Rule("metadata in TUF 1.0 JSON"),
    Code.METADATA_UNAVAILABLE: Rule("a repository that answers", Retry.LATER),
    Code.URL_NOT_ALLOWED: Rule("a host on the configuration's allow-list", attack=True),
    Code.NO_TRUSTED_TIME: Rule("a time attestation signed by the time server", Retry.LATER),
    Code.TIME_ATTESTATION_INVALID: Rule(
        "an attestation of our nonce by the time server's key", Retry.LATER, attack=True
    ),
    Code.SIGNER_UNAVAILABLE: Rule("the token with the car's own key", Retry.LATER),
    Code.RELEASE_COUNTER_TOO_LOW: Rule("a release that is not older than the car's", attack=True),
    Code.DIRECTOR_LOOSENS: Rule("a Director that only tightens what Image signed", attack=True),
    Code.VIN_MISMATCH: Rule("a notice for this car's VIN"),
    Code.MODEL_NOT_AFFECTED: Rule("a campaign that names this car's model code"),
    Code.BUILD_DATE_NOT_AFFECTED: Rule("a campaign whose production window has this car's date"),
    Code.BASE_VERSION_MISMATCH: Rule("a release that may follow the installed version"),
    Code.ALREADY_INSTALLED: Rule("nothing: the car has this software"),
    Code.CAMPAIGN_HALTED: Rule("the maker lifting the halt"),
    Code.FILING_MISSING: Rule("a campaign with the reference of its recall filing"),
    Code.TEXTS_MISSING: Rule("all driver information in every configured language"),
    Code.NEEDS_TECHNICIAN: Rule("a technician at the console"),
    Code.PROFILE_MISMATCH: Rule("the controller profile that the release was signed for"),
    Code.IMAGE_SERVER_UNAVAILABLE: Rule("an image server that answers", Retry.LATER),
    Code.SLOW_RETRIEVAL: Rule(
        "a server that sends faster than download.minimum_rate", Retry.LATER, attack=True
    ),
    Code.IMAGE_TRUNCATED: Rule("an image of the signed length", Retry.LATER),
    Code.DISK_FULL: Rule("free space in the state directory", Retry.LATER),
    Code.CONSENT_DENIED: Rule("a new campaign notice; the driver said no"),
    Code.CONSENT_INVALID: Rule("an answer signed by this car's HMI for this update"),
    Code.NOT_PARKED: Rule("all park conditions true for their hold times", Retry.PARKED),
    Code.PARK_LOST: Rule("a parked car", Retry.PARKED),
    Code.GATE_INCOMPLETE: Rule("a configuration with every required park condition"),
    Code.INHIBIT_NOT_ACKNOWLEDGED: Rule("a drive unit that acknowledges the inhibit", Retry.PARKED),
    Code.INHIBIT_LOST: Rule("a drive unit that keeps acknowledging", Retry.PARKED),
    Code.BUS_UNAVAILABLE: Rule("a CAN interface that is up", Retry.LATER),
    Code.CONTROLLER_SILENT: Rule("a controller that answers diagnostics", Retry.PARKED),
    Code.CONTROLLER_REFUSED: Rule("a controller that accepts the request"),
    Code.CONTROLLER_IDENTITY: Rule("the controller that the configuration names"),
    Code.CONTROLLER_CONDITIONS: Rule("the controller's own preconditions being met", Retry.PARKED),
    Code.CONTROLLER_VOLTAGE: Rule("a supply voltage within the controller's window", Retry.PARKED),
    Code.SECURITY_DENIED: Rule("a security provider with the right key"),
    Code.PROTOCOL_ERROR: Rule("a controller that answers as ISO 14229 says", Retry.PARKED),
    Code.IMAGE_UNREADABLE: Rule("an image in HEX, S-record, ELF or binary form"),
    Code.IMAGE_OUTSIDE_MEMORY: Rule("an image within the profile's memory map"),
    Code.MEMORY_CHECK_FAILED: Rule("memory whose check gives the signed result", Retry.PARKED),
    Code.DEPENDENCY_CHECK_FAILED: Rule("blocks that the controller finds consistent"),
    Code.READBACK_MISMATCH: Rule("identification that equals the signed read-back"),
    Code.PROBATION_FAILED: Rule("a corrected release"),
    Code.TRUST_ANCHOR_EXISTS: Rule(
        "a chain of roots that begins at the one in the car; other keys are exchanged in a workshop"
    ),
    Code.ATTEMPTS_EXHAUSTED: Rule("a new notice, after the cause is mended"),
    Code.CONFIG_INVALID: Rule("a corrected configuration file"),
    Code.JOURNAL_DAMAGED: Rule("nothing to do: the damaged file is put aside", Retry.LATER),
    Code.AGENT_UNREACHABLE: Rule("a running vehicle-agent; see `systemctl status vehicle-agent`"),
    Code.INTERNAL_ERROR: Rule("a bug report with the log", Retry.PARKED),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal: its code and what was found where, in a single line.

    `detail` says what, where and what is allowed, without secrets and without line breaks.
    """

    code: Code
    detail: str

    @property
    def rule(self) -> Rule:
        """The catalogue's row for this code."""
        return RULES[self.code]

    def __str__(self) -> str:
        return f"{self.code}: {self.detail} (needed: {self.rule.lifted_by})"


class Refused(Exception):
    """Raised where a room says no; carries the refusal."""

    def __init__(self, code: Code, detail: str) -> None:
        self.refusal = Refusal(code, " ".join(detail.split()))
        super().__init__(str(self.refusal))
