"""The second half of a block: one gated product for all rows, or several of which each row goes through a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from node.engine.matrices import Matrix

__all__ = ["Clamp", "ExpertNames", "Experts", "Mixture"]


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What a family calls them, after the block's prefix."""

    router: str
    expert: str
    """With ``{}`` for the number."""
    gate: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class Clamp:
    """Gates that open by ``gate * sigmoid(slope * gate)``, for what lies within a limit, and raise it by 1."""

    slope: float
    limit: float

    def gated(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """What goes through."""
        low = gate.clamp(max=self.limit)
        return (up.clamp(-self.limit, self.limit) + 1) * (low * torch.sigmoid(low * self.slope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How a model's rows find their experts."""

    names: ExpertNames
    count: int
    active: int
    """Experts that a row goes through."""
    intermediate: int
    """Width within one."""
    normalized: bool
    """Whether the shares of a row's experts add up to 1."""
    dense: frozenset[int]
    """Blocks that have none, but a gated product for all rows."""
    biased: bool = False
    """Whether products within experts, and the router's, have biases."""
    clamp: Clamp | None = None
    """How gates open where that is not by silu."""

    def tensors(self, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes."""
        yield from self._product(self.names.router, self.count, hidden)
        for number in range(self.count):
            expert = self.names.expert.format(number)
            for name in (self.names.gate, self.names.up):
                yield from self._product(f"{expert}.{name}", self.intermediate, hidden)
            yield from self._product(f"{expert}.{self.names.down}", hidden, self.intermediate)

    def _product(self, name: str, out: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, width)
        if self.biased:
            yield f"{name}.bias", (out,)


class Experts:
    """Gated products, of which each row goes through those that the router gives the most to.

    Args:
        take: the block's tensors.
        product: lays one out.
    """

    def __init__(self, mixture: Mixture, take: Callable[[str], torch.Tensor], product: Callable[[str], Matrix]) -> None:
        self._mixture = mixture
        self._router = take(f"{mixture.names.router}.weight")
        self._router_bias = take(f"{mixture.names.router}.bias") if mixture.biased else None
        names = mixture.names
        self._experts = [
            tuple(product(f"{names.expert.format(number)}.{each}") for each in (names.gate, names.up, names.down))
            for number in range(mixture.count)
        ]

    @property
    def matrices(self) -> Iterator[Matrix]:
        """All of them: which ones a row needs, it says itself."""
        for expert in self._experts:
            yield from expert

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """``[rows, hidden]``; a row does not depend on what the others go through."""
        shares, chosen = (
            linear(rows, self._router, self._router_bias).float().softmax(-1).topk(self._mixture.active, dim=-1)
        )
        if self._mixture.normalized:
            shares = shares / shares.sum(-1, keepdim=True)
        result = torch.zeros_like(rows)
        for number in sorted(set(chosen.flatten().tolist())):
            gate, up, down = self._experts[number]
            row, place = torch.where(chosen == number)
            own = rows[row]
            clamp = self._mixture.clamp
            inner = up.times(own, gate.silu_of(own)) if clamp is None else clamp.gated(gate.of(own), up.of(own))
            through = down.of(inner)
            result.index_add_(0, row, through * shares[row, place].unsqueeze(-1).to(rows.dtype))
        return result
