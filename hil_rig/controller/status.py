"""The cyclic frame `ADAS_Status`: described by the DBC, protected by AUTOSAR E2E profile 1."""

from __future__ import annotations

from pathlib import Path

import cantools
from cantools.database.can import Database
from e2e.p01 import e2e_p01_protect

from hil_rig.controller.config import ConfigError
from hil_rig.controller.unit import StatusValues

MESSAGE = "ADAS_Status"
_COUNTERS = 15


class StatusFrame:
    """Encodes one frame after the other; the counter runs 0 to 14."""

    def __init__(self, dbc: Path) -> None:
        """Raises `ConfigError` if the file does not describe the frame and its protection."""
        try:
            database = cantools.database.load_file(dbc)
            if not isinstance(database, Database):
                raise ConfigError(f"{dbc}: is not a CAN database")
            self._message = database.get_message_by_name(MESSAGE)
            attributes = self._message.dbc.attributes if self._message.dbc is not None else {}
            self._data_id = int(attributes["E2EDataId"].value)
        except OSError as error:
            raise ConfigError(f"{dbc}: {error.strerror}") from error
        except (KeyError, ValueError, cantools.Error) as error:
            raise ConfigError(f"{dbc}: no {MESSAGE} with attribute E2EDataId: {error}") from error
        self.arbitration_id = int(self._message.frame_id)
        self.cycle_s = (self._message.cycle_time or 100) / 1000
        self._counter = 0

    def next(self, values: StatusValues) -> bytes:
        """The next frame's data, with counter and CRC."""
        signals: dict[str, int | float | str] = dict.fromkeys(
            (signal.name for signal in self._message.signals), 0
        )
        signals |= {
            "ADAS_HpaState": values.hpa_state,
            "ADAS_ActiveBank": values.active_bank,
            "ADAS_Trial": values.trial,
            "ADAS_BootCount": values.boot_count,
            "ADAS_SelfTest": values.self_test,
            f"{MESSAGE}_CNT": self._counter,
        }
        data = bytearray(self._message.encode(signals))
        e2e_p01_protect(data, self._data_id, increment_counter=False)
        self._counter = (self._counter + 1) % _COUNTERS
        return bytes(data)
