"""Computing again what legs say they computed: the blocks of each in turn, as one prefill from the token ids.

Every leg's output follows from the token ids, so an auditor needs nobody's activations; its own prefill differs from
honest decode steps by rounding only. What to audit, and what a difference means, is decided in
`protocol.receipts.audit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.engine.logprobs import off_by
from node.engine.sampling import Sampling, draw, margin
from node.ports import Activations, StepInput, StepOutput
from protocol.errors import MalformedError
from protocol.identity.ids import BlockSpan
from protocol.session.fingerprint import sketch
from protocol.session.shaping import look_back
from protocol.session.terms import SamplingTerms

__all__ = ["Drawn", "Replayed", "Window", "replay"]


@dataclass(frozen=True, slots=True)
class Window:
    """Positions ``[start, end)``, and what they were sketched under."""

    start: int
    end: int
    seed: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the last leg should have drawn after one position."""

    position: int
    """Where the token stands in the sequence."""
    token: int
    """The token drawn here."""
    margin: float | None
    """By how much its score exceeds that of the token in the sequence, as a difference of logits; 0 where they are
    the same, None where the sequence ends before."""
    off: int = 0
    """Millionths of a logit by which what was said of it is off (`node.engine.logprobs.off_by`)."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One leg's part of one window, computed again."""

    sketch: bytes
    """Of what leaves the leg's last block (`protocol.session.fingerprint`)."""
    drawn: tuple[Drawn, ...]
    """One for each position of the window, where the leg has the model's last block and `sampling` was given."""


def replay(
    directory: Path,
    ends: Sequence[int],
    token_ids: Sequence[int],
    windows: Sequence[Window],
    *,
    sampling: SamplingTerms | None = None,
    prompt: int = 0,
    said: Sequence[bytes] = (),
    dtype: str = "fp32",
    threads: int = 1,
) -> tuple[tuple[Replayed, ...], ...]:
    """Run the blocks of some legs, from the first block on, over a sequence; for each window, each leg's part.

    Args:
        directory: the model, whole up to the last of `ends`.
        ends: one past each leg's last block, ascending.
        token_ids: the sequence from its first token, prompt and answer; those after the last window are not run.
        windows: in order of position.
        sampling: the session's, to draw the tokens again.
        prompt: so many of the first ids are the session's prompt.
        said: of the tokens after it, their log probabilities, where the session's terms ask for them.

    Raises:
        ModelError: the model cannot be loaded.
        MalformedError: a window that the sequence does not hold, or ids outside of the vocabulary.
    """
    for window in windows:
        if not 0 <= window.start < window.end <= len(token_ids):
            raise MalformedError(f"window {window.start}:{window.end} of {len(token_ids)} tokens")
    length = windows[-1].end
    room = len(ends) * (length + PAGE_TOKENS)
    engine = Engine.load(directory, 0, ends[-1], kv_tokens=room, dtype=dtype, threads=threads)
    rows = _rows_of_legs(engine, ends, token_ids[:length])
    last = len(ends) - 1 if sampling is not None and engine.span.is_last else None
    return tuple(
        tuple(
            Replayed(
                sketch(each[window.start : window.end], window.seed),
                ()
                if sampling is None or leg != last
                else _draw_again(engine, each, window, token_ids, sampling, prompt, said),
            )
            for leg, each in enumerate(rows)
        )
        for window in windows
    )


def _rows_of_legs(engine: Engine, ends: Sequence[int], token_ids: Sequence[int]) -> list[Activations]:
    """What leaves each leg, all positions: every leg is a session through its own blocks of the one engine."""
    for leg, (start, end) in enumerate(pairwise([0, *ends])):
        blocks = BlockSpan(start=start, end=end)
        engine.open(bytes([leg]), max_tokens=len(token_ids), blocks=blocks)
    parts: list[list[Activations]] = [[] for _ in ends]
    for at in range(0, len(token_ids), engine.max_rows):
        data: Sequence[int] | Activations = tuple(token_ids[at : at + engine.max_rows])
        for leg, part in enumerate(parts):
            item = StepInput(session=bytes([leg]), position=at, length=len(data), data=data, draws=0)
            (output,) = engine.forward([item])
            if not isinstance(output, StepOutput):
                raise output
            data = output.hidden
            part.append(data)
    return [np.concatenate(part) for part in parts]


def _draw_again(
    engine: Engine,
    rows: Activations,
    window: Window,
    token_ids: Sequence[int],
    terms: SamplingTerms,
    prompt: int,
    said: Sequence[bytes],
) -> tuple[Drawn, ...]:
    drawn, sampling, of_prompt = [], Sampling.of(terms), look_back(terms.shaping, token_ids[:prompt])
    logits = engine.span.logits(rows[window.start : window.end])
    for position, each in enumerate(logits, start=window.start + 1):
        before = of_prompt.with_more(token_ids[prompt:position])
        lacks = margin(each, sampling, position, token_ids[position], before) if position < len(token_ids) else None
        known = 0 <= position - prompt < len(said)
        off = off_by(each, said[position - prompt]) if known else 0
        drawn.append(Drawn(position, draw(each, sampling, position, before), lacks, off))
    return tuple(drawn)
