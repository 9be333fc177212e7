"""What the live page shows, as its JSON has it (`GET /state`)."""

from __future__ import annotations

from dataclasses import dataclass

from node.app.buying.kept_receipts import ListedReceipt
from node.app.buying.markets import MarketBalance
from node.app.diagnosis.finding import Finding
from node.energy import EnergyReport
from protocol.market.market_figures import MarketFigures
from protocol.serving.earnings import Sum

__all__ = [
    "CheckpointView", "ClientView", "NetworkView", "NodeView", "OfferView", "PageState", "PlaceView", "RefusalView",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """What the ledger has signed last, of all that was seen here."""

    origin: str
    """The log's name."""
    size: int
    """Entries."""
    root: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceView:
    """A country on the map."""

    place: str
    """ISO 3166-1 alpha-2, or ``ZZ`` where offers declare none."""
    north: float | None
    """Degrees of about its middle; null for ``ZZ``."""
    east: float | None
    """Likewise."""
    offers: int
    """That stand there."""
    low_out: int
    """Micro-units per million generated tokens through a whole model: the cheapest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferView:
    """One offer."""

    provider: bytes
    """Its address."""
    model: str
    """Its name, as the offer says."""
    blocks: str
    """``START:END`` of so many."""
    place: str
    """Country, or part of one, as the operator claims."""
    price_in: int
    """Micro-units per million prompt tokens, for its blocks."""
    price_out: int
    """Likewise for generated tokens."""
    millijoules: int | None
    """Of a generated token through its blocks, as it says; null where it does not."""
    source: str
    """Where that figure comes from."""
    free: int
    """Places for jobs."""
    expires_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """The network as this machine sees it."""

    venue: str
    """The ledger or contract, without secrets."""
    error: str
    """Why it or the network cannot be seen; empty where they can."""
    checkpoint: CheckpointView | None
    """Null on a chain."""
    witnesses: int
    """Witnesses that are trusted here."""
    models: tuple[MarketFigures, ...]
    """As `joule market` has them."""
    places: tuple[PlaceView, ...]
    """In order of their codes."""
    offers: tuple[OfferView, ...]
    """The cheapest first, a few hundred at most."""
    heard: int
    """Offers in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalView:
    """Orders of today that were refused for one reason."""

    code: str
    """Of the refusal."""
    count: int
    """How many."""
    reason: str
    """Of the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node that runs with this data directory."""

    address: bytes
    """Of its key."""
    serves: str
    """Blocks and model; empty while it starts."""
    jobs: int
    """That run now."""
    tokens_per_s: float | None
    """Generated over the last hour's jobs, while they ran; null where there were none."""
    energy: EnergyReport | None
    """Null until the node has written one."""
    ask: tuple[int, ...]
    """Micro-units per million generated tokens through its blocks: now, and in each hour to come, by its offer."""
    energy_cost: int | None
    """Of those, what the energy costs now; null where it is not known."""
    days: tuple[Sum, ...]
    """What it earned, by day, oldest first."""
    refusals: tuple[RefusalView, ...]
    """The most frequent first."""
    findings: tuple[Finding, ...]
    """As `joule doctor` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientView:
    """Jobs that were run from this data directory."""

    address: bytes | None
    """Of the key; null where there is none."""
    free: int | None
    """Micro-units on its account; null where the ledger does not say."""
    markets: tuple[MarketBalance, ...]
    """What it had at each market of the gateway here some seconds ago; empty where no gateway buys at several."""
    spent: int
    """Micro-units by those of the newest 200 receipts that verify."""
    receipts: tuple[ListedReceipt, ...]
    """Newest first, a few dozen at most."""
    kept: int
    """Receipts in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageState:
    """All that the page shows."""

    at: int
    """Unix seconds."""
    network: NetworkView
    """The network that is seen from here."""
    nodes: tuple[NodeView, ...]
    """That run here."""
    client: ClientView
    """Of the key that the page was started with."""
