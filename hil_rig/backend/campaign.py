"""The recalls of the mission as data: who is affected, and what the driver is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

Text = Mapping[str, str]

_ZH: Text = {
    "purpose": (
        "召回编号{recall}，已向国家市场监督管理总局备案。本次更新属于安全召回：在极少数极端交通场景下，"
        "高速领航辅助（L2）可能对前方情况识别、预警或处置不足，存在碰撞风险。"
    ),
    "changes": (
        "更新驾驶辅助控制器软件，改进高速领航辅助的目标识别、风险预警和车辆处置。其他功能不变。"
    ),
    "minutes": "安装约需{minutes}分钟，极少数情况下会更久。安装期间车辆不能行驶。",
    "unavailable": (
        "安装期间不能换挡和行驶，高速领航辅助、自适应巡航、车道保持和自动紧急制动均不可用。"
        "车门可随时从车内外打开。"
    ),
    "instructions": (
        "更新完成前，请勿使用高速领航辅助，并始终双手握住方向盘、注视路况。"
        "安装前请将车辆停在安全的停车位，挂P挡，拉起驻车制动，关闭全部车门，确保电量充足且未在充电，"
        "并请所有人员下车。请勿在车流中或紧急停车带内安装。您可以拒绝或推迟；召回在更新完成前一直有效。"
        "如更新失败，车辆会恢复原软件或停用高速领航辅助，请拨打{hotline}。"
    ),
}
_EN: Text = {
    "purpose": (
        "Recall {recall}, filed with China's State Administration for Market Regulation. This is a "
        "safety recall: in rare, extreme traffic situations the Highway Pilot Assist (level 2) may "
        "identify, warn or react too late, which can lead to a collision."
    ),
    "changes": (
        "New software for the driver assistance controller improves how Highway Pilot Assist "
        "identifies hazards, warns and reacts. Nothing else changes."
    ),
    "minutes": (
        "Installing takes about {minutes} minutes, in rare cases longer. The car cannot be driven "
        "during that time."
    ),
    "unavailable": (
        "During installation the car cannot be put into gear or driven. Highway Pilot Assist, "
        "adaptive cruise control, lane keeping and automatic emergency braking are off. The doors "
        "open from inside and outside at all times."
    ),
    "instructions": (
        "Until the update is complete, do not use Highway Pilot Assist; keep both hands on the "
        "wheel and your eyes on the road. Before installing, park in a safe parking space, select "
        "P, apply the parking brake, close all doors, see that the battery is charged and the car "
        "is not charging, and let everybody get out. Never install in traffic or on a hard "
        "shoulder. You may refuse or postpone; the recall stays open until the update is complete. "
        "Should it fail, the car returns to its previous software or switches Highway Pilot Assist "
        "off: please call {hotline}."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Recall:
    """One recall filing: the cars that it names and the words for their drivers.

    `first` and `last` are the production dates, both included; `filing` is the reference under
    which the authority keeps the recall.
    """

    number: str
    filing: str
    cars: int
    models: tuple[str, ...]
    first: date
    last: date
    authority: str = "SAMR"
    hotline: str = "400-018-2026"
    pages: tuple[str, ...] = ("www.samrdprc.org.cn", "recall.xma-motors.example/hpa")

    def texts(self, minutes: int) -> dict[str, dict[str, str]]:
        """What the driver is shown (UN R156 7.2.2.2), by locale; `minutes` to install."""
        words = {"recall": self.number, "hotline": self.hotline, "minutes": str(minutes)}
        return {
            locale: {name: text.format_map(words) for name, text in texts.items()}
            for locale, texts in (("zh-CN", _ZH), ("en", _EN))
        }

    def custom(self, vin: str, *, minutes: int, halted: bool = False) -> dict[str, Any]:
        """The `campaign` object of a Director target for one car (contracts §7)."""
        return {
            "vin": vin,
            "recall": self.number,
            "authority": self.authority,
            "filing": self.filing,
            "models": list(self.models),
            "productionWindow": {"from": self.first.isoformat(), "to": self.last.isoformat()},
            "texts": self.texts(minutes),
            "hotline": self.hotline,
            "pages": list(self.pages),
            "halted": halted,
        }


S2025M0149I = Recall(
    number="S2025M0149I",
    filing="SAMR-S2025M0149I",
    cars=98_462,
    models=("XMA7000MBEVR2", "XMA7000MBEVR5"),
    first=date(2024, 2, 6),
    last=date(2025, 8, 30),
)
S2025M0150I = Recall(
    number="S2025M0150I",
    filing="SAMR-S2025M0150I",
    cars=18_425,
    models=("BJ7000MBEVR2",),
    first=date(2024, 2, 6),
    last=date(2025, 8, 30),
)
RECALLS = {recall.number: recall for recall in (S2025M0149I, S2025M0150I)}
