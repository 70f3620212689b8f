"""The backend's parts put together, and what can be asked of them while they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hil_rig.backend.attestation import TimeServer
from hil_rig.backend.campaign import RECALLS
from hil_rig.backend.car_manifest import is_signed_by
from hil_rig.backend.configuration import BackendConfig, release_of
from hil_rig.backend.desk import Desk, desired_state
from hil_rig.backend.encryption import EncryptedImage, encrypt_image
from hil_rig.backend.faults import Fault, Kind
from hil_rig.backend.image_server import ImageServer
from hil_rig.backend.ledger import REPORTS, Ledger
from hil_rig.backend.maker import Maker, director_url, image_url, provision_car
from hil_rig.backend.release import add_image, assign
from hil_rig.backend.repository import Repository
from hil_rig.backend.tamper import TAMPERS
from hil_rig.control import ControlError


class Backend:
    """Everything at the maker's; `open` before use, `close` at the end, in a running loop."""

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._recall = RECALLS[config.recall]
        self._release = release_of(config)
        self._clock_offset = timedelta()
        self._overrides: dict[str, Mapping[str, Any]] = {}
        self._halted = False
        self._stage = frozenset(config.vins)
        self._is_encrypted = self._for_another = False
        self._encrypted: dict[str, EncryptedImage] = {}
        self.maker = Maker(Path(config.folder), self._now())
        for vin in config.vins:
            provision_car(self.maker.car_folder(vin), vin, self.maker)
        self._publish()
        tls = self.maker.folder / "tls"
        self.server = ImageServer(
            self.maker.resolve,
            certificate=tls / "server.pem",
            key=tls / "server.key",
            port=config.https_port,
        )
        self.desk = Desk(
            config.mqtt,
            Ledger(dict.fromkeys(config.vins, self._recall)),
            folder=self.maker.folder,
            time_server=TimeServer(self.maker.time_key, lambda: self._now() + self._clock_offset),
            hmis={vin: self.maker.hmi_key(vin) for vin in config.vins},
            clock=self._now,
        )

    async def open(self) -> None:
        """Connect to the broker; TimeoutError if there is none."""
        await self.desk.open()

    async def close(self) -> None:
        """Disconnect and stop serving."""
        await self.desk.close()
        self.server.close()

    async def control(self, do: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out one control request; ControlError for one that is unknown."""
        handlers = {
            "info": self._info,
            "notice": self._notice,
            "state": self._state,
            "reports": self._reports,
            "fault": self._fault,
            "tamper": self._tamper,
            "assign": self._assign,
            "publish": self._publish_anew,
            "halt": self._halt,
            "stage": self._set_stage,
            "rotate": self._rotate,
            "time": self._time,
        }
        if do not in handlers:
            raise ControlError(f"no request {do!r}; one of {', '.join(handlers)}")
        return handlers[do](request)

    def _info(self, _: Mapping[str, Any]) -> dict[str, Any]:
        port = self.server.port
        return {
            "https_port": port,
            "image_url": image_url(port),
            "recall": self._recall.number,
            "version": self._release.version,
            "cars": {
                vin: {
                    "director_url": director_url(port, vin),
                    "folder": str(self.maker.car_folder(vin)),
                }
                for vin in self._config.vins
            },
        }

    def _notice(self, request: Mapping[str, Any]) -> dict[str, Any]:
        vin = self._vin(request)
        if "raw" in request:
            payload = str(request["raw"]).encode()
            self.desk.send(vin, "desiredstate", payload.ljust(int(request.get("size", 0)), b" "))
            return {"sent": len(payload)}
        payload_of_notice = desired_state(
            str(request.get("version", self._release.version)),
            str(request.get("director_url", director_url(self.server.port, vin))),
            str(request.get("image_url", image_url(self.server.port))),
            str(request.get("component", "adas-controller")),
        )
        return {"activity_id": self.desk.notify(vin, payload_of_notice, request.get("activity_id"))}

    def _state(self, _: Mapping[str, Any]) -> dict[str, Any]:
        ledger = self.desk.ledger
        return {
            "cars": {
                vin: {
                    "status": car.status,
                    "completed": car.completed,
                    "failed": car.failed,
                    "consented": car.consented,
                    "feedback": [
                        {"seq": report.get("seq"), **report["payload"]}
                        for report in car.reports["desiredstatefeedback"]
                    ],
                    "declined": car.declined,
                    "manifests": [
                        report["payload"]
                        | {"verified": is_signed_by(self.maker.vehicle_key(vin), report["payload"])}
                        for report in car.reports["manifest"]
                    ],
                    "incidents": [report["payload"] for report in car.reports["incident"]],
                }
                for vin, car in ledger.cars.items()
            },
            "recalls": ledger.counts(),
            "duplicates": ledger.duplicates,
            "requests": len(self.server.requests),
            "served": sorted(set(self.server.requests)),
        }

    def _reports(self, request: Mapping[str, Any]) -> dict[str, Any]:
        reports = self.desk.ledger.cars[self._vin(request)].reports
        names = [str(request["report"])] if "report" in request else REPORTS
        return {"reports": {name: reports[name] for name in names}}

    def _fault(self, request: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(request["kind"])
        if kind == "none":
            self.server.clear()
        elif kind == "gone":
            self.server.close()
        else:
            fields = {
                name: request[name] for name in ("url_path", "amount", "times") if name in request
            }
            self.server.inject(Fault(kind=Kind(kind), **fields))
        return {"faults": [str(fault.kind) for fault in self.server.faults]}

    def _tamper(self, request: Mapping[str, Any]) -> dict[str, Any]:
        how = str(request["how"])
        if how not in TAMPERS:
            raise ControlError(f"no way {how!r}; one of {', '.join(TAMPERS)}")
        TAMPERS[how](self._repository(request), str(request["role"]))
        return {}

    def _assign(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._overrides = {
            name: dict(request[name]) for name in ("campaign", "ecus", "image") if name in request
        }
        self._is_encrypted = bool(request.get("encrypted", False))
        self._for_another = "encrypted_for" in request
        self._publish()
        return {}

    def _publish_anew(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._publish()
        return {}

    def _halt(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._halted = bool(request.get("halted", True))
        self._publish()
        return {"halted": self._halted}

    def _set_stage(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Direct the release to these cars alone; the others' targets become empty."""
        self._stage = frozenset(request["vins"])
        self._publish()
        return {"stage": sorted(self._stage)}

    def _rotate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        name = str(request["repository"])
        if name not in {"director", "image"}:
            raise ControlError(f"no repository {name!r}; director or image")
        version = self.maker.rotate(name, str(request["role"]), self._now())
        self._publish()
        return {"root_version": version}

    def _time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._clock_offset = timedelta(seconds=float(request.get("offset_s", 0)))
        self.desk.answers_time = bool(request.get("answers", True))
        return {}

    def _publish(self) -> None:
        """Put the release, as the overrides bend it, into all repositories and publish them."""
        release = replace(self._release, more=self._overrides.get("image", {}))
        add_image(self.maker.image, release)
        ecus = self._overrides.get("ecus", {self._config.ecu.serial: self._config.ecu.hardware_id})
        for vin in self._config.vins:
            director = self.maker.director(vin)
            director.targets.targets.clear()
            if vin not in self._stage:
                continue
            assign(
                director,
                release,
                self._recall,
                vin=vin,
                ecus=ecus,
                correlation_id=f"{self._recall.number}-{release.version}",
                halted=self._halted,
                campaign=self._overrides.get("campaign"),
                encrypted=self._encrypted_for(vin) if self._is_encrypted else None,
            )
        self.maker.publish(self._now())

    def _encrypted_for(self, vin: str) -> EncryptedImage:
        """The image as this car alone can read it; the same each time it is published."""
        if self._for_another:
            return encrypt_image(self._release.image, X25519PrivateKey.generate().public_key())
        if vin not in self._encrypted:
            key = self.maker.image_key(vin)
            self._encrypted[vin] = encrypt_image(self._release.image, key)
        return self._encrypted[vin]

    def _vin(self, request: Mapping[str, Any]) -> str:
        return str(request.get("vin", self._config.vins[0]))

    def _repository(self, request: Mapping[str, Any]) -> Repository:
        if request["repository"] == "image":
            return self.maker.image
        if request["repository"] == "director":
            return self.maker.directors[self._vin(request)]
        raise ControlError(f"no repository {request['repository']!r}; director or image")

    @staticmethod
    def _now() -> datetime:
        return datetime.now(UTC)
