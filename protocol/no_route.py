"""Why there is no route: what to raise, and what to tell a person to do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocol.candidates import Candidates, Limit, Limits
from protocol.policy import ReasonCode
from protocol.routes import Explained, NoRouteError
from protocol.search import unreachable
from protocol.units import format_micro

__all__ = ["beyond_limits", "no_cover", "nothing_usable"]


def nothing_usable(rejected: Sequence[Explained]) -> NoRouteError:
    """No offer may be used."""
    if all(reason.code == ReasonCode.MODEL for _, reason in rejected):
        return NoRouteError(
            "nobody offers this model",
            code="no-offers",
            hint="wait for offers to arrive, or start a node that serves it",
            explanations=rejected,
        )
    served = sum(reason.code != ReasonCode.MODEL for _, reason in rejected)
    return NoRouteError(
        f"none of the {served} offers of this model can be used",
        code="all-excluded",
        hint="see the reason for each, and relax the policy where you can",
        explanations=rejected,
    )


def no_cover(candidates: Candidates, rejected: Sequence[Explained]) -> NoRouteError:
    """Some block is served by no candidate."""
    steps = np.zeros(candidates.blocks + 1, dtype=np.int64)
    np.add.at(steps, candidates.start, 1)
    np.add.at(steps, candidates.end, -1)
    open_blocks = np.flatnonzero(np.cumsum(steps)[:-1] == 0).tolist()
    ranges: list[list[int]] = []
    for block in open_blocks:
        if ranges and ranges[-1][1] == block:
            ranges[-1][1] = block + 1
        else:
            ranges.append([block, block + 1])
    gaps = ", ".join(f"{start}:{end}" for start, end in ranges)
    others = sum(reason.code != ReasonCode.MODEL for _, reason in rejected)
    return NoRouteError(
        f"no usable offer serves blocks {gaps} of {candidates.blocks}",
        code="gap",
        hint="loosen what excludes them, or wait for more offers"
        if others
        else "wait for more offers, or start a node that serves these blocks",
        explanations=rejected,
    )


def beyond_limits(candidates: Candidates, limits: Limits, rejected: Sequence[Explained]) -> NoRouteError:
    """Which limit cannot be kept by any route; where each alone could be, that they were not kept together."""
    certain = unreachable(candidates, limits)
    if certain is not None and certain[0] is Limit.TIME:
        return NoRouteError(
            f"the fastest route takes {certain[1] // 1000} ms for a token, and the latency class allows"
            f" {limits.time_us // 1000} ms",
            code="too-slow",
            hint="choose a latency class with more time, or nearer providers",
            explanations=rejected,
        )
    if certain is not None and certain[0] is Limit.FIRST:
        return NoRouteError(
            f"the first token takes {certain[1] // 1000} ms at least, and the latency class allows"
            f" {(limits.first_us or 0) // 1000} ms",
            code="too-slow",
            hint="choose a latency class with more time, or ask with a shorter prompt",
            explanations=rejected,
        )
    if certain is not None:
        word, cap = ("prompt", limits.price_in) if certain[0] is Limit.PRICE_IN else ("generated", limits.price_out)
        return NoRouteError(
            f"the cheapest route costs {format_micro(certain[1])} per 1M {word} tokens, and your limit is"
            f" {format_micro(cap or 0)}",
            code="price-cap",
            hint="raise the limit, or wait for cheaper offers",
            explanations=rejected,
        )
    return NoRouteError(
        "no route was found within the limits on price, time per token, 16 legs and one leg for each provider together",
        code="no-route",
        hint="relax one of the limits",
        explanations=rejected,
    )
