"""Which model a client means, and whether the offers at hand cover it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from protocol.errors import ConfigurationError
from protocol.ids import ModelRoot
from protocol.offer import Offer
from protocol.policy import Reason, ReasonCode
from protocol.routing import NoRouteError, Route

__all__ = ["choose_model", "covers", "covers_some_model", "require_answers", "route_among"]

_SILENT = Reason(ReasonCode.UNREACHABLE, "its node does not answer")


def covers(offers: Sequence[Offer], model: str | None) -> bool:
    """Whether the offers of some model (that is meant by `model`) cover all of its blocks."""
    return any(_complete([each for each in offers if each.model == root]) for root in _meant(offers, model))


def covers_some_model(offers: Sequence[Offer]) -> bool:
    """Whether any model is covered."""
    return covers(offers, None)


def _meant(offers: Sequence[Offer], model: str | None) -> set[bytes]:
    return {
        offer.model
        for offer in offers
        if model is None or model == offer.model_name or offer.model.hex().startswith(model)
    }


def _complete(offers: Sequence[Offer]) -> bool:
    held = {block for offer in offers for block in range(offer.span.start, min(offer.span.end, offer.blocks))}
    return len(held) == max(offer.blocks for offer in offers)


def choose_model(offers: Sequence[Offer], model: str | None) -> ModelRoot:
    """The one model that is meant by a name or the beginning of a root.

    Raises NoRouteError when nobody offers it, ConfigurationError when several are meant.
    """
    meant = _meant(offers, model)
    if not meant:
        others = ", ".join(sorted({offer.model_name for offer in offers}))
        raise NoRouteError(
            "no offers were heard" if model is None else f"nobody offers the model {model!r}",
            code="no-offers",
            hint=f"on offer: {others}" if others else "is a node running, and do --ledger and --peer name its network?",
        )
    if len(meant) > 1:
        names = sorted({f"{offer.model_name} ({offer.model.hex()[:12]})" for offer in offers if offer.model in meant})
        raise ConfigurationError(f"several models are on offer: {', '.join(names)}", hint="choose one with --model")
    return ModelRoot(meant.pop())


def require_answers(offers: Sequence[Offer], answered: Collection[bytes]) -> None:
    """Raises NoRouteError where no node behind the offers answered (public keys)."""
    if not answered:
        raise NoRouteError(
            f"none of the nodes that offer this model answers ({len(offers)} offers)",
            code="unreachable",
            hint="try again: the offers of nodes that are gone expire within minutes",
            explanations=tuple((offer, _SILENT) for offer in offers),
        )


def route_among(
    offers: Sequence[Offer], answered: Collection[bytes], find: Callable[[Sequence[Offer]], Route]
) -> Route:
    """The route that `find` makes of the offers by nodes that answered (public keys).

    An offer outlives a node that died: to order from such a one would hold the client's money for nothing. Raises
    NoRouteError, which like the route says of the others that they did not answer.
    """
    silent = tuple((offer, _SILENT) for offer in offers if offer.public_key not in answered)
    try:
        found = find([offer for offer in offers if offer.public_key in answered])
    except NoRouteError as error:
        everything = (*error.explanations, *silent)
        raise NoRouteError(error.message, code=error.code, hint=error.hint, explanations=everything) from None
    return replace(found, explanations=(*found.explanations, *silent))
