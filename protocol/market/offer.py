"""What a node offers, to whom it is bound, and when an offer is worth passing on.

A sealed offer (`signing.seal`) travels by gossip and from book to book. A session's terms name it by its hash, and its
node honours it until it expires. What can be checked cheaply is checked by everyone who relays it; the rest is the
client's policy. It says nothing of what a node cannot know of itself: its stake stands on the ledger, and how far its
place is to be believed is for the client to find out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from protocol.encoding.codec import Count, Message, Size, TextSize, Uint, message
from protocol.energy.power import most_per_token
from protocol.energy.tariff import MAX_MILLIJOULES_PER_TOKEN, MAX_PRICE, MAX_PUE_MILLI, MAX_TARIFF, ONE_PUE
from protocol.errors import ExpiredError, MalformedError, SignatureError
from protocol.geography.jurisdictions import COUNTRIES, UNDECLARED, is_subdivision
from protocol.identity.ids import (
    U40,
    U64,
    Address,
    AddressBytes,
    BlockNumber,
    BlockSpan,
    Bytes32,
    Name,
    PublicKeyBytes,
    Tokens,
)
from protocol.identity.signing import address_of_public_key, open_envelope
from protocol.market.rates import Rates, check_rates
from protocol.market.reach import check_addresses, check_data_addresses
from protocol.models.activations import ActivationType

__all__ = [
    "CLOCK_SKEW_S",
    "MAX_CARBON",
    "MAX_PLACES",
    "MAX_RELOAD_S",
    "MAX_RETENTION_S",
    "MAX_SEALED_OFFER",
    "MAX_STATEMENTS",
    "MAX_TTL_S",
    "EnergyClaim",
    "Evidence",
    "Hardware",
    "HardwareKind",
    "Limits",
    "Offer",
    "OfferKey",
    "Provenance",
    "RoundTrip",
    "Statement",
    "check_offer",
    "offer_key",
    "supersedes",
]

MAX_TTL_S = 15 * 60
"""Longest life of an offer: it is re-sent while it holds, so a dead node's offers soon vanish."""
CLOCK_SKEW_S = 60
"""How far ahead the sender's clock may be."""
MAX_SEALED_OFFER = 8 * 1024
"""Bytes of one sealed offer: an order carries two."""
MAX_DURATION_US = 600 * 1_000_000
"""Ten minutes: nobody waits so long for one token."""
MAX_AT_ONCE = 1 << 16
"""Sessions, devices, or positions in one pass: more than one machine has."""
MAX_ADDRESSES = 4
"""Of each kind: a machine has few names, and whoever believes an offer dials them all where it comes to that."""
MAX_STATEMENTS = 4
MAX_PLACES = 16
"""Beside the first."""
MAX_RETENTION_S = 10 * 366 * 86_400
"""Ten years."""
MAX_CARBON = 10_000
"""Grams of CO2 equivalent per kWh: ten times the dirtiest coal."""
MAX_RELOAD_S = 86_400
"""A day."""
MAX_ROUND_TRIPS = 16
"""To the neighbours that a node has on its routes."""

MAX_DRAFT = 1024
"""Drafted tokens in one pass."""

Duration = Annotated[int, Uint(32, MAX_DURATION_US)]
Millijoules = Annotated[int, Uint(64, MAX_MILLIJOULES_PER_TOKEN)]
Country = Annotated[str, TextSize(2)]
"""ISO 3166-1 alpha-2."""
Subdivision = Annotated[str, TextSize(6)]
"""ISO 3166-2, such as ``DE-BE``; empty where it is not said."""


class Provenance(StrEnum):
    """Where a figure of energy comes from, best first."""

    WALL = "wall"
    """A meter at the socket, the whole machine."""
    NVML = "nvml"
    """The energy counter of an NVIDIA GPU."""
    AMD = "amd"
    """The energy counter of an AMD GPU."""
    APPLE = "apple"
    """The energy counter of an Apple chip."""
    RAPL = "rapl"
    """The CPU package's energy counter."""
    MODEL = "model"
    """Computed from busy time, or from arithmetic and memory traffic, and an assumed power."""
    DECLARED = "declared"
    """The operator's word."""
    UNKNOWN = "unknown"
    """Not known at all: in a receipt, beside `messages.UNMEASURED`. An offer has no figure then."""


class Evidence(StrEnum):
    """How far a client has found a claimed location to be backed, weakest first."""

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


