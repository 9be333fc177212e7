"""Which model a client means, and which of the offers at hand are worth a closer look before a route is sought."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from protocol.errors import ConfigurationError
from protocol.ids import ModelRoot
from protocol.offer import Offer
from protocol.policy import Reason, ReasonCode
from protocol.routing import NoRouteError, Route
from protocol.units import ceil_div

__all__ = [
    "ENOUGH",
    "SILENT",
    "choose_model",
    "covers",
    "covers_some_model",
    "no_node_left",
    "route_among",
    "shortlist",
    "silent",
]

SILENT = Reason(ReasonCode.UNREACHABLE, "its node does not answer")
ENOUGH = Reason(ReasonCode.DEARER, "there are enough cheaper offers of its blocks")
MIN_PREFIX = 6
"""Hex digits of a root that name it, at least."""
WAYS = 8
"""Offers for each block that are looked at more closely."""
MOST = 64
"""Offers that are looked at more closely, in all."""


def covers(offers: Sequence[Offer], model: str | None) -> bool:
    """Whether the offers of some model (that is meant by `model`) cover all of its blocks."""
    return bool(_covered(_meant(offers, model)))


def covers_some_model(offers: Sequence[Offer]) -> bool:
    """Whether any model is covered."""
    return covers(offers, None)


def choose_model(offers: Sequence[Offer], model: str | None) -> ModelRoot:
    """The one model that is meant by a name or the beginning of a root, or by nothing where one can be served.

    Of several that are meant, those that no offers cover do not count.

    Raises:
        NoRouteError: nobody offers it.
        ConfigurationError: several are meant.
    """
    meant = _meant(offers, model)
    if not meant:
        others = ", ".join(sorted({offer.model_name for offer in offers}))
        raise NoRouteError(
            "no offers were heard" if model is None else f"nobody offers the model {model!r}",
            code="no-offers",
            hint=f"on offer: {others}" if others else "is a node running, and do --ledger and --peer name its network?",
        )
    served = _covered(meant) or meant.keys()
    if len(served) == 1:
        return ModelRoot(next(iter(served)))
    names = sorted(f"{meant[root][0].model_name} ({root.hex()[:12]})" for root in served)
    if not _covered(meant):
        raise NoRouteError(
            f"none of the models on offer has a node for each of its blocks: {', '.join(names)}",
            code="gap",
            hint="wait for more offers, or start a node that serves the missing blocks",
        )
    raise ConfigurationError(
        f"several models are on offer: {', '.join(names)}",
        hint="choose one with --model, by its name or by the beginning of its root in brackets",
    )


def _meant(offers: Sequence[Offer], model: str | None) -> Mapping[bytes, Sequence[Offer]]:
    """Offers by model root, of the models that are meant."""
    found: defaultdict[bytes, list[Offer]] = defaultdict(list)
    for offer in offers:
        found[offer.model].append(offer)
    if model is None:
        return found
    prefix = model.lower() if len(model) >= MIN_PREFIX else "-"
    return {
        root: of_root
        for root, of_root in found.items()
        if root.hex().startswith(prefix) or any(offer.model_name == model for offer in of_root)
    }


def _covered(meant: Mapping[bytes, Sequence[Offer]]) -> list[bytes]:
    return [root for root, offers in meant.items() if _complete(offers)]


def _complete(offers: Sequence[Offer]) -> bool:
    """Whether offers of one model leave no block out: of so many as most of their nodes say that it has."""
    claims = Counter(blocks for _, blocks in {(offer.public_key, offer.blocks) for offer in offers})
    blocks = max(claims, key=lambda each: (claims[each], each))
    end = 0
    for offer in sorted(offers, key=lambda each: each.span.start):
        if offer.blocks != blocks:
            continue
        if offer.span.start > end:
            return False
        end = max(end, offer.span.end)
    return end >= blocks


def shortlist(offers: Sequence[Offer], *, prompt_milli: int) -> list[Offer]:
    """The cheapest of some usable offers of one model, some for each block: those that are worth a connection.

    Args:
        prompt_milli: thousandths of the job's tokens that are prompt.
    """
    ways = np.zeros(max((offer.span.end for offer in offers), default=0), dtype=np.int64)
    found: list[Offer] = []

    def per_block(offer: Offer) -> tuple[int, bytes]:
        rates = offer.rates
        price = prompt_milli * rates.price_in + (1000 - prompt_milli) * rates.price_out
        return ceil_div(price, len(offer.span)), offer.public_key

    for offer in sorted(offers, key=per_block):
        part = ways[offer.span.start : offer.span.end]
        if len(found) < MOST and part.min(initial=WAYS) < WAYS:
            part += 1
            found.append(offer)
    return found


def route_among(
    offers: Sequence[Offer], without: Mapping[bytes, Reason], find: Callable[[Sequence[Offer]], Route]
) -> Route:
    """The route that `find` makes of the offers, less those by some nodes.

    An offer outlives a node that died: to order from such a one would hold the client's money for nothing.

    Args:
        without: public keys of nodes that are not used, whatever they offer, and why.

    Raises NoRouteError, which like the route says of these, too, why they were not used.
    """
    others = tuple((offer, without[offer.public_key]) for offer in offers if offer.public_key in without)
    if offers and len(others) == len(offers):
        raise no_node_left(others)
    try:
        found = find([offer for offer in offers if offer.public_key not in without])
    except NoRouteError as error:
        everything = (*error.explanations, *others)
        raise NoRouteError(error.message, code=error.code, hint=error.hint, explanations=everything) from None
    return replace(found, explanations=(*found.explanations, *others))


def silent(offers: Sequence[Offer]) -> tuple[tuple[Offer, Reason], ...]:
    """Offers of nodes of which none answers, with that as the reason."""
    return tuple((offer, SILENT) for offer in offers)


def no_node_left(reasons: Sequence[tuple[Offer, Reason]]) -> NoRouteError:
    """What to raise where there are offers, and none of their nodes can be used."""
    silent = all(reason == SILENT for _, reason in reasons)
    return NoRouteError(
        f"none of the nodes that offer this model {'answers' if silent else 'can be used'} ({len(reasons)} offers)",
        code="unreachable",
        hint="try again: the offers of nodes that are gone expire within minutes",
        explanations=tuple(reasons),
    )
