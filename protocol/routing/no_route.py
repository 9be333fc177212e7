"""Why there is no route: what to raise, and what to tell a person to do."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.market.offer import Offer
from protocol.policy.policy import Policy, ReasonCode
from protocol.policy.residency import places_of
from protocol.routing.candidates import Candidates, Limit, Limits
from protocol.routing.cells import Cells
from protocol.routing.routes import Explained, NoRouteError
from protocol.routing.search import unreachable
from protocol.units import format_micro

__all__ = ["beyond_limits", "no_cover", "no_lawful_way", "none_answers", "nothing_usable"]


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


def none_answers(rejected: Sequence[Explained]) -> NoRouteError:
    """There are offers, and none of their nodes can be used."""
    silent = all(reason.code == ReasonCode.UNREACHABLE for _, reason in rejected)
    return NoRouteError(
        f"none of the nodes that offer this model {'answers' if silent else 'can be used'} ({len(rejected)} offers)",
        code="unreachable",
        hint="try again: the offers of nodes that are gone expire within minutes",
        explanations=rejected,
    )


def no_lawful_way(policy: Policy, hop: tuple[Offer, Offer], rejected: Sequence[Explained]) -> NoRouteError:
    """There are routes, and each has a hop that data must not take.

    Args:
        hop: one that the cheapest of them would take.
    """
    source, to = (" and ".join(places_of(each)) for each in hop)
    return NoRouteError(
        "every route has a hop that your policy forbids: "
        f"no corridor for {policy.purpose} leads from {source} to {to}, for one",
        code="no-corridor",
        hint="add the corridor with --corridor if the law allows it, or wait for nodes elsewhere",
        explanations=rejected,
    )


def no_cover(
    candidates: Candidates, cells: Cells, rejected: Sequence[Explained], closed: Sequence[Explained]
) -> NoRouteError:
    """Some block is served by no candidate.

    Args:
        closed: those that could serve more, were they trusted.
    """
    open_blocks = [block for block in range(cells.blocks) if not len(cells.at(block))]
    if closed and all(((candidates.start <= block) & (block < candidates.end)).any() for block in open_blocks):
        return _nobody_trusted(open_blocks, [*rejected, *closed])
    ranges: list[list[int]] = []
    for block in open_blocks:
        if ranges and ranges[-1][1] == block:
            ranges[-1][1] = block + 1
        else:
            ranges.append([block, block + 1])
    gaps = ", ".join(f"{start}:{end}" for start, end in ranges)
    others = sum(reason.code != ReasonCode.MODEL for _, reason in rejected)
    return NoRouteError(
        f"no usable offer serves blocks {gaps} of {cells.blocks}",
        code="gap",
        hint="loosen what excludes them, or wait for more offers"
        if others
        else "wait for more offers, or start a node that serves these blocks",
        explanations=rejected,
    )


def _nobody_trusted(blocks: Sequence[int], rejected: Sequence[Explained]) -> NoRouteError:
    named = ", ".join(map(str, blocks))
    return NoRouteError(
        f"nobody whom you trust with the first and the last blocks offers block{'s' * (len(blocks) > 1)} {named}",
        code="untrusted",
        hint="wait for one of them, name another one with --trusted-end, or run a node with these blocks yourself",
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
        "no route was found within the limits on price, time per token, 16 legs and one leg for each provider together;"
        " the search is bounded, so that this is no proof that there is none",
        code="no-route",
        hint="relax one of the limits",
        explanations=rejected,
    )
