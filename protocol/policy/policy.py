"""What a client asks of every node on its route, and why an offer does not meet it. Fails closed.

A policy is part of a job's terms, whose hash stands in the session: a node that serves against it does so provably.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from protocol.encoding.codec import Count, Message, Uint, message
from protocol.errors import InvalidError
from protocol.geography.blocs import BLOCS, BLOCS_NOW
from protocol.geography.jurisdictions import (
    UNDECLARED,
    country_of,
    is_known,
    is_place,
    is_subdivision,
    may_stand_in,
    stands_in,
)
from protocol.identity.ids import U64, Bytes32, Name
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import MAX_CARBON, MAX_RETENTION_S, Evidence, Offer, Subdivision
from protocol.policy.corridors import Area, Corridor, lawful_hop
from protocol.policy.law import NO_LAW, Law
from protocol.policy.residency import NOT_BACKED, Backing, places_of
from protocol.units import ceil_div, format_micro

__all__ = [
    "MAX_LISTS",
    "NOTHING_KNOWN",
    "TIME_PER_TOKEN_US",
    "Known",
    "LatencyClass",
    "Needs",
    "Policy",
    "Reason",
    "ReasonCode",
    "backing_under",
    "excluded",
]


class LatencyClass(StrEnum):
    """How long a client can wait for the next token; distance follows from it."""

    BATCH = "batch"
    """Seconds; anywhere."""
    CHAT = "chat"
    """Half a second to one; some 5,000 km."""
    VOICE = "voice"
    """0.1 to 0.3 s; some 1,000 km."""
    METRO = "metro"
    """Under 50 ms; some 200 km."""
    DEVICE = "device"
    """Under 20 ms: belongs on the client's own device, and is never routed."""


TIME_PER_TOKEN_US: dict[LatencyClass, int] = {
    LatencyClass.BATCH: 10_000_000,
    LatencyClass.CHAT: 1_000_000,
    LatencyClass.VOICE: 300_000,
    LatencyClass.METRO: 50_000,
}
"""Most microseconds for one token round the ring of a route. A class that is not here is not routed."""

INFERENCE = "inference"
"""What jobs are for, unless a client says otherwise."""
MAX_LISTS = 8

Jurisdictions = Annotated[tuple[Area, ...], Count(0, 64)]
"""ISO 3166-1 alpha-2 or 3166-2 codes, or names of blocs (`blocs.BLOCS`)."""
Words = Annotated[tuple[Name, ...], Count(0, 64)]