class HardwareKind(StrEnum):
    """What computes."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    APPLE = "apple"
    OTHER = "other"


@message()
class Hardware(Message):
    """The machine behind an offer, as its operator describes it."""

    device: HardwareKind
    """What the blocks run on."""
    name: Name
    """Of one device, as its maker calls it; empty where it is not said."""
    count: Annotated[int, Uint(32, MAX_AT_ONCE)]
    """Devices, or cores of a processor; at least 1."""
    memory_mib: Annotated[int, Uint(64, 1 << 30)]
    """Of all devices together, in MiB."""
    category: Name
    """Such as ``consumer`` or ``datacenter``, for policies on export and the like; empty where it is not said."""


@message()
class EnergyClaim(Message):
    """What a token costs in energy, and what energy costs there."""

    millijoules_in: Millijoules
    """For one prompt token through the offer's whole span, at the machine; above 0."""
    millijoules_out: Millijoules
    """For one generated token, likewise."""
    source: Provenance
    """Where the figures come from; never `UNKNOWN`."""
    tariff_micro_per_kwh: Annotated[int, Uint(64, MAX_TARIFF)]
    """Micro-units per kWh now."""
    pue_milli: Annotated[int, Uint(32, MAX_PUE_MILLI)]
    """Power usage effectiveness of the site in thousandths; at least 1000."""
    carbon_g_per_kwh: Annotated[int, Uint(32, MAX_CARBON)] | None
    """Grams of CO2 equivalent per kWh of the site's supply; None when unknown."""
    batch: Annotated[int, Uint(32, MAX_AT_ONCE)]
    """Mean positions in one pass while the figures were taken, rounded; at least 1. Energy per token falls with it."""


@message()
class Limits(Message):
    """What one job may ask of the node."""

    window: Tokens
    """Generated tokens in one window, at most."""
    chunk: Tokens
    """Prompt tokens in one window, at most."""
    context: Tokens
    """Positions that a new session could have."""
    sessions: Annotated[int, Uint(32, MAX_AT_ONCE)]
    """Places that are free now."""
    draft_depth: Annotated[int, Uint(32, MAX_DRAFT)]
    """Drafted tokens that one pass verifies at most; 0 where the node does not speculate."""
    credit: Tokens
    """Generated tokens that it serves unpaid for a client without history here."""


@message("statement/1")
class Statement(Message):
    """What a third party says of a node, sealed with that party's key."""

    subject: PublicKeyBytes
    """Of the node."""
    claim: Name
    """What it is about, such as ``place``."""
    value: Annotated[str, TextSize(256)]
    """What is said of it, such as ``DE-BE``."""
    issued_at: U40
    """Unix seconds."""
    expires_at: U40
    """Unix seconds."""


@message()
class RoundTrip(Message):
    """How far another party was when a node measured it last."""

    address: AddressBytes
    us: Duration
    """Microseconds there and back."""


