"""Which device computes. Importing this costs nothing, so that anyone may ask."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Device", "compute_device"]

CPU_FACTS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What runs the blocks."""

    kind: str
    """``cpu``: nothing else computes yet."""
    name: str
    """As its maker calls it."""
    count: int
    """Cores that this process may use; of another kind of device, how many of them."""
    memory_bytes: int
    """Of the machine, or of the devices together."""

    @property
    def is_gpu(self) -> bool:
        """Whether processor time says nothing about the work."""
        return self.kind != "cpu"

    def __str__(self) -> str:
        return f"{self.kind.upper()}: {self.name}, {self.count} core{'' if self.count == 1 else 's'}"


def compute_device() -> Device:
    """The device that `node.engine` computes on: the processor, also where the machine has a GPU."""
    return Device(
        kind="cpu",
        name=_processor_name(),
        count=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def _processor_name() -> str:
    try:
        text = CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return found[1] if found else platform.machine() or "unknown"
