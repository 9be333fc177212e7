"""What a client asks of every node on its route, and why an offer does not meet it. Fails closed.

A policy is part of a job's terms, whose hash stands in the session: a node that serves against it does so provably.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from protocol.codec import Count, Message, TextSize, message
from protocol.errors import InvalidError
from protocol.ids import U64, Name
from protocol.jurisdictions import UNDECLARED, is_known, may_stand_in, stands_in
from protocol.offer import Evidence, Offer
from protocol.units import ceil_div, format_micro

__all__ = [
    "NOTHING_KNOWN",
    "TIME_PER_TOKEN_US",
    "Known",
    "LatencyClass",
    "Needs",
    "Policy",
    "Reason",
    "ReasonCode",
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

Jurisdictions = Annotated[tuple[Annotated[str, TextSize(6)], ...], Count(0, 64)]
"""ISO 3166-1 alpha-2 or 3166-2 codes, or names of groups (`jurisdictions.GROUPS`)."""


@message("policy/2")
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

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        for code in (*self.allow, *self.deny):
            if not is_known(code):
                raise InvalidError(f"{code!r} is neither a country or region code of ISO 3166 nor a known group")


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
    EVIDENCE = "evidence"
    STAKE = "stake"
    PRECISION = "precision"
    ROOM = "room"
    WINDOW = "window"
    PRICE_CAP = "price-cap"
    TOO_SLOW = "too-slow"
    SUPERSEDED = "superseded"
    UNREACHABLE = "unreachable"
    DEARER = "dearer"
    LIMITS = "limits"
    SHUNNED = "shunned"


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
    """How far its place is backed."""
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
    return _unlawful(policy, offer, known) or _unfit(policy, offer, known, needs)


def _unlawful(policy: Policy, offer: Offer, known: Known) -> Reason | None:
    country, region = offer.jurisdiction, offer.region
    where = region or country
    if country == UNDECLARED and (policy.deny or policy.allow):
        return Reason(ReasonCode.UNDECLARED, "it does not say where it stands, and your policy names jurisdictions")
    if may_stand_in(policy.deny, country, region):
        return Reason(ReasonCode.DENIED, f"{where} is among the jurisdictions you deny ({', '.join(policy.deny)})")
    if policy.allow and not stands_in(policy.allow, country, region):
        allowed = ", ".join(policy.allow)
        return Reason(ReasonCode.NOT_ALLOWED, f"{where} is not among the jurisdictions you allow ({allowed})")
    if not known.evidence.reaches(policy.min_evidence):
        text = f"its place is only {known.evidence}, and you ask for {policy.min_evidence}"
        return Reason(ReasonCode.EVIDENCE, text)
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
