"""One input, held against what its decoder promises: only typed errors, little time, little memory."""

from __future__ import annotations

import re
import resource
import time
import tracemalloc
from dataclasses import dataclass

from protocol.errors import JoulemeshError
from scripts.fuzzing.target import MEMORY_BYTES, SLOW_S, Target

__all__ = ["Finding", "Outcome", "execute"]

_REPEATS = 4
_GROWTH_BYTES = 16 * 1024 * 1024
"""Growth of the process beyond its highest so far that is worth a second look."""
_FIXED_PART = re.compile("[^0-9'\"\\\\]{0,60}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that an input breaks."""

    target: str
    why: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one input did."""

    error: str
    """Name of the typed error; empty where the input was taken in."""
    behaviour: tuple[str, ...]
    """Inputs of the same behaviour are alike: new ones are worth going on from."""
    cpu_s: float
    memory_bytes: int
    """0 where the process did not grow."""
    finding: Finding | None


def execute(target: Target, data: bytes) -> Outcome:
    """Run a target on one input."""
    high = _highest()
    why, error, behaviour, cpu_s = _attempt(target, data)
    grown = _highest() - high
    memory = 0
    if why is None and cpu_s > SLOW_S:
        # Others share the machine, and the garbage collector has its own times: the best of some counts.
        cpu_s = min(cpu_s, *(_attempt(target, data)[3] for _ in range(_REPEATS)))
        why = f"{cpu_s * 1000:.0f} ms of processor time" if cpu_s > SLOW_S else None
    if why is None and grown > _GROWTH_BYTES:
        memory = max(_traced(target, data), grown if target.native else 0)
        why = f"{memory >> 20} MiB of memory" if memory > MEMORY_BYTES else None
    finding = None if why is None else Finding(target.name, why, data)
    return Outcome(error, behaviour, cpu_s, memory, finding)


def _attempt(target: Target, data: bytes) -> tuple[str | None, str, tuple[str, ...], float]:
    """Which promise was broken, which error came, how the input behaved, and processor seconds."""
    began = time.thread_time()
    try:
        target.run(data)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - what escapes is what is looked for; a Rust panic is no Exception
        took = time.thread_time() - began
        name = type(error).__name__
        if isinstance(error, target.errors) and isinstance(error, JoulemeshError):
            return None, name, (name, _line(error), _FIXED_PART.match(error.message).group()), took  # type: ignore[union-attr]
        return f"{name}: {str(error)[:200]!a} at {_line(error)}", name, (name, _line(error)), took
    return None, "", (), time.thread_time() - began


def _line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


def _highest() -> int:
    """Most memory that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _traced(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        _attempt(target, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
