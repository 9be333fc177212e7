"""Which model a client means, and which of the offers at hand are worth a closer look before a route is sought."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from protocol.errors import ConfigurationError
from protocol.identity.ids import ModelRoot
from protocol.market.offer import Offer
from protocol.policy.policy import Reason, ReasonCode
from protocol.reputation.merit import Merit
from protocol.routing.routes import NoRouteError

__all__ = [
    "ENOUGH",
    "MOST_NAMED",
    "SILENT",
    "MeritOf",
    "choose_model",
    "covers",
    "covers_some_model",
    "covers_twice",
    "likely",
    "namesakes",
    "nothing_known",
    "silent",
]

SILENT = Reason(ReasonCode.UNREACHABLE, "its node does not answer")
ENOUGH = Reason(ReasonCode.DEARER, "there are enough cheaper offers of its blocks")
MIN_PREFIX = 6
"""Hex digits of a root that name it, at least."""
MOST_LIKELY = 8
"""Offers whose nodes are asked for what any node of a model has."""
MOST_NAMED = 8
"""Models that are named to a person."""
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
    if len(meant) == 1:
        return ModelRoot(next(iter(meant)))
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
    if len(meant) < 2:
        return None
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


def likely(offers: Sequence[Offer], merit: MeritOf) -> list[Offer]:
    """A few offers of nodes that are likely to answer truly: those with merit first, then the cheapest by block."""

    def order(offer: Offer) -> tuple[int, int, bytes]:
        price = 1000 * (offer.rates.price_in + offer.rates.price_out) // len(offer.span)
        return -merit(offer.public_key), price, offer.public_key

    return sorted(offers, key=order)[:MOST_LIKELY]


def silent(offers: Sequence[Offer]) -> tuple[tuple[Offer, Reason], ...]:
    """Offers of nodes of which none answers, with that as the reason."""
    return tuple((offer, SILENT) for offer in offers)