@message("offer/4")
class Offer(Message):
    """Some blocks of one model for hire, sealed with the node's key."""

    public_key: PublicKeyBytes
    """Of the node; the seal must be its own."""
    sequence: U64
    """Above that of every earlier offer of the same blocks of the same model by this node."""
    issued_at: U40
    """Unix seconds."""
    expires_at: U40
    """Unix seconds; at most `MAX_TTL_S` after `issued_at`. Until then the node honours what it says here."""
    venue: Bytes32
    """Domain separator of the ledger that the node settles on."""
    model: Bytes32
    """Model root."""
    model_name: Name
    """For people."""
    license: Name
    """Of the model, as its manifest names it: an SPDX expression, or empty where it is not said."""
    span: BlockSpan
    """Blocks that it serves; a route may use some of them."""
    blocks: BlockNumber
    """Blocks in the whole model."""
    precision: Name
    """As in the model's manifest."""
    activations: Annotated[tuple[ActivationType, ...], Count(1, 8)]
    """Number formats of rows that it takes and sends, the one it likes best first."""
    hardware: Hardware
    limits: Limits
    rates: Rates
    """For the whole span; a leg of some of the blocks pays its share (market.md, clause M7)."""
    forecast: Annotated[tuple[Annotated[int, Uint(64, MAX_PRICE)], ...], Count(0, 48)]
    """What `price_out` is expected to be in the hours after this one, one by one. No promise."""
    prompt_us: Duration
    """Microseconds of compute for one prompt position through the whole span, in a chunk; at least 1."""
    position_us: Duration
    """Microseconds for one generated token through the whole span, in a session alone; at least 1."""
    late_us: Duration
    """Microseconds after which a generated token counts as late here, however many sessions are served; at least
    `position_us`."""
    energy: EnergyClaim | None
    """None when the node does not know."""
    jurisdiction: Country
    """Where the machine stands, or `jurisdictions.UNDECLARED`; its operator's word."""
    region: Subdivision
    """Where in that country."""
    addresses: Annotated[tuple[Annotated[str, TextSize(256)], ...], Count(1, MAX_ADDRESSES)]
    """Multiaddresses of its libp2p host, each ending in the peer id of `public_key`."""
    data_addresses: Annotated[tuple[Annotated[str, TextSize(192)], ...], Count(1, MAX_ADDRESSES)]
    """Where its data plane is reached, best first, each ending in how: ``/ip4/203.0.113.7/tcp/4002/tls``."""
    statements: Annotated[tuple[Annotated[bytes, Size(1, 1024)], ...], Count(0, MAX_STATEMENTS)]
    """Sealed statements of third parties about this node."""
    places: Annotated[tuple[Subdivision, ...], Count(0, MAX_PLACES)] = ()
    """Where else machines behind this offer stand, countries or parts of them: one offer may be of many machines. What
    a policy asks of a place it asks of all of them."""
    retention_s: Annotated[int, Uint(32, MAX_RETENTION_S)] = 0
    """Seconds for which prompts, answers and activations may be kept after a job; 0 where nothing is."""
    trains: bool = False
    """Whether what is kept may be used to train models."""
    round_trips: Annotated[tuple[RoundTrip, ...], Count(0, MAX_ROUND_TRIPS)] = ()
    """To other nodes, as measured lately: for estimates of time, and its own word only."""
    reload_s: Annotated[int, Uint(32, MAX_RELOAD_S)] | None = None
    """Seconds that it would take to serve other blocks of the model instead; None where the node stays with these."""
    carbon_forecast: Annotated[tuple[Annotated[int, Uint(32, MAX_CARBON)], ...], Count(0, 48)] = ()
    """`energy.carbon_g_per_kwh` as expected in the next hours; empty where it stays, or is not known. No promise."""
    masks: Name = ""
    """By which answers can be held to a grammar here, such as ``llguidance/1.9.1``; empty where they cannot."""


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
    if offer.region and not (is_subdivision(offer.region) and offer.region.startswith(f"{offer.jurisdiction}-")):
        raise MalformedError(f"{offer.region!r} is not an ISO 3166-2 code in {offer.jurisdiction}")
    _check_places(offer)
    check_addresses(offer.addresses, offer.public_key)
    check_data_addresses(offer.data_addresses)
    if len(set(offer.activations)) != len(offer.activations) or offer.hardware.count == 0:
        raise MalformedError("a number format named twice, or no device at all")
    _check_figures(offer)
    for sealed in offer.statements:
        _check_statement(sealed, offer)


def _check_places(offer: Offer) -> None:
    named = (offer.region or offer.jurisdiction, *offer.places)
    for place in offer.places:
        if place not in COUNTRIES and not is_subdivision(place):
            raise MalformedError(f"{place!r} is neither a country nor a part of one")
    if len(set(named)) != len(named):
        raise MalformedError("a place named twice")
    if offer.places and offer.jurisdiction == UNDECLARED:
        raise MalformedError("further places, and the first is not declared")
    if offer.trains and not offer.retention_s:
        raise MalformedError("what is not kept trains no model")
    if len({each.address for each in offer.round_trips}) != len(offer.round_trips):
        raise MalformedError("two round trips to one node")


def _check_figures(offer: Offer) -> None:
    # M3: its figures are possible.
    check_rates(offer.rates)
    if offer.late_us < offer.position_us:
        raise MalformedError("an offer that is late by its own figures")
    if not (offer.prompt_us and offer.position_us and offer.limits.window and offer.limits.chunk):
        raise MalformedError("no computation takes 0 microseconds, and no window has 0 tokens")
    if offer.limits.credit > offer.limits.window:
        raise MalformedError("credit is at most one window")
    if offer.energy is not None:
        _check_energy(offer.energy)
        _check_power(offer, offer.energy)


def _check_energy(energy: EnergyClaim) -> None:
    if not (energy.millijoules_in and energy.millijoules_out and energy.batch) or energy.pue_milli < ONE_PUE:
        raise MalformedError("an energy claim of 0 joules, an empty batch, or a PUE below 1")
    if energy.source is Provenance.UNKNOWN:
        raise MalformedError("an energy claim from nowhere: what is not known is absent")


def _check_power(offer: Offer, energy: EnergyClaim) -> None:
    # M14: no machine spends more than it can draw.
    for said, us in ((energy.millijoules_in, offer.prompt_us), (energy.millijoules_out, offer.position_us)):
        most = most_per_token(offer.hardware.device, offer.hardware.count, us)
        if said > most:
            raise MalformedError(
                f"{said / 1000:g} J for a token, and its hardware can draw {most / 1000:g} J in that time"
            )


def _check_statement(sealed: bytes, offer: Offer) -> None:
    # Who signed it, and whether to believe them, is the client's to say.
    statement, _ = open_envelope(sealed, Statement)
    if statement.subject != offer.public_key:
        raise MalformedError("a statement about another node")
