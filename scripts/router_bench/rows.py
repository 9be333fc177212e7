"""Times, and the lines of the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

CLOCK = time.process_time if "--cpu" in sys.argv[1:] else time.perf_counter


def best_of(runs: int, call: Callable[[], object]) -> float:
    """Milliseconds of the fastest of some runs: what the others take longer is the machine's other work."""
    found = []
    for _ in range(runs):
        began = CLOCK()
        call()
        found.append((CLOCK() - began) * 1e3)
    return min(found)


def row(what: str, measured: str, target: str, met: bool) -> None:
    """One line of the table."""
    print(f"{what:<62} {measured:>22}  {target:>14}  {'met' if met else 'NOT MET'}", flush=True)
