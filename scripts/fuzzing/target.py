"""What is fuzzed: a decoder, valid inputs to begin with, how to spoil them, and which errors it may answer with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protocol.errors import JoulemeshError

__all__ = ["MEMORY_BYTES", "SLOW_S", "Mutator", "Target"]

SLOW_S = 0.1
"""Most processor seconds for one input."""
MEMORY_BYTES = 64 * 1024 * 1024
"""Most memory for one input, beyond what is held before it."""

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
"""(randomness, an input, others to take parts from) -> another input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder.

    What it promises for any bytes at all: it returns or raises one of `errors`; it takes at most `SLOW_S` and
    `MEMORY_BYTES`; and what it takes in it writes the same again, which `run` asserts where there is a writer.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Valid inputs."""
    run: Callable[[bytes], object]
    """Decodes, and asserts that what was decoded encodes to the same bytes."""
    errors: tuple[type[JoulemeshError], ...]
    """Whose fault bad bytes are: a peer's (PeerError), or the user's to mend (a LocalError)."""
    mutators: Sequence[Mutator] = field(repr=False)
    short: int = 1_000
    """Executions in `make test`."""
    long: int = 1_000_000
    """Executions in `make fuzz`; fewer where one takes milliseconds."""
    native: bool = False
    """Whether it allocates where Python's own counting does not see it."""
