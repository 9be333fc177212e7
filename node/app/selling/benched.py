"""What `joule bench` finds out."""

from __future__ import annotations

from dataclasses import dataclass

from node.engine.worth import Worth

__all__ = ["BenchedModel", "BenchedNode", "Pace", "PrecisionBench", "SpanBench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Answers of so many sessions in one pass."""

    batch: int
    """Sessions."""
    milli_tokens_per_s: int
    """Of all of them together, in thousandths."""
    microjoules: int | None
    """Of one token; null where the meter did not move."""
    tokens_per_kwh: int | None
    """Tokens from a kilowatt-hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionBench:
    """A model in one precision."""

    precision: str
    """As it would be sold."""
    weight_bytes: int
    """In memory."""
    kv_bytes: int
    """Of one position of one session."""
    load_ms: int
    """To read and lay out the weights."""
    milli_prompt_tokens_per_s: int
    """Of one prompt, in thousandths."""
    prompt_microjoules: int | None
    """Of one of its tokens."""
    worth: Worth
    """Whether it is any good."""
    paces: tuple[Pace, ...]
    """By batch."""

    def right_per_kwh(self, pace: Pace) -> int | None:
        """Tokens from a kilowatt-hour, times the share of questions that are answered right."""
        found = pace.tokens_per_kwh
        return None if found is None else found * self.worth.right // self.worth.questions


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedModel:
    """What a machine makes of a whole model."""

    name: str
    """Of the model, for people."""
    device: str
    """What computed."""
    meter: str
    """Where joules come from."""
    context: int
    """Positions that each session had while answers were timed."""
    precisions: tuple[PrecisionBench, ...]
    """In the order asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBench:
    """A product that a machine could sell, with so many sessions at once."""

    precision: str
    """As it would be sold."""
    blocks: str
    """As ``first:end``."""
    pace: Pace
    """With so many sessions at once."""
    sessions: int
    """Of this context that the KV room holds."""
    offered_microjoules: int
    """Of a token in a session alone: what the offer and its price go by."""
    ask: int
    """Micro-units for a million generated tokens, by these settings, now."""
    takings: int
    """Micro-units an hour at that price, with as many sessions."""
    power_cost: int | None
    """Micro-units an hour that the energy of these tokens costs."""

    @property
    def profit(self) -> int | None:
        """Micro-units an hour."""
        return None if self.power_cost is None else self.takings - self.power_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedNode:
    """What a machine could sell of a model, the most profitable first."""

    name: str
    """Of the model, for people."""
    device: str
    """What computed."""
    meter: str
    """Where joules come from."""
    micro_per_kwh: int
    """Price of power now."""
    context: int
    """Positions that each session had."""
    products: tuple[SpanBench, ...]
    """By profit."""
