"""One job of three legs on the demo model, as honest legs and cheats serve it, and what an audit says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from node.engine.audit import Window, replay
from node.engine.engine import Engine
from node.engine.span import Span
from node.ports import Activations, StepInput, StepOutput
from protocol.identity.ids import BlockSpan
from protocol.models.activations import FORMATS, ActivationType, Tolerance
from protocol.receipts.audit import Judgement, Observation, judge
from protocol.session.fingerprint import distance_ppm, sketch
from protocol.session.terms import Assignment, SamplingTerms

MODEL = Path(__file__).parents[2] / "node" / "demo" / "model"
PROMPT = "Write a story about Mia and a red kite in the park."
ENDS = (2, 4, 6)
WINDOW = 16
SAMPLING = SamplingTerms(temperature_milli=700, seed=12)

Tamper = Callable[[int, Activations], Activations]
"""From the position of the first row and the rows that should be sent, those that are sent."""
Change = Callable[[Span], None]


class Served:
    """What the legs of a job sent: rows by leg, and the tokens that the last one drew."""

    def __init__(self, tokens: list[int], prompt: int, sent: list[Activations]) -> None:
        self.tokens = tokens
        self.prompt = prompt
        self.sent = sent
        ends = [prompt, *range(prompt + WINDOW, len(tokens), WINDOW)]
        self.windows = list(pairwise([0, *ends]))
        """Positions of the whole windows."""


def serve(
    *,
    answer: int = 5 * WINDOW,
    prompt: str = PROMPT,
    changes: Mapping[int, Change] | None = None,
    tampers: Mapping[int, Tamper] | None = None,
    speaks: Callable[[int, int], int] = lambda _, token: token,
) -> Served:
    """Prompt in one pass, then a token at a time round the ring.

    Args:
        changes: by leg, what it does to its weights.
        tampers: by leg, what it does to the rows that it sends.
        speaks: from a position and the token drawn for it, the one that the last leg sends.
    """
    ids = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(prompt).ids
    tokens, sent = list(ids), [[] for _ in ENDS]
    engines = [Engine.load(MODEL, start, end, kv_tokens=512) for start, end in pairwise([0, *ENDS])]
    for leg, engine in enumerate(engines):
        (changes or {}).get(leg, lambda _: None)(engine.span)
        engine.open(b"s", max_tokens=len(ids) + answer, sampling=SAMPLING)
    position = 0
    while position < len(ids) + answer:
        data: Sequence[int] | Activations = tuple(tokens[position:])
        for leg, engine in enumerate(engines):
            item = StepInput(session=b"s", position=position, length=len(data), data=data, draws=int(leg == 2))
            (output,) = engine.forward([item])
            assert isinstance(output, StepOutput), output
            data = (tampers or {}).get(leg, lambda _, rows: rows)(position, output.hidden)
            sent[leg].append(data)
        position += len(data)
        tokens += [speaks(position, token) for token in output.tokens]
    return Served(tokens, len(ids), [np.concatenate(rows) for rows in sent])


def audit(served: Served, seeds: Sequence[bytes]) -> Judgement:
    """Every leg's part of the windows that there are seeds for, computed again and judged."""
    return judge(observe(served, seeds), tolerance())


def observe(served: Served, seeds: Sequence[bytes]) -> list[list[Observation]]:
    """How far the signed sketches are from those made again."""
    windows = [Window(*bounds, seed) for bounds, seed in zip(served.windows, seeds, strict=False)]
    again = replay(MODEL, ENDS, served.tokens, windows, sampling=SAMPLING, prompt=served.prompt)
    found = []
    for window, legs in zip(windows, again, strict=True):
        row = []
        for leg, (made, rows) in enumerate(zip(legs, served.sent, strict=True)):
            signed = sketch(np.ascontiguousarray(rows[window.start : window.end]), window.seed)
            margins = [each.margin for each in made.drawn if each.position >= served.prompt and each.margin is not None]
            margin = int(1e6 * max(margins, default=0.0))
            row.append(Observation(seat(leg), distance_ppm(signed, made.sketch), margin))
        found.append(row)
    return found


def seat(leg: int) -> Assignment:
    """Who serves which blocks."""
    return Assignment(leg=leg, span=BlockSpan(start=ENDS[leg] - 2, end=ENDS[leg]))


def tolerance() -> Tolerance:
    """That of fp32."""
    found = FORMATS[ActivationType.FP32].tolerance
    assert found is not None
    return found


def random_seeds(count: int, start: int = 0) -> list[bytes]:
    """What nobody could know."""
    return [np.random.default_rng([start, i]).bytes(32) for i in range(count)]
