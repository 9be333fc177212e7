"""What a node offers, to whom it is bound, and when an offer is worth passing on.

A sealed offer (`signing.seal`) travels by gossip and from book to book. Its claims bind nobody: a session on the ledger
does. What can be checked cheaply is checked by everyone who relays it; the rest is the client's policy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from protocol.codec import Count, Message, TextSize, message
from protocol.errors import ExpiredError, MalformedError, SignatureError
from protocol.ids import U32, U40, U64, Address, BlockSpan, Bytes32, Name, PublicKeyBytes
from protocol.jurisdictions import COUNTRIES, UNDECLARED
from protocol.signing import address_of_public_key
from protocol.tariff import MAX_PRICE, ONE_PUE

__all__ = [
    "CLOCK_SKEW_S",
    "MAX_TTL_S",
    "EnergyClaim",
    "Evidence",
    "Offer",
    "OfferKey",
    "Provenance",
    "check_offer",
    "offer_key",
    "supersedes",
]

MAX_TTL_S = 15 * 60
"""Longest life of an offer: it is re-sent while it holds, so a dead node's offers soon vanish."""
CLOCK_SKEW_S = 60
"""How far ahead the sender's clock may be."""

Country = Annotated[str, TextSize(2)]
"""ISO 3166-1 alpha-2."""


class Provenance(StrEnum):
    """Where a figure of energy comes from, best first. What is not known at all is `None`, never 0."""

    WALL = "wall"
    """A meter at the socket, the whole machine."""
    NVML = "nvml"
    """The GPU's energy counter."""
    RAPL = "rapl"
    """The CPU package's energy counter."""
    MODEL = "model"
    """Computed from busy time and an assumed power."""
    DECLARED = "declared"
    """The operator's word."""


class Evidence(StrEnum):
    """How a claimed location is backed, weakest first."""

    CLAIMED = "claimed"
    """The operator's word."""
    RTT_CONSISTENT = "rtt_consistent"
    """No measured round trip contradicts it."""
    RTT_PROVEN = "rtt_proven"
    """A round trip to an anchor inside is too short for the machine to stand outside."""
    ATTESTED = "attested"
    """Signed for by a party that the client trusts."""

    def reaches(self, least: Evidence) -> bool:
        """Whether this evidence is at least as strong as `least`."""
        return _STRENGTH[self] >= _STRENGTH[least]


_STRENGTH = {evidence: strength for strength, evidence in enumerate(Evidence)}


@message()
class EnergyClaim(Message):
    """What a token costs in energy, and what energy costs there."""

    millijoules_per_token: U64
    """For the offer's whole span, at the machine; above 0."""
    source: Provenance
    """Where the figure comes from."""
    tariff_micro_per_kwh: U64
    """Micro-units per kWh now."""
    pue_milli: U32
    """Power usage effectiveness of the site in thousandths; at least 1000."""
    carbon_g_per_kwh: U32 | None
    """Grams of CO2 equivalent per kWh of the site's supply; None when unknown."""
    batch: U32
    """Mean positions in one pass while the figure was taken, rounded; at least 1. Energy per token falls with it."""


@message("offer/1")
class Offer(Message):
    """Some blocks of one model for hire, sealed with the node's key."""

    public_key: PublicKeyBytes
    """Of the node; the seal must be its own."""
    sequence: U64
    """Above that of every earlier offer of the same blocks of the same model by this node."""
    issued_at: U40
    """Unix seconds."""
    expires_at: U40
    """Unix seconds; at most `MAX_TTL_S` after `issued_at`."""
    venue: Bytes32
    """Domain separator of the ledger that the node settles on."""
    model: Bytes32
    """Model root."""
    model_name: Name
    """For people."""
    span: BlockSpan
    """Blocks that it serves; a route may use some of them."""
    blocks: U32
    """Blocks in the whole model."""
    precision: Name
    """As in the model's manifest."""
    kv_tokens: U64
    """Positions of KV that a new session could have."""
    position_us: U32
    """Microseconds of compute for one decoded position through the whole span; at least 1."""
    price_in: U64
    """Micro-units per million prompt tokens, whole span; at most `tariff.MAX_PRICE`."""
    price_out: U64
    """Micro-units per million generated tokens, whole span; at most `tariff.MAX_PRICE`."""
    energy: EnergyClaim | None
    """None when the node does not know."""
    jurisdiction: Country
    """Where the machine stands, or `jurisdictions.UNDECLARED`."""
    evidence: Evidence
    """What backs `jurisdiction`."""
    stake: U64
    """Micro-units that the node says it can lose; the ledger knows better."""
    addresses: Annotated[tuple[Annotated[str, TextSize(256)], ...], Count(1, 8)]
    """Multiaddresses of its libp2p host."""
    data_address: Annotated[str, TextSize(128)]
    """Its data plane, such as ``/ip4/203.0.113.7/tcp/4002/tls``."""


OfferKey = tuple[bytes, bytes, int, int]
"""Public key, model, first block, end block: of all offers with one key, the newest counts."""


def offer_key(offer: Offer) -> OfferKey:
    """What a later offer must share with this one to replace it."""
    return offer.public_key, offer.model, offer.span.start, offer.span.end


def supersedes(new: Offer, old: Offer) -> bool:
    """Whether `new` replaces `old`."""
    return offer_key(new) == offer_key(old) and new.sequence > old.sequence


def check_offer(offer: Offer, signer: Address, now: int) -> None:
    """Hold an offer against everything that needs no I/O, cheapest first (docs/spec/market.md, clauses M1 to M4).

    The caller still owes: that nothing newer supersedes it, and the client's policy.

    Raises:
        ExpiredError: expired, or dated in the future.
        MalformedError: a value that no offer may have.
        SignatureError: the signer is not the node that it speaks for.
    """
    # M1: it is in force, and was made to last no longer than allowed.
    if offer.issued_at > now + CLOCK_SKEW_S:
        raise ExpiredError("the offer is dated in the future", hint="compare the clocks of both machines")
    if offer.expires_at <= now:
        raise ExpiredError("the offer has expired")
    if not offer.issued_at < offer.expires_at <= offer.issued_at + MAX_TTL_S:
        raise MalformedError(f"an offer lasts 1 to {MAX_TTL_S} s, not {offer.expires_at - offer.issued_at}")
    _check_values(offer)
    # M4: the node itself signed it.
    if address_of_public_key(offer.public_key) != signer:
        raise SignatureError("the offer is not signed by the node that it names")


def _check_values(offer: Offer) -> None:
    # M2: it offers what exists.
    if offer.span.end > offer.blocks:
        raise MalformedError(f"blocks {offer.span} of a model of {offer.blocks}")
    if offer.jurisdiction not in COUNTRIES and offer.jurisdiction != UNDECLARED:
        raise MalformedError(f"{offer.jurisdiction!r} is not an ISO 3166-1 alpha-2 country code")
    if not offer.data_address or not all(offer.addresses):
        raise MalformedError("an empty address")
    # M3: its figures are possible.
    if max(offer.price_in, offer.price_out) > MAX_PRICE:
        raise MalformedError(f"a price above {MAX_PRICE} micro-units per million tokens")
    if offer.position_us == 0:
        raise MalformedError("no computation takes 0 microseconds")
    energy = offer.energy
    if energy is not None and (not energy.millijoules_per_token or not energy.batch or energy.pue_milli < ONE_PUE):
        raise MalformedError("an energy claim of 0 joules, an empty batch, or a PUE below 1")
