"""Whether a job that failed is tried again, or gone on with, without whom, and on which other plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from node.app.buying.planning import JobPlan
from node.app.buying.request import Request, going_on
from node.market import OfferBook
from node.pipeline.buying.job import JobResult
from protocol.errors import JoulemeshError, RefusedError
from protocol.market.offer import Offer
from protocol.routing.choice import covers

if TYPE_CHECKING:
    from node.app.network.membership import Network
    from node.app.network.roads import Roads

__all__ = ["look_again", "plan_again", "to_be_avoided", "wants_credit_less", "worth_another_try"]

_OWN_FAULTS = frozenset({"malformed", "bad-signature", "context", "cap", "grammar"})
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


class Offers(Protocol):
    """Waits for offers, until they are enough; see `Client.offers`."""

    async def __call__(self, *, enough: Callable[[Sequence[Offer]], bool]) -> Sequence[Offer]: ...


async def look_again(plan: JobPlan, result: JobResult, network: Network, roads: Roads) -> None:
    """Look at the providers that failed a job: at what they offer now, or whether they are there at all."""
    for leg in result.culprits:
        offer = plan.deal.offer(leg)
        with suppress(JoulemeshError):
            if isinstance(result.failures.get(leg), RefusedError):
                await network.ask_node(offer)
            else:
                await roads.round_trips([offer], fresh_s=0)  # so that later jobs know, too


async def plan_again(
    plan: JobPlan,
    result: JobResult,
    book: OfferBook,
    offers: Offers,
    make: Callable[[Request], Awaitable[JobPlan]],
) -> JobPlan | JoulemeshError:
    """Another plan for what is left of a job that providers failed, without them, or why there is none.

    Somebody else's offer may not have been heard yet: it waits for one that closes the gap, as a first plan does.
    """
    model = plan.manifest.root.hex()
    avoided = to_be_avoided(result, partial(book.sealed, plan.manifest.root))
    found: JobPlan | JoulemeshError
    # Of several that may be at fault the likeliest is avoided at least.
    for out in (avoided, avoided[-1:])[: max(1, len(avoided))]:
        exclude = plan.request.exclude | frozenset(out)
        await offers(enough=partial(_are_enough, model=model, without=exclude))
        request = replace(
            going_on(plan.request, result),
            model=model,
            exclude=exclude,
            credit=plan.request.credit and not any(map(wants_credit_less, result.failures.values())),
        )
        try:
            return await make(request)
        except JoulemeshError as error:
            found = error
    return found


def _are_enough(offers: Sequence[Offer], *, model: str, without: Collection[bytes]) -> bool:
    return covers([offer for offer in offers if offer.public_key not in without], model)
