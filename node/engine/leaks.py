"""How much of what is written can be told from the rows that travel between legs: the attacks that a leg could run.

Whoever holds the blocks behind a cut is handed a row of activations for each token. Three attacks turn rows back into
token ids, each with more than the one before:

- `nearest` has the model's embedding: the token whose row of it points the same way.
- `trained` has, besides, rows whose tokens it knows. Anybody can make them who has the blocks before the cut, of any
  text. A linear map from rows to the embedding is fitted to them, in closed form; then the nearest is taken.
- `search` has those blocks at hand. It goes from the first token on: what `trained` finds likeliest is run through them
  after what was recovered before, and stands where it makes the very row that came; else the next likeliest is tried.

Nothing is drawn at random. Of attacks that are cleverer than these, nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.engine.leaked import Attacked, CutLeak
from node.engine.worth import wilson
from node.ports import Activations, StepInput, StepOutput
from protocol.errors import ModelError
from protocol.identity.ids import BlockSpan

__all__ = ["MOST_KNOWN", "MOST_TOLD", "cuts_of", "directions_of", "guesses_at", "leaks_of", "room_for"]

LENGTH = 128
"""Tokens of one prompt: longer texts are cut to pieces of it."""
MOST_TOLD = 1_024
"""Tokens that are attacked at most."""
MOST_KNOWN = 4_096
"""Tokens that `trained` is fitted to, at most."""
MOST_CUTS = 16
"""Cuts that are looked at; of a model with more blocks some, evenly."""
MOST_TRIED = 512
"""Tokens that `search` tries for one row; where none makes it, the rest of the prompt stays as `trained` has it."""
SAME = 0.01
"""Rows are the same that are apart by less than this share of their length: machines round differently."""
RIDGE = 1e-2
"""Of the mean square of what is fitted: holds the map small where few rows say anything of it."""

_ROWS, _GUESS = b"rows", b"guess"
Ids = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Doubles = np.ndarray[Any, np.dtype[np.float64]]
Lines = tuple[Doubles, Doubles, Doubles]
"""A linear map: what is taken off, what that is multiplied with, and what is added."""


def cuts_of(blocks: int) -> list[int]:
    """The cuts of a model that are looked at: the embedding, and between blocks."""
    most = min(blocks - 1, MOST_CUTS)
    return sorted({0, *(1 + at * (blocks - 2) // max(1, most - 1) for at in range(most))})


def room_for(cuts: Sequence[int]) -> int:
    """Positions of KV that `leaks_of` takes."""
    return (len(cuts) + 1) * (LENGTH + PAGE_TOKENS)


def leaks_of(engine: Engine, known: Sequence[int], told: Sequence[int], cuts: Sequence[int]) -> list[CutLeak]:
    """Attack each cut of a whole model.

    Args:
        known: token ids of the text that `trained` is fitted to.
        told: token ids of another text, which the attacks are to tell.
        cuts: from 0 on, ascending (`cuts_of`).
    """
    directions = directions_of(engine)
    seen, rows = _rows_at(engine, known, cuts), _rows_at(engine, told, cuts)
    ids, truth = np.array(known), np.array(told)
    found = []
    for cut in cuts:
        guesses = guesses_at(engine, cut, rows[cut], seen[cut], ids, directions)
        attacks = (_attacked(attack, guesses[attack] == truth) for attack in guesses)
        found.append(CutLeak(cut=cut, attacks=tuple(attacks)))
    return found


def directions_of(engine: Engine) -> Activations:
    """``[vocabulary, hidden_size]``: where each token's row of the embedding points from the mean of all."""
    table = engine.span.embedded(range(engine.facts.vocabulary))
    return _centred(table, table.mean(0))


def guesses_at(
    engine: Engine, cut: int, rows: Activations, seen: Activations, known: Ids, directions: Activations
) -> dict[str, Ids]:
    """By attack, which token each row is taken for.

    Args:
        rows: that came at the cut, of prompts of `LENGTH` tokens one after the other.
        seen: likewise, of the `known` tokens.
        directions: of each token's row of the embedding.
    """
    found = {"nearest": _ranked(_centred(rows, seen.mean(0)), directions, 1)[:, 0]}
    if cut:
        ranked = _ranked(_through(_fit(seen, known, directions), rows), directions, MOST_TRIED)
        found |= {"trained": ranked[:, 0], "search": _search(engine, rows, ranked, cut)}
    return found


