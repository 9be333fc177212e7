"""Which models can be asked for now, and what the best route of each costs: found anew every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from node.app.buying.client import Client
from node.app.buying.request import Request
from node.gateway import OfferedModel
from protocol.errors import JoulemeshError
from protocol.identity.ids import ModelRoot
from protocol.market.offer import Offer
from protocol.routing.choice import covers
from protocol.routing.routes import Route, RouteLeg
from protocol.units import ceil_div

__all__ = ["OfferedModels"]

FRESH_S = 10.0
MOST_MODELS = 64
"""That routes are looked for at once; those that most offers are of."""
USUAL_PROMPT = 256
"""Tokens of the prompt that routes are compared for."""


class OfferedModels:
    """Belongs to one event loop.

    Args:
        market: its name.
    """

    def __init__(self, client: Client, market: str) -> None:
        self._client = client
        self._market = market
        self._found: Sequence[OfferedModel] = ()
        self._until_s = 0.0
        self._looking = asyncio.Lock()

    async def now(self) -> Sequence[OfferedModel]:
        """Of those with a way through all blocks. Raises JoulemeshError where the network cannot be joined."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() >= self._until_s:
                self._found = await self._look()
                self._until_s = loop.time() + FRESH_S
        return self._found

    async def _look(self) -> Sequence[OfferedModel]:
        offers = await self._client.offers()
        by_root: dict[ModelRoot, list[Offer]] = {}
        for offer in offers:
            by_root.setdefault(ModelRoot(offer.model), []).append(offer)
        roots = sorted(by_root, key=lambda root: (-len(by_root[root]), root))
        whole = [root for root in roots if covers(by_root[root], root.hex())][:MOST_MODELS]
        found = await asyncio.gather(*(self._model(root, by_root[root]) for root in whole))
        return tuple(each for each in found if each is not None)

    async def _model(self, root: ModelRoot, offers: Sequence[Offer]) -> OfferedModel | None:
        with suppress(JoulemeshError):  # it cannot be asked for now
            manifest, route, _ = await self._client.route(Request(prompt=(0,) * USUAL_PROMPT, model=root.hex(), most=1))
            return OfferedModel(
                name=manifest.name,
                root=root.hex(),
                license=manifest.license,
                precision=manifest.precision,
                places=tuple(dict.fromkeys(place for leg in route.legs for place in _places(leg.offer))),
                price_in_micro=route.price_in,
                price_out_micro=route.price_out,
                millijoules_per_token=_millijoules(route),
                heard_at=max(offer.issued_at for offer in offers),
                market=self._market,
            )
        return None


def _places(offer: Offer) -> tuple[str, ...]:
    return (offer.region or offer.jurisdiction, *offer.places)


def _millijoules(route: Route) -> int | None:
    found = [_share(leg) for leg in route.legs]
    return None if None in found else sum(each for each in found if each is not None)


def _share(leg: RouteLeg) -> int | None:
    energy = leg.offer.energy
    return None if energy is None else ceil_div(energy.millijoules_out * len(leg.span), len(leg.offer.span))
