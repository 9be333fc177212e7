"""How rows attend: what scores are made of, and attention where torch's own kernel does not know how."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Attending", "attended"]


@dataclass(frozen=True, slots=True)
class Attending:
    """Of one block."""

    scale: float
    """Of products of queries and keys."""
    window: int | None = None
    """Positions that a row sees, itself included; None for all."""
    cap: float | None = None
    """Scores are bent so that none exceeds it; None where they are as they are."""
    sinks: torch.Tensor | None = None
    """For each head a score that takes its share and stands for no value, ``[heads]``."""

    @property
    def is_plain(self) -> bool:
        """Whether torch's kernel does it."""
        return self.cap is None and self.sinks is None


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, how: Attending
) -> torch.Tensor:
    """One segment, step by step: ``[rows, heads, d]`` over ``[1, kv_heads, keys, d]`` gives ``[rows, heads, d]``.

    Args:
        mask: which row sees which key, ``[rows, keys]``; None for all.
    """
    rows, heads, head_dim = query.shape
    kv_heads = keys.shape[1]
    folded = query.view(rows, kv_heads, heads // kv_heads, head_dim).permute(1, 2, 0, 3)  # [kv_heads, group, rows, d]
    products = folded @ keys.transpose(0, 1).transpose(2, 3)
    scores = (products * how.scale).float()
    if how.cap is not None:
        scores = torch.tanh(scores / how.cap) * how.cap
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    if how.sinks is None:
        shares = scores.softmax(-1)
    else:
        sinks = how.sinks.float().view(kv_heads, -1, 1, 1).expand(*scores.shape[:3], 1)
        shares = torch.cat((scores, sinks), -1).softmax(-1)[..., :-1]
    seen = shares.to(values.dtype) @ values.transpose(0, 1)
    return seen.permute(2, 0, 1, 3).reshape(rows, heads, head_dim)