@message("policy/3")
class Policy(Message):
    """What has to hold for every leg, or for the route as a whole.

    A jurisdiction that is not known is an error: in `deny` it would let through what was meant to be kept out.
    """

    latency_class: LatencyClass
    max_price_in: U64 | None
    """Micro-units per million prompt tokens for the whole route; None for no limit."""
    max_price_out: U64 | None
    """Micro-units per million generated tokens for the whole route; None for no limit."""
    allow: Jurisdictions
    """Where the machines may stand; empty for anywhere."""
    deny: Jurisdictions
    """Where they must not stand; stronger than `allow`."""
    min_evidence: Evidence
    """Least backing of a machine's location, as the client itself finds it."""
    min_stake: U64
    """Micro-units that a provider has at stake on the ledger, at least."""
    precision: Name
    """Number format of the model, exactly."""
    blocs: Name = BLOCS_NOW
    """The table that names of blocs are read by (`blocs.BLOCS`)."""
    origin: Subdivision = ""
    """Where the client's data come from, its own word: they leave that country by corridors only. Empty where they may
    go anywhere."""
    purpose: Name = INFERENCE
    """What the data are used for: corridors for other purposes are closed."""
    corridors: Annotated[tuple[Corridor, ...], Count(0, 64)] = ()
    """Which ways data may go besides."""
    trust: Bytes32 | None = None
    """Whom the client believes about places (`residency.trust_hash`); None for nobody."""
    lists: Annotated[tuple[Bytes32, ...], Count(0, MAX_LISTS)] = ()
    """Keccak-256 of each sealed list of denials that is in force (`denials.Denials`)."""
    deny_hardware: Words = ()
    """Categories of hardware that are not wanted."""
    max_retention_s: Annotated[int, Uint(32, MAX_RETENTION_S)] | None = None
    """Seconds for which prompts, answers and activations may be kept after the job; None where nobody asks. A leg that
    accepts a job is bound by it."""
    no_training: bool = False
    """Whether it is forbidden to train models on them; likewise."""
    max_carbon_g_per_kwh: Annotated[int, Uint(32, MAX_CARBON)] | None = None
    """Grams of CO2 equivalent per kWh of a leg's supply, at most; None where nobody asks."""
    licenses: Words = ()
    """Licences that the model may be under, as its manifest writes them; empty for any."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if self.blocs not in BLOCS:
            raise InvalidError(f"there is no table of blocs {self.blocs!r} here; there are {', '.join(BLOCS)}")
        for code in self.areas:
            if not is_known(code, self.blocs):
                raise InvalidError(f"{code!r} is neither a country or region code of ISO 3166 nor a known bloc")
        if self.origin and not is_place(self.origin):
            raise InvalidError(f"data come from a country or a part of one, not from {self.origin!r}")
        if self.corridors and not self.origin:
            raise InvalidError("corridors, and no origin that data come from")

    @property
    def areas(self) -> tuple[str, ...]:
        """Every area that it names."""
        corridors = (area for each in self.corridors for area in (each.source, each.to))
        return (*self.allow, *self.deny, *corridors)

    @property
    def asks_where(self) -> bool:
        """Whether it matters to it where a machine stands."""
        return bool(self.allow or self.deny or self.origin) or self.min_evidence is not Evidence.CLAIMED

    def lets_pass(self, source: Sequence[str], to: Sequence[str], until: int) -> bool:
        """Whether data may go from machines in all of `source` to machines in all of `to`, until then (clause M74).

        It holds of every hop: from the origin to each leg, from leg to leg, and from the last leg to the first.
        """
        if not self.origin:
            return True
        return lawful_hop(
            self.corridors, source, to, purpose=self.purpose, home=self.origin, until=until, blocs=self.blocs
        )

    def unlawful_hop(self, legs: Sequence[Sequence[str]], until: int) -> tuple[int, int] | None:
        """The first hop of a route that is forbidden, from leg to leg; None where there is none.

        Args:
            legs: the places of each (`residency.places_of`), in the order of the route.
        """
        ring = [(leg, (leg + 1) % len(legs)) for leg in range(len(legs))] if len(legs) > 1 else []
        return next((hop for hop in ring if not self.lets_pass(legs[hop[0]], legs[hop[1]], until)), None)


class ReasonCode(StrEnum):
    """Why an offer is not taken; stable, for programs."""

    MODEL = "model"
    BLOCKS = "blocks"
    VENUE = "venue"
    EXPIRED = "expired"
    LATENCY_CLASS = "latency-class"
    UNDECLARED = "jurisdiction-undeclared"
    DENIED = "jurisdiction-denied"
    NOT_ALLOWED = "jurisdiction-not-allowed"
    CORRIDOR = "no-corridor"
    LIST = "list-not-in-force"
    LISTED = "listed"
    DISPROVED = "place-disproved"
    EVIDENCE = "evidence"
    HARDWARE = "hardware"
    RETENTION = "retention"
    TRAINING = "training"
    CARBON = "carbon"
    LICENSE = "license"
    STAKE = "stake"
    PRECISION = "precision"
    ROOM = "room"
    WINDOW = "window"
    PRICE_CAP = "price-cap"
    TOO_SLOW = "too-slow"
    UNREACHABLE = "unreachable"
    DEARER = "dearer"
    LIMITS = "limits"
    SHUNNED = "shunned"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an offer is not taken."""

    code: ReasonCode
    sentence: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a client knows of a provider besides its own word."""

    evidence: Evidence = Evidence.CLAIMED
    """How far its place is backed at least, whatever its offer carries."""
    round_trip_us: int | None = None
    """Microseconds to it and back, as this client measured; None where it has not."""
    stake: int = 0
    """Micro-units that it has at stake on the ledger."""
    has_place: bool = False
    """Whether it keeps places for this client, which has paid it before: its offers tell what others would find."""


NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one job asks of each leg, besides the policy."""

    positions: int = 0
    """Of KV."""
    window: int = 1
    """Generated tokens in one window."""
    chunk: int = 1
    """Prompt tokens in one window."""
    law: Law = NO_LAW
    """What the policy's hashes stand for, and until when it has to hold."""


