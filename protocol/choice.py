"""Which model a client means, and which of the offers at hand are worth a closer look before a route is sought."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from protocol.errors import ConfigurationError
from protocol.ids import ModelRoot
from protocol.merit import Merit
from protocol.messages import MAX_LEGS
from protocol.offer import Offer, offer_key
from protocol.policy import Reason, ReasonCode
from protocol.routing import NoRouteError, Route
from protocol.units import ceil_div

__all__ = [
    "ENOUGH",
    "FIRST",
    "MOST_NAMED",
    "SILENT",
    "MeritOf",
    "choose_model",
    "covers",
    "covers_some_model",
    "covers_twice",
    "namesakes",
    "no_node_left",
    "nothing_known",
    "route_among",
    "shortlist",
    "silent",
]

SILENT = Reason(ReasonCode.UNREACHABLE, "its node does not answer")
ENOUGH = Reason(ReasonCode.DEARER, "there are enough cheaper offers of its blocks")
MIN_PREFIX = 6
"""Hex digits of a root that name it, at least."""
FIRST = 8
"""Offers that are looked at more closely at first; then, where they make no route, twice as many, and so on."""
MOST_OF_ONE_SPAN = 64
MOST_WEIGHED = 512
"""Offers that are weighed for a shortlist, the best of each span."""
MOST_NAMED = 8
"""Models that are named to a person."""
HOP = 100_000
"""What a further leg is worth unless it is said otherwise, in micro-units per million tokens."""
MOST_HOP = 1_000_000_000
"""So that the sums stay within 63 bits, whatever prices are on offer."""
_NOT_REACHED = 1 << 62

MeritOf = Callable[[bytes], Merit]
"""The merit of a public key."""


def nothing_known(_: bytes) -> Merit:
    """Where every key is like any other."""
    return Merit.NEWCOMER


def covers(offers: Sequence[Offer], model: str | None, *, used: Mapping[str, bytes] = MappingProxyType({})) -> bool:
    """Whether the offers of some model (that is meant by `model`) cover all of its blocks.

    Args:
        used: the root that this client used last under each name.
    """
    covered = _covered(_meant(offers, model))
    return used[model] in covered if model is not None and model in used else bool(covered)


def covers_some_model(offers: Sequence[Offer]) -> bool:
    """Whether any model is covered."""
    return covers(offers, None)


def covers_twice(offers: Sequence[Offer], root: bytes) -> bool:
    """Whether each block of a model is on offer by two nodes, so that any of them could be replaced."""
    of_model = [offer for offer in offers if offer.model == root]
    return bool(of_model) and _complete(of_model, times=2)


def choose_model(
    offers: Sequence[Offer],
    model: str | None,
    *,
    used: Mapping[str, bytes] = MappingProxyType({}),
    merit: MeritOf = nothing_known,
) -> ModelRoot:
    """The one model that is meant by a name or the beginning of a root, or by nothing where one can be served.

    A name means the root that this client used under it before (docs/spec/market.md, clause M9). Otherwise, of several
    that are meant, those that no offers cover do not count; and where several are left, those that are covered by keys
    with merit go before those that anybody could have made up.

    Args:
        used: the root that this client used last under each name.

    Raises:
        NoRouteError: nobody offers it.
        ConfigurationError: several are meant.
    """
    meant = _meant(offers, model)
    known = _known(meant, model, used)
    if known is not None:
        return ModelRoot(known)
    if not meant:
        others = ", ".join(sorted({offer.model_name for offer in offers})[:MOST_NAMED])
        raise NoRouteError(
            "no offers were heard" if model is None else f"nobody offers the model {model!r}",
            code="no-offers",
            hint=f"on offer: {others}" if others else "is a node running, and do --ledger and --peer name its network?",
        )
    served = _proven(meant, merit) or _covered(meant) or list(meant)
    if len(served) == 1:
        return ModelRoot(served[0])
    names = sorted(f"{meant[root][0].model_name} ({root.hex()[:12]})" for root in served)
    listed = ", ".join([*names[:MOST_NAMED], *(["and others"] if len(names) > MOST_NAMED else [])])
    if not _covered(meant):
        raise NoRouteError(
            f"none of the models on offer has a node for each of its blocks: {listed}",
            code="gap",
            hint="wait for more offers, or start a node that serves the missing blocks",
        )
    raise ConfigurationError(
        f"several models are on offer: {listed}",
        hint="choose one with --model, by its name or by the beginning of its root in brackets",
    )


def _known(meant: Mapping[bytes, Sequence[Offer]], model: str | None, used: Mapping[str, bytes]) -> bytes | None:
    """The root that this client used before, where it is what is meant and can be used again."""
    if model is not None and model in used:
        root = used[model]
        if root not in meant and meant:
            found = ", ".join(sorted(each.hex()[:12] for each in meant)[:MOST_NAMED])
            raise NoRouteError(
                f"nobody offers the {model} that was used here before ({root.hex()[:12]})",
                code="no-offers",
                hint=f"others have that name: {found}; --model with the beginning of such a root takes another one",
            )
        return root if meant else None
    before = [root for root in _covered(meant) if root in set(used.values())]
    return before[0] if len(before) == 1 else None


def _proven(meant: Mapping[bytes, Sequence[Offer]], merit: MeritOf) -> list[bytes]:
    """The models that are covered by keys that somebody has paid, if there are any."""
    return _covered(
        {
            root: proven
            for root, offers in meant.items()
            if (proven := [offer for offer in offers if merit(offer.public_key) >= Merit.PAID])
        }
    )


def namesakes(offers: Sequence[Offer], name: str, root: bytes) -> list[bytes]:
    """Roots of other models that are on offer under a model's name, in order."""
    return sorted({offer.model for offer in offers if offer.model_name == name and offer.model != root})


