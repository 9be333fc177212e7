"""Computing again what a leg says it computed: the blocks up to its end, as one prefill from the token ids.

Every leg's output follows from the token ids, so an auditor needs no other leg's activations, and its own prefill
differs from the leg's decode steps by rounding only. What to audit, and what a mismatch means, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.engine.sampling import Sampling, draw, scores
from node.ports import StepInput, StepOutput
from protocol.errors import MalformedError
from protocol.fingerprint import UNSEEDED, sketch

__all__ = ["Drawn", "Replayed", "replay"]

_SESSION = b"audit"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the last leg should have drawn after one position."""

    position: int
    """Where the token stands in the sequence."""
    token: int
    """The token drawn here."""
    margin: float | None
    """By how much its score exceeds that of the token in the sequence, 0 where they are the same; None where the
    sequence ends before."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A window, computed again."""

    sketch: bytes
    """Fingerprint of the output of the last block replayed (`protocol.fingerprint.matches` compares)."""
    drawn: tuple[Drawn, ...]
    """One for each position of the window, where the model's last block was replayed and `sampling` given."""


def replay(
    directory: Path,
    end: int,
    token_ids: Sequence[int],
    window: tuple[int, int],
    *,
    seed: bytes = UNSEEDED,
    sampling: Sampling | None = None,
    dtype: str = "fp32",
    threads: int = 1,
) -> Replayed:
    """Run blocks ``[0, end)`` over a sequence and fingerprint positions ``[a, b)`` of what comes out.

    Args:
        directory: the model, whole up to block `end`.
        end: one past the audited leg's last block.
        token_ids: the sequence from its first token, prompt and answer; those from `b` on are not run.
        window: a and b, positions.
        seed: the window's, 32 bytes.
        sampling: the session's, to draw the tokens again.

    Raises:
        ModelError: the model cannot be loaded.
        MalformedError: a window that the sequence does not hold, or ids outside of the vocabulary.
    """
    first, last = window
    if not 0 <= first < last <= len(token_ids):
        raise MalformedError(f"window {first}:{last} of {len(token_ids)} tokens")
    engine = Engine.load(directory, 0, end, kv_tokens=last + PAGE_TOKENS, dtype=dtype, threads=threads)
    engine.open(_SESSION, max_tokens=last, temperature_milli=0, seed=0)
    ids = tuple(token_ids[:last])
    item = StepInput(session=_SESSION, position=0, length=last, data=ids, draws=0)
    (output,) = engine.forward([item])
    if not isinstance(output, StepOutput):
        raise output
    rows = output.hidden[first:last]
    drawn: tuple[Drawn, ...] = ()
    if sampling is not None and engine.span.is_last:
        drawn = _draw_again(engine, rows, first, token_ids, sampling)
    return Replayed(sketch(rows, seed), drawn)


def _draw_again(
    engine: Engine,
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    first: int,
    token_ids: Sequence[int],
    sampling: Sampling,
) -> tuple[Drawn, ...]:
    drawn = []
    for position, row in enumerate(rows, start=first + 1):
        logits = engine.span.logits(row[np.newaxis])[0]
        margin = None
        if position < len(token_ids):
            values = scores(logits, sampling, position)
            margin = float(values.max() - values[token_ids[position]])
        drawn.append(Drawn(position, draw(logits, sampling, position), margin))
    return tuple(drawn)
