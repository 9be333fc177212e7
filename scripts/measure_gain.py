"""How much honest blocks can enlarge what entered them changed: the gains in docs/spec/audit.md, clause F9.

By autograd through a leg's blocks, in the metric of fingerprints: rows scaled as clause F1 scales them, the change of a
window relative to its norm. A change is bounded in every window up to the one looked at, so the search is a power
iteration with a norm for each window; it finds local maxima, and more than one beginning is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from node.engine.attending import Attending
from node.engine.attention import CpuBackend
from node.engine.matrices import Matrix, Plain
from node.engine.span import Span

WINDOW = 16
Tensor = torch.Tensor


class Differentiable(CpuBackend):
    """Weights as they are: gradients flow through torch's own products alone."""

    def laid_out(self, weight: Tensor, bias: Tensor | None, factors: Tensor | None = None) -> Matrix:
        return Plain(weight if factors is None else weight * factors.unsqueeze(1), bias)


class _WholeSequence:
    """Attention of one whole sequence that gradients flow through."""

    def __init__(self, rows: int) -> None:
        self.positions = torch.arange(rows)

    def attend(self, block: int, query: Tensor, key: Tensor, value: Tensor, how: Attending) -> Tensor:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        group, at = query.shape[0] // key.shape[0], self.positions
        unseen = at[None, :] > at[:, None]
        if how.window is not None:
            unseen |= at[None, :] <= at[:, None] - how.window
        weights = (query @ key.repeat_interleave(group, 0).transpose(1, 2)) * how.scale
        weights = weights.masked_fill(unseen, float("-inf")).softmax(-1)
        return (weights @ value.repeat_interleave(group, 0)).transpose(0, 1)


def run_blocks(span: Span, rows: Tensor, first: int, end: int) -> Tensor:
    """Blocks ``[first, end)`` of a whole model over a sequence's rows."""
    step = _WholeSequence(len(rows))
    rotary = span._shape.rope.at(step.positions, rows.dtype)
    for layer in span.layers[first:end]:
        rows = layer.run(rows, rotary, step)
    return rows


def scaled(rows: Tensor) -> Tensor:
    """As clause F1, step 1."""
    return rows / rows.pow(2).mean(-1, keepdim=True).pow(0.25)


def unscaled(rows: Tensor) -> Tensor:
    """The rows again."""
    return rows * rows.pow(2).mean(-1, keepdim=True).sqrt()


def entering(span: Span, tokens: Sequence[int], first: int) -> Tensor:
    """Scaled rows that enter block `first`."""
    with torch.no_grad():
        return scaled(run_blocks(span, span._enter(tokens, span.blocks), 0, first))


def worst_change(span: Span, rows: Tensor, first: int, end: int, *, beginnings: int = 2) -> tuple[float, Tensor]:
    """The gain, and the change of scaled rows that has it: off by a distance of 1 in every window.

    The gain is the distance of the last window's output that follows.
    """
    windows = -(-len(rows) // WINDOW)
    start = WINDOW * (windows - 1)

    def leg(entered: Tensor) -> Tensor:
        return scaled(run_blocks(span, unscaled(entered), first, end))[start:]

    norms = torch.stack([part.norm() for part in rows.split(WINDOW)])

    def each_window_by_1(change: Tensor) -> Tensor:
        parts = zip(change.split(WINDOW), norms, strict=True)
        return torch.cat([part * (norm / part.norm().clamp_min(1e-30)) for part, norm in parts])

    entered = rows.clone().requires_grad_(True)
    left = leg(entered)
    pulled = torch.zeros_like(left, requires_grad=True)
    back = torch.autograd.grad(left, entered, pulled, create_graph=True)[0]  # linear in `pulled`: its slope pushes
    best, worst = 0.0, torch.zeros_like(rows)
    for beginning in range(beginnings):
        change = each_window_by_1(torch.randn(rows.shape, generator=torch.Generator().manual_seed(beginning)))
        before = 0.0
        for _ in range(40):
            pushed = torch.autograd.grad(back, pulled, change, retain_graph=True)[0]
            gain = float(pushed.norm() / left.detach().norm())
            if gain > best:
                best, worst = gain, change
            if abs(gain - before) < 1e-3 * gain:
                break
            before = gain
            change = each_window_by_1(torch.autograd.grad(left, entered, pushed, retain_graph=True)[0])
    return best, worst


def worst_margin(span: Span, rows: Tensor, first: int, end: int) -> float:
    """By how much the best logit may fall below another, at most, where every window's input is off by 1."""
    entered = rows.clone().requires_grad_(True)
    logits = span._head.of(span._norm.of(run_blocks(span, unscaled(entered), first, end)))[-1]
    best = logits.topk(2).indices
    found = []
    for other in (best[1], logits.argmin()):
        slope = torch.autograd.grad(logits[best[0]] - logits[other], entered, retain_graph=True)[0]
        parts = zip(slope.split(WINDOW), rows.split(WINDOW), strict=True)
        found.append(sum(float(change.norm() * part.norm()) for change, part in parts))
    return max(found)


@dataclass(frozen=True, slots=True)
class Gains:
    """Of one leg, over sequences and windows."""

    blocks: range
    gains: list[float]
    margins: list[float]

    def __str__(self) -> str:
        cells = [f"{self.blocks.start}:{self.blocks.stop}", f"{median(self.gains):.1f}", f"{max(self.gains):.1f}"]
        if self.margins:
            cells += [f"{median(self.margins):.0f}", f"{max(self.margins):.0f}"]
        else:
            cells += ["", ""]
        return "| " + " | ".join(cells) + " |"


def measure(span: Span, sequences: Sequence[Sequence[int]], blocks: range) -> Gains:
    """Of the leg that serves these blocks, at the first two windows of each sequence and at its last."""
    gains, margins = [], []
    for tokens in sequences:
        rows = entering(span, tokens, blocks.start)
        whole = WINDOW * (len(rows) // WINDOW)
        for end in sorted({WINDOW, 2 * WINDOW, whole}):
            gains.append(worst_change(span, rows[:end], blocks.start, blocks.stop)[0])
            if blocks.stop == len(span.layers):
                margins.append(worst_margin(span, rows[:end], blocks.start, blocks.stop))
    return Gains(blocks, gains, margins)
