"""Which model is meant by a name, and what a client needs of it: manifest and tokenizer, kept for the next job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from node.app.models.obtaining import Text, fetch_manifest, fetch_tokenizer, kept_manifest
from node.events import Events, Namesakes
from protocol.identity.ids import ModelManifest, ModelRoot
from protocol.identity.peer_id import peer_id_of
from protocol.market.offer import Offer
from protocol.routing.choice import MOST_NAMED, choose_model, likely, namesakes, silent
from protocol.routing.no_route import none_answers
from protocol.routing.routes import NoRouteError

if TYPE_CHECKING:
    from node.app.network.membership import Network
    from node.app.network.roads import Roads

__all__ = ["MeantModels"]

HOLDERS_S = 10.0
"""For somebody to answer who might have a model's manifest."""
MOST_LYING = 4
"""Models that are passed over because their offers give them another name than their own."""


class MeantModels:
    """Belongs to one client.

    Args:
        join: the network.
        cache: where manifests and tokenizers are kept.
    """

    def __init__(self, join: Callable[[], Awaitable[tuple[Network, Roads]]], cache: Path, events: Events) -> None:
        self._join = join
        self._cache = cache
        self._events = events
        self._manifests: dict[bytes, ModelManifest] = {}
        self._texts: dict[bytes, Text] = {}
        self._told: set[bytes] = set()
        """Roots of models whose namesakes were told of."""

    async def model(self, name: str | None, offers: Sequence[Offer], used: Mapping[str, bytes]) -> ModelManifest:
        """The model that is meant by a name or the beginning of a root; by None, the only one that can be served.

        Args:
            used: the root that this client used last under each name.

        Raises:
            NoRouteError: nobody offers it, or nobody who does answers.
            ConfigurationError: several are meant.
            DishonestError, UnreachableError: no provider hands out its manifest.
        """
        network, _ = await self._join()
        lying: set[bytes] = set()
        for _ in range(MOST_LYING):
            truthful = [offer for offer in offers if offer.model not in lying]
            root = choose_model(truthful, name, used=used, merit=network.merits.of)
            manifest = await self._manifest(root)
            if name is None or manifest.name == name or root.hex().startswith(name.lower()):
                break
            lying.add(root)  # its offers give it a name that is not its own
        else:
            raise NoRouteError(
                f"those who offer a model {name!r} offer others under its name",
                code="no-offers",
                hint="choose one with --model, by the beginning of its root: `joule offers` lists them",
            )
        self._tell_namesakes(manifest, offers)
        return manifest

    async def _manifest(self, root: ModelRoot) -> ModelManifest:
        if root not in self._manifests:
            manifest = kept_manifest(root, self._cache)
            if manifest is None:
                network, _ = await self._join()
                manifest = await fetch_manifest(network.host, await self._holders(root), root, self._cache)
            self._manifests[root] = manifest
        return self._manifests[root]

    def _tell_namesakes(self, manifest: ModelManifest, offers: Sequence[Offer]) -> None:
        others = namesakes(offers, manifest.name, manifest.root)
        if others and manifest.root not in self._told:
            self._told.add(manifest.root)
            shown = tuple(root.hex()[:12] for root in others[:MOST_NAMED])
            self._events(Namesakes(model=manifest.name, root=manifest.root.hex()[:12], others=shown, count=len(others)))

    async def text(self, manifest: ModelManifest) -> Text:
        """A model's tokenizer, for one prompt and its answer. Raises DishonestError, ModelError, UnreachableError."""
        root = manifest.root
        if root not in self._texts:
            network, _ = await self._join()
            self._texts[root] = await fetch_tokenizer(network.host, await self._holders(root), manifest, self._cache)
        return self._texts[root].again()

    async def _holders(self, root: ModelRoot) -> list[str]:
        """Peer ids of nodes that offer a model and answer. Raises NoRouteError."""
        network, _ = await self._join()
        offers = network.book.offers(root)
        asked = likely(offers, network.merits.of)
        round_trips = await network.round_trips(asked, patience_s=HOLDERS_S, enough=bool)
        if not round_trips:
            raise none_answers(silent(offers))
        best_first = sorted(round_trips, key=lambda each: (-network.merits.of(each), round_trips[each]))
        return [peer_id_of(public_key) for public_key in best_first]