def excluded(
    policy: Policy,
    offer: Offer,
    *,
    model: bytes,
    venue: bytes,
    now: int,
    needs: Needs = Needs(),
    known: Known = NOTHING_KNOWN,
) -> Reason | None:
    """The first reason why `offer` must not be used, or None when it may be (docs/spec/market.md, clause M5).

    Args:
        model: root of the model that is wanted.
        venue: domain separator of the ledger that the client pays on.
        known: of its provider, found out by whoever asks; what is not known counts as the least.
    """
    if offer.model != model:
        return Reason(ReasonCode.MODEL, f"it serves another model, {offer.model_name}")
    if offer.venue != venue:
        return Reason(ReasonCode.VENUE, "it settles on another ledger")
    if offer.expires_at <= now:
        return Reason(ReasonCode.EXPIRED, f"it expired {now - offer.expires_at} s ago")
    if policy.latency_class not in TIME_PER_TOKEN_US:
        return Reason(ReasonCode.LATENCY_CLASS, f"{policy.latency_class} jobs are never sent over a network")
    return (
        _misplaced(policy, offer, max(now, needs.law.until))
        or _listed(policy, offer, needs.law, now)
        or _unbacked(policy, offer, known, needs.law, now)
        or _unlawful(policy, offer)
        or _unfit(policy, offer, known, needs)
    )


def backing_under(policy: Policy, offer: Offer, known: Known, law: Law, now: int) -> Backing:
    """How far an offer's places are backed for whoever asks by this policy."""
    if policy.trust is None or policy.trust != law.trust_hash:
        return NOT_BACKED
    areas = (*policy.areas, *law.denied.places)
    return law.backing(offer, areas, now=now, own_us=known.round_trip_us)


def _misplaced(policy: Policy, offer: Offer, until: int) -> Reason | None:
    """By what it says of its places."""
    if offer.jurisdiction == UNDECLARED and (policy.deny or policy.allow or policy.origin):
        return Reason(ReasonCode.UNDECLARED, "it does not say where it stands, and your policy names jurisdictions")
    for where in places_of(offer):
        if may_stand_in(policy.deny, *_split(where), policy.blocs):
            return Reason(ReasonCode.DENIED, f"{where} is among the jurisdictions you deny ({', '.join(policy.deny)})")
        if policy.allow and not stands_in(policy.allow, *_split(where), policy.blocs):
            allowed = ", ".join(policy.allow)
            return Reason(ReasonCode.NOT_ALLOWED, f"{where} is not among the jurisdictions you allow ({allowed})")
        if not policy.lets_pass((policy.origin,), (where,), until):
            text = f"no corridor for {policy.purpose} leads from {policy.origin}, where your data come from, to {where}"
            return Reason(ReasonCode.CORRIDOR, text)
    return None


def _split(place: str) -> tuple[str, str]:
    return country_of(place), place if is_subdivision(place) else ""


def _listed(policy: Policy, offer: Offer, law: Law, now: int) -> Reason | None:
    """By signed lists."""
    if not policy.lists:
        return None
    gone = next((each for each in policy.lists if each not in law.listed), None)
    if gone is not None:
        return Reason(ReasonCode.LIST, f"the list {gone.hex()[:12]} that your policy names is not at hand")
    for each in law.lists:
        if each.denials.expires_at < max(now, law.until):
            return Reason(ReasonCode.LIST, f"the list {each.denials.name!r} has expired, or will before the job ends")
    denied, category = law.denied, offer.hardware.category
    if denied.places and offer.jurisdiction == UNDECLARED:
        return Reason(ReasonCode.UNDECLARED, "it does not say where it stands, and a list that you obey names places")
    if denied.hardware and not (category and offer.hardware.name):  # a line may mean either
        return Reason(ReasonCode.HARDWARE, "it does not say what hardware it is, and a list that you obey names some")
    found = denied.found(
        address_of_public_key(offer.public_key), places_of(offer), (category, offer.hardware.name), policy.blocs
    )
    return Reason(ReasonCode.LISTED, f"{found} is on a list that you obey") if found else None