def _meant(offers: Sequence[Offer], model: str | None) -> Mapping[bytes, Sequence[Offer]]:
    """Offers by model root, of the models that are meant."""
    found: defaultdict[bytes, list[Offer]] = defaultdict(list)
    for offer in offers:
        found[offer.model].append(offer)
    if model is None:
        return found
    prefix = model.lower() if len(model) >= MIN_PREFIX else "-"
    by_root = {root: of_root for root, of_root in found.items() if root.hex().startswith(prefix)}
    return by_root or {
        root: of_root for root, of_root in found.items() if any(offer.model_name == model for offer in of_root)
    }


def _covered(meant: Mapping[bytes, Sequence[Offer]]) -> list[bytes]:
    return [root for root, offers in meant.items() if _complete(offers)]


def _complete(offers: Sequence[Offer], times: int = 1) -> bool:
    """Whether the nodes of these offers hold each block of one model so many times.

    The model has so many blocks as most of them say.
    """
    claims = Counter(blocks for _, blocks in {(offer.public_key, offer.blocks) for offer in offers})
    blocks = max(claims, key=lambda each: (claims[each], each))
    ends = [0] * times
    spans = {(offer.span.start, offer.span.end, offer.public_key) for offer in offers if offer.blocks == blocks}
    for start, end, _ in sorted(spans):
        if start > ends[0]:
            return False
        ends = sorted((max(ends[0], end), *ends[1:]))
    return ends[0] >= blocks


def shortlist(
    offers: Sequence[Offer],
    *,
    prompt_milli: int,
    merit: MeritOf = nothing_known,
    most: int = FIRST,
    hop: int = HOP,
) -> list[Offer]:
    """Those of some usable offers of one model that are worth a connection: of the best routes, one after another.

    Each route is the cheapest of those whose nodes are in none before, over keys that somebody has paid where they
    suffice, then over newcomers, then over those who failed this client. Offers that make no whole route come last.

    Args:
        prompt_milli: thousandths of the job's tokens that are prompt.
        most: offers after which no further route is begun.
        hop: what a further leg is worth, in micro-units per million tokens.
    """
    ranks = {offer.public_key: merit(offer.public_key) for offer in offers}
    left = _cheapest_of_each_span(offers, ranks, prompt_milli)
    found: list[Offer] = []
    for least in (Merit.PAID, Merit.NEWCOMER, Merit.SHUNNED):
        while len(found) < most:
            chain = _chain([each for each in left if ranks[each[1].public_key] >= least], hop)
            if not chain:
                break
            taken = {offer.public_key for offer in chain}
            if len(chain) <= MAX_LEGS:
                found += chain
            left = [each for each in left if each[1].public_key not in taken]
    return found or [offer for _, offer in left[:most]]


def _cheapest_of_each_span(
    offers: Sequence[Offer], ranks: Mapping[bytes, Merit], prompt_milli: int
) -> list[tuple[int, Offer]]:
    """Offers with a thousand times the price of one block, the best first; of those of one span only so many."""

    def per_block(offer: Offer) -> int:
        rates = offer.rates
        price = prompt_milli * rates.price_in + (1000 - prompt_milli) * rates.price_out
        return ceil_div(price, len(offer.span))

    priced = sorted(
        ((per_block(offer), offer) for offer in offers),
        key=lambda each: (-ranks[each[1].public_key], each[0], offer_key(each[1])),
    )
    of_span: Counter[tuple[int, int, bool]] = Counter()
    kept: list[tuple[int, Offer]] = []
    for price, offer in priced:
        place = offer.span.start, offer.span.end, ranks[offer.public_key] >= Merit.PAID
        of_span[place] += 1
        if of_span[place] <= MOST_OF_ONE_SPAN and len(kept) < MOST_WEIGHED:
            kept.append((price, offer))
    return kept


def _chain(priced: Sequence[tuple[int, Offer]], hop: int) -> list[Offer]:
    """The cheapest chain over all blocks, first block to last; none where a block is left out.

    An offer is used from where the one before ends to its own end. Positions are the ends of offers: nothing is as
    long as the numbers in them say.
    """
    blocks = max((offer.blocks for _, offer in priced), default=0)
    ends = np.array(sorted({0} | {offer.span.end for _, offer in priced}), dtype=np.int64)
    cost = np.full(len(ends), _NOT_REACHED, dtype=np.int64)
    cost[0] = 0
    before: dict[int, tuple[int, Offer]] = {}
    for price, offer in sorted(priced, key=lambda each: (each[1].span.end, each[0])):
        low, high = np.searchsorted(ends, (offer.span.start, offer.span.end)).tolist()
        ways = cost[low:high] + price * (offer.span.end - ends[low:high])
        if not len(ways):
            continue
        best = int(ways.argmin())
        total = int(ways[best]) + 1000 * min(hop, MOST_HOP)
        if cost[low + best] < _NOT_REACHED and total < cost[high]:
            cost[high] = total
            before[high] = low + best, offer
    at = int(np.searchsorted(ends, blocks))
    chain: list[Offer] = []
    while at in before:
        at, offer = before[at]
        chain.append(offer)
    return chain[::-1] if at == 0 else []


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
