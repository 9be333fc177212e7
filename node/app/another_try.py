"""Whether a job that failed is tried again, or gone on with, and without whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from node.pipeline.buying.job import JobResult
from protocol.errors import JoulemeshError, RefusedError

__all__ = ["to_be_avoided", "wants_credit_less", "worth_another_try"]

_OWN_FAULTS = frozenset({"malformed", "bad-signature", "context", "cap"})
"""Codes of refusals that no honest provider would spare this client: two of them, and it is its own fault."""


def worth_another_try(results: Sequence[JobResult]) -> bool:
    """Whether a job may be tried anew, or gone on with: its answer is not complete, and a provider failed it.

    Args:
        results: of all attempts so far, at least one.
    """
    result = results[-1]
    if result.error is None or result.tab.ended or not result.culprits:
        return False
    return sum(each.error is not None and each.error.code in _OWN_FAULTS for each in results) < 2


def wants_credit_less(error: JoulemeshError | None) -> bool:
    """Whether a provider would do the job, had it not been asked to serve ahead of its payment."""
    return isinstance(error, RefusedError) and error.code == "credit"


def to_be_avoided(result: JobResult, known: Callable[[bytes], Collection[bytes]]) -> list[bytes]:
    """Public keys of providers that another try does without: those that failed the job, the likeliest last.

    One that refused is asked again where it has made another offer since: what it refuses today may be its price. One
    that said when to come back is left alone until then (`busy`).

    Args:
        known: a provider's sealed offers of the model that are in force.
    """
    avoided = []
    for leg in result.culprits:
        error = result.failures.get(leg)
        if wants_credit_less(error) or (isinstance(error, RefusedError) and error.retry_s):
            continue
        chosen = result.deal.legs[leg]
        node = chosen.leg.offer.public_key
        newer = [sealed for sealed in known(node) if sealed != chosen.sealed]
        if not isinstance(error, RefusedError) or not newer:
            avoided.append(node)
    return avoided
