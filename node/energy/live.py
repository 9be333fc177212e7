"""What a running node says of its energy, in a file that `joule energy` reads, written every few seconds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.durable import replace_file
from node.energy.account import Figures
from node.json_values import plain
from protocol.errors import LocalError
from protocol.identity.ids import Address, checksum_address
from protocol.market.offer import Provenance
from protocol.units import ceil_div

__all__ = ["EnergyReport", "Power", "energy_file", "read_report", "report_of", "write_report"]

_MOST_BYTES = 64 * 1024
_DAY_S = 86_400
_UJ_MILLI_PER_KWH = 3_600_000_000 * 1000 * 1000
"""Microjoules times thousandths of PUE in a kilowatt-hour: micro-units per kWh become micro-units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What energy costs there."""

    micro_per_kwh: int
    pue_milli: int

    def cost(self, microjoules: int) -> int:
        """Micro-units for so much at the machine, rounded up."""
        return ceil_div(microjoules * self.pue_milli * self.micro_per_kwh, _UJ_MILLI_PER_KWH)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """What a node says of its energy. Tokens are through all blocks that it serves; null is not known."""

    at: int
    """Unix seconds."""
    since: int
    """Unix seconds from which on the sums count."""
    next_s: int
    """Seconds after which there is a newer one, while the node runs."""
    source: Provenance
    """How far the figures can be trusted."""
    meter: str
    """What is read."""
    fault: str | None
    """Why the meter cannot be believed now; the figures are then those of before, and a model."""
    sharers: int
    """Nodes of this machine that have their part of the same counter, this one included."""
    error_ppm: int | None
    """How far the meter may be off, in millionths: its maker's or the operator's word."""
    step_microjoules: int | None
    """The smallest difference that it shows."""
    microwatts: int | None
    """This node's part of what the meter shows, over the last seconds."""
    idle_microwatts: int | None
    """Of the machine while it computes nothing."""
    batch_milli: int | None
    """Mean positions in one pass, in thousandths."""
    microjoules_in: int | None
    """Of a prompt token, all power at work included."""
    microjoules_out: int | None
    """Of a generated token, likewise."""
    marginal_microjoules: int | None
    """What one more token, of either kind, adds to a pass that runs anyway."""
    price_in: int | None
    """Micro-units that the energy of a million prompt tokens costs."""
    price_out: int | None
    """Micro-units that the energy of a million generated tokens costs."""
    day_cost: int | None
    """Micro-units that a day at this power costs."""
    micro_per_kwh: int
    """Micro-units that a kWh costs."""
    pue_milli: int
    """Power usage effectiveness, in thousandths."""
    measured_millijoules: int
    """Counted by the meter."""
    idle_millijoules: int
    """Of it, what no work took."""
    told_millijoules: int
    """Told to sessions, or shared out to those that run."""
    untold_millijoules: int
    """Of sessions that could not be told."""
    carried_millijoules: int
    """Put right with later sessions; below 0 where earlier ones were told too much."""
    estimated_millijoules: int
    """Of what sessions were told, what no meter had counted."""


def energy_file(data_dir: Path, node: Address) -> Path:
    """Of the node with this key."""
    return data_dir / "energy" / f"{checksum_address(node)}.json"


def report_of(figures: Figures, power: Power, *, at: int, since: int, next_s: int, fault: str | None) -> EnergyReport:
    """What is written."""
    day_uj = None if figures.power_uw is None else figures.power_uw * _DAY_S
    return EnergyReport(
        at=at,
        since=since,
        next_s=next_s,
        source=figures.source,
        meter=figures.meter,
        fault=fault,
        sharers=figures.sharers,
        error_ppm=figures.accuracy.ppm,
        step_microjoules=figures.accuracy.step_uj,
        microwatts=figures.power_uw,
        idle_microwatts=figures.idle_uw,
        batch_milli=figures.batch_milli,
        microjoules_in=figures.in_uj,
        microjoules_out=figures.out_uj,
        marginal_microjoules=figures.marginal_uj,
        price_in=None if figures.in_uj is None else power.cost(figures.in_uj * 1_000_000),
        price_out=None if figures.out_uj is None else power.cost(figures.out_uj * 1_000_000),
        day_cost=None if day_uj is None else power.cost(day_uj),
        micro_per_kwh=power.micro_per_kwh,
        pue_milli=power.pue_milli,
        measured_millijoules=figures.measured_uj // 1000,
        idle_millijoules=figures.idle_uj // 1000,
        told_millijoules=figures.told_uj // 1000,
        untold_millijoules=figures.untold_uj // 1000,
        carried_millijoules=figures.carried_uj // 1000,
        estimated_millijoules=figures.estimated_uj // 1000,
    )


def write_report(path: Path, report: EnergyReport) -> None:
    """For `joule energy`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(plain(report)).encode())


def read_report(path: Path) -> EnergyReport | None:
    """The latest; None where a node with this key has never run here. Raises LocalError."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise LocalError(f"cannot read {path}: {error}", hint="start the node again: it is written anew") from None
    return _checked(path, said)


def _checked(path: Path, said: Any) -> EnergyReport:
    hint = "start the node again: it is written anew"
    fields = {each.name: each.type for each in dataclasses.fields(EnergyReport)}
    if not isinstance(said, dict) or said.keys() != fields.keys():
        raise LocalError(f"{path} is not of this version", hint=hint)
    for name, kind in fields.items():
        value, optional = said[name], str(kind).endswith("| None")
        wanted = str if str(kind).startswith(("str", "Provenance")) else int
        if not (value is None and optional) and type(value) is not wanted:
            raise LocalError(f"{path} has a {name} that makes no sense", hint=hint)
    try:
        return EnergyReport(**{**said, "source": Provenance(said["source"])})
    except ValueError:
        raise LocalError(f"{path} names a source that nobody knows", hint=hint) from None
