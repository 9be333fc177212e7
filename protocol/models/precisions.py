"""What is sold as ``fp32``, ``bf16``, ``int8`` or ``int4``: how weights are held, and what an audit allows.

A precision is a product: it is part of the model root, and its tolerance is measured (docs/spec/audit.md, F9).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.models.activations import FORMATS, ActivationType, Tolerance

__all__ = ["PRECISIONS", "Precision", "beside", "precision_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One precision that models are served in."""

    activations: ActivationType
    """Rows between legs, and all arithmetic."""
    quantized: bool
    """Whether weights are whole numbers with scales; else they are served from any checkpoint, rounded to the number
    format where they are finer."""

    @property
    def tolerance(self) -> Tolerance | None:
        """What an audit allows; None where it has not been measured, so that no audit judges it."""
        return FORMATS[self.activations].tolerance


PRECISIONS = {
    "fp32": Precision(activations=ActivationType.FP32, quantized=False),
    "bf16": Precision(activations=ActivationType.BF16, quantized=False),
    "int8": Precision(activations=ActivationType.FP32, quantized=True),
    "int4": Precision(activations=ActivationType.FP32, quantized=True),
}
"""By the name that manifests, offers and policies have for it."""


def precision_of(name: str) -> Precision | None:
    """What is sold under a name; None for one that nobody here knows."""
    return PRECISIONS.get(name)


def beside(name: str) -> tuple[str, ...]:
    """The precisions in which the same files may be served, this one among them."""
    known = PRECISIONS.get(name)
    if known is None or known.quantized:
        return (name,)
    return tuple(each for each, precision in PRECISIONS.items() if not precision.quantized)