def _unbacked(policy: Policy, offer: Offer, known: Known, law: Law, now: int) -> Reason | None:
    """By what is found out about its places."""
    if not policy.asks_where and not law.denied.places:
        return None
    backing = backing_under(policy, offer, known, law, now)
    if backing.disproved:
        return Reason(ReasonCode.DISPROVED, backing.disproved)
    evidence = max(backing.evidence, known.evidence, key=list(Evidence).index)
    if not evidence.reaches(policy.min_evidence):
        return Reason(ReasonCode.EVIDENCE, f"its place is only {evidence}, and you ask for {policy.min_evidence}")
    return None


def _unlawful(policy: Policy, offer: Offer) -> Reason | None:
    """By what it says of its hardware, its model, its supply, and what it keeps."""
    category, energy = offer.hardware.category, offer.energy
    if policy.deny_hardware and (not category or category in policy.deny_hardware):
        text = f"its hardware is {category or 'of no category that it says'}, and you deny"
        return Reason(ReasonCode.HARDWARE, f"{text} {', '.join(policy.deny_hardware)}")
    if policy.max_retention_s is not None and offer.retention_s > policy.max_retention_s:
        text = f"it may keep prompts for {offer.retention_s} s, and you allow {policy.max_retention_s}"
        return Reason(ReasonCode.RETENTION, text)
    if policy.no_training and offer.trains:
        return Reason(ReasonCode.TRAINING, "it may train models on prompts")
    if policy.max_carbon_g_per_kwh is not None:
        carbon = None if energy is None else energy.carbon_g_per_kwh
        if carbon is None or carbon > policy.max_carbon_g_per_kwh:
            said = "an unknown amount" if carbon is None else f"{carbon} g"
            text = f"its supply emits {said} of CO2 per kWh, and you allow {policy.max_carbon_g_per_kwh} g"
            return Reason(ReasonCode.CARBON, text)
    if policy.licenses and offer.license not in policy.licenses:
        text = f"the model is under {offer.license or 'no licence that it states'}, and you allow"
        return Reason(ReasonCode.LICENSE, f"{text} {', '.join(policy.licenses)}")
    return None


def _unfit(policy: Policy, offer: Offer, known: Known, needs: Needs) -> Reason | None:
    if known.stake < policy.min_stake:
        text = f"its stake is {format_micro(known.stake)}, and you ask for {format_micro(policy.min_stake)}"
        return Reason(ReasonCode.STAKE, text)
    if offer.precision != policy.precision:
        return Reason(ReasonCode.PRECISION, f"it computes in {offer.precision}, and you ask for {policy.precision}")
    limits = offer.limits
    if limits.sessions == 0 and not known.has_place:
        return Reason(ReasonCode.ROOM, "all its places are taken")
    if limits.context < needs.positions:
        text = f"it has room for {limits.context} positions, and the job takes {needs.positions}"
        return Reason(ReasonCode.ROOM, text)
    if limits.window < needs.window or limits.chunk < needs.chunk:
        text = f"it serves windows of {limits.window} tokens and chunks of {limits.chunk} at most"
        return Reason(ReasonCode.WINDOW, text)
    return _beyond_limits(policy, offer)


def _beyond_limits(policy: Policy, offer: Offer) -> Reason | None:
    """Limits of the whole route that a single block of this offer already breaks."""
    length = len(offer.span)
    for word, price, cap in (
        ("prompt", offer.rates.price_in, policy.max_price_in),
        ("generated", offer.rates.price_out, policy.max_price_out),
    ):
        if cap is not None and ceil_div(price, length) > cap:
            least, most = format_micro(ceil_div(price, length)), format_micro(cap)
            text = f"one block of it costs {least} per 1M {word} tokens, more than the {most} you pay for a route"
            return Reason(ReasonCode.PRICE_CAP, text)
    limit_us = TIME_PER_TOKEN_US[policy.latency_class]
    if offer.position_us // length > limit_us:
        text = f"one block of it takes {offer.position_us // length} us, and {policy.latency_class} allows {limit_us}"
        return Reason(ReasonCode.TOO_SLOW, text)
    return None
