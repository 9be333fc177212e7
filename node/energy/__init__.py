"""Joules: where they are read, how they become a figure per token, and what that makes a node ask.

What is not known is `None`, never 0: a price of nothing would follow from it.
"""

from __future__ import annotations

from node.energy.attribution import DeclaredEnergy, Energy, Figure, MeteredEnergy
from node.energy.meter import Meter, ProcessorTime, find_counter
from node.energy.pricing import Pricing, Quote, check_floor
from node.energy.source import choose_energy

__all__ = [
    "DeclaredEnergy",
    "Energy",
    "Figure",
    "Meter",
    "MeteredEnergy",
    "Pricing",
    "ProcessorTime",
    "Quote",
    "check_floor",
    "choose_energy",
    "find_counter",
]