def _attacked(attack: str, right: Bools) -> Attacked:
    recovered, of = int(right.sum()), len(right)
    low, high = wilson(recovered, of)
    share = round(recovered * 1_000_000 / of)
    return Attacked(attack=attack, recovered=recovered, of=of, share_ppm=share, low_ppm=low, high_ppm=high)


# Rows


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + LENGTH, count)) for start in range(0, count, LENGTH))


def _rows_at(engine: Engine, ids: Sequence[int], cuts: Sequence[int]) -> dict[int, Activations]:
    """By cut the rows of all tokens, each piece a prompt of its own."""
    parts: dict[int, list[Activations]] = {cut: [] for cut in cuts}
    for start, end in _pieces(len(ids)):
        data: Sequence[int] | Activations = tuple(ids[start:end])
        parts[0].append(engine.span.embedded(ids[start:end]))
        for first, last in pairwise(cuts):
            _open(engine, _ROWS, end - start, BlockSpan(start=first, end=last))
            data = _run(engine, _ROWS, 0, data)
            engine.close(_ROWS)
            parts[last].append(data)
    return {cut: np.concatenate(part) for cut, part in parts.items()}


def _open(engine: Engine, session: bytes, tokens: int, blocks: BlockSpan) -> None:
    engine.open(session, max_tokens=tokens, blocks=blocks)


def _run(engine: Engine, session: bytes, position: int, data: Sequence[int] | Activations) -> Activations:
    (output,) = engine.forward([StepInput(session=session, position=position, length=len(data), data=data, draws=0)])
    if not isinstance(output, StepOutput):
        raise ModelError(f"the model cannot be run: {output}", hint="try it with `joule model check`")
    return output.hidden


# Attacks


def _centred(rows: Activations, mean: Activations) -> Activations:
    """Directions from a mean, of length 1."""
    apart = rows - mean
    found: Activations = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    return found


def _ranked(rows: Activations, directions: Activations, most: int) -> Ids:
    """By row, token ids by how much their direction is the row's, at most so many."""
    most = min(most, len(directions))
    score = -(rows @ directions.T)
    if most < score.shape[1]:
        best = np.argpartition(score, most - 1, axis=1)[:, :most]
    else:
        best = np.broadcast_to(np.arange(most), score.shape)
    order = np.argsort(np.take_along_axis(score, best, 1), axis=1, kind="stable")
    return np.take_along_axis(best, order, 1)


def _fit(rows: Activations, ids: Ids, directions: Activations) -> Lines:
    """The linear map by which rows come nearest to their tokens' directions: least squares with a ridge, in which
    every token counts alike that occurs, however often it does.
    """
    weight = 1 / np.bincount(ids)[ids][:, None]
    weight /= weight.sum()
    targets = directions[ids].astype(np.float64)
    middle, onto = (weight * rows).sum(0), (weight * targets).sum(0)
    apart = rows - middle
    square = apart.T @ (weight * apart)
    square[np.diag_indices_from(square)] += RIDGE * np.trace(square) / len(square)
    return middle, np.linalg.solve(square, apart.T @ (weight * (targets - onto))), onto


def _through(lines: Lines, rows: Activations) -> Activations:
    middle, product, onto = lines
    return np.asarray((rows - middle) @ product + onto, dtype=np.float32)


def _search(engine: Engine, rows: Activations, ranked: Ids, cut: int) -> Ids:
    """Token ids by what makes the very rows that came; as ranked from the first row on that nothing makes."""
    found = ranked[:, 0].copy()
    for start, end in _pieces(len(rows)):
        _open(engine, _GUESS, end - start, BlockSpan(start=0, end=cut))
        at = start
        while at < end:
            # All that is left is guessed at once: it stands as far as its rows are those that came.
            same = _same(_run(engine, _GUESS, at - start, found[at:end].tolist()), rows[at:end])
            if same.all():
                break
            at += int(np.flatnonzero(~same)[0])
            made = _tried(engine, rows[at : at + 1], ranked[at], at - start)
            if made is None:
                break
            found[at] = made
            at += 1
        engine.close(_GUESS)
    return found


def _tried(engine: Engine, row: Activations, candidates: Ids, position: int) -> int | None:
    """The first of some tokens that makes this row at a position, if any does."""
    makes = (each for each in candidates.tolist() if _same(_run(engine, _GUESS, position, [each]), row).all())
    return next(makes, None)


def _same(rows: Activations, others: Activations) -> Bools:
    """Which rows are others, but for rounding."""
    same: Bools = np.linalg.norm(rows - others, axis=1) <= SAME * np.linalg.norm(others, axis=1)
    return same
