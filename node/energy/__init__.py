"""Joules: where they are read, and how they become figures per token.

What is not known is `None`, never 0: a price of nothing would follow from it.
"""

from __future__ import annotations

from node.energy.attribution import DeclaredEnergy, Energy, Figure, MeteredEnergy
from node.energy.meter import Meter, ProcessorTime, find_counter
from node.energy.source import choose_energy

__all__ = [
    "DeclaredEnergy",
    "Energy",
    "Figure",
    "Meter",
    "MeteredEnergy",
    "ProcessorTime",
    "choose_energy",
    "find_counter",
]
