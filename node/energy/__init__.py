"""Joules: where they are read, and how they become figures per token and per session.

What is not known is `None`, never 0: a price of nothing would follow from it.
"""

from __future__ import annotations

from node.energy.account import Energy, Figure, Figures, MeteredEnergy
from node.energy.declared import DeclaredEnergy
from node.energy.live import EnergyReport, Power, energy_file, read_report
from node.energy.metering import Metering
from node.energy.modelled import SpanSize
from node.energy.shared import meters_folder
from node.energy.source import KINDS, MeterSettings, choose_energy, probe_meter
from node.energy.values import UNITS

__all__ = [
    "KINDS",
    "UNITS",
    "DeclaredEnergy",
    "Energy",
    "EnergyReport",
    "Figure",
    "Figures",
    "MeterSettings",
    "MeteredEnergy",
    "Metering",
    "Power",
    "SpanSize",
    "choose_energy",
    "energy_file",
    "meters_folder",
    "probe_meter",
    "read_report",
]
