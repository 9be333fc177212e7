"""Position embeddings: how far each pair of a head's dimensions is turned at a position.

Only those that depend on the position alone are served (`node.model_directory.facts`): the plain one, and three ways to
stretch it to longer contexts than a model was trained on. Angles are fp32 whatever the model's precision is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["Rope", "turned"]


class Rope:
    """The embedding of one model.

    Args:
        parameters: of ``config.json``, with ``rope_type`` and ``rope_theta``.
        head_dim: dimensions of a head.
        context: positions that the model can attend to.

    Raises:
        KeyError, TypeError, ValueError, ZeroDivisionError: parameters that describe none.
    """

    def __init__(self, parameters: Mapping[str, Any], *, head_dim: int, context: int) -> None:
        if parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError("heads that are turned in part")
        base = float(parameters["rope_theta"])
        plain = 1.0 / (base ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim))
        self._speeds, self._scale = _stretched(plain, parameters, base, head_dim, context)
        if not self._speeds.isfinite().all() or not math.isfinite(self._scale):
            raise ValueError("turns without end")

    def at(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """What `turned` takes for rows at these positions: two tensors ``[rows, 1, head_dim]``."""
        angles = positions.unsqueeze(-1).float() * self._speeds
        cos, sin = angles.cos() * self._scale, angles.sin() * self._scale
        both = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        return both[0].to(dtype).unsqueeze(1), both[1].to(dtype).unsqueeze(1)


def turned(heads: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """``[rows, heads, head_dim]``, each pair of dimensions half a head apart turned by its row's angles."""
    cos, sin = rotary
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)


def _stretched(
    plain: torch.Tensor, parameters: Mapping[str, Any], base: float, head_dim: int, context: int
) -> tuple[torch.Tensor, float]:
    """Angles of each pair from one position to the next, and what sines and cosines are multiplied by."""
    kind = parameters["rope_type"]
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return plain / parameters["factor"], 1.0
    trained = parameters.get("original_max_position_embeddings") or context
    if kind == "llama3":
        return _llama3(plain, parameters, trained), 1.0
    if kind != "yarn":
        raise ValueError(f"rope_type = {kind!r}")
    factor = float(parameters.get("factor") or context / trained)
    return _yarn(plain, parameters, trained, factor, base, head_dim), _yarn_scale(parameters, factor)


def _llama3(plain: torch.Tensor, parameters: Mapping[str, Any], trained: int) -> torch.Tensor:
    """Slow turns are slowed down by the factor, fast ones are not, and between the two it goes over smoothly."""
    factor, low, high = (float(parameters[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = trained * plain / (2 * math.pi)  # in the context that the model was trained on
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / factor + kept * plain


def _yarn(
    plain: torch.Tensor, parameters: Mapping[str, Any], trained: int, factor: float, base: float, head_dim: int
) -> torch.Tensor:
    """As `_llama3`, but linear in the dimension, not in the number of turns."""

    def dimension(turns: float) -> float:
        return head_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = dimension(parameters.get("beta_fast") or 32), dimension(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    width = last - first or 0.001
    slowed = ((torch.arange(head_dim // 2, dtype=torch.float) - first) / width).clamp(0, 1)
    return plain / factor * slowed + plain * (1 - slowed)


def _yarn_scale(parameters: Mapping[str, Any], factor: float) -> float:
    """What cosines and sines are multiplied by, so that attention is as sharp as in the shorter context."""
    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    mine, whole = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(mine) / scale(whole) if mine and whole else scale(1.0)
