"""What a leg says of its energy."""

from __future__ import annotations

from dataclasses import dataclass

from node.ports import EnergyAccount

__all__ = ["Meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What a leg says of its energy."""

    account: EnergyAccount
    pue_milli: int
