"""Which source of energy figures a node uses."""

from __future__ import annotations

from node.energy.attribution import DeclaredEnergy, Energy, MeteredEnergy
from node.energy.meter import ProcessorTime, find_counter

__all__ = ["choose_energy"]


def choose_energy(*, declared_mj: int | None, milliwatts_per_core: int | None, gpu: bool = False) -> Energy | None:
    """What the operator declares, else the machine's counters, else processor time at an assumed power, else None.

    Args:
        declared_mj: millijoules per token, above 0; None to measure.
        milliwatts_per_core: for the modelled figure; None to have none.
        gpu: whether the work runs on GPUs, where processor time says nothing.
    """
    if declared_mj is not None:
        return DeclaredEnergy(declared_mj)
    counter = find_counter(gpu=gpu)
    if counter is not None:
        return MeteredEnergy(counter)
    if milliwatts_per_core is None or gpu:
        return None
    return MeteredEnergy(ProcessorTime(milliwatts_per_core))
