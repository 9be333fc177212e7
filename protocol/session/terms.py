"""Everything that a client and its providers agree on before a job, behind one hash.

`terms_hash` stands in the session that the client opens, so nobody can tell another story afterwards: not a client that
wants an honest leg convicted, not a leg that wants another price. Addresses are no part of it: a provider may move.
docs/spec/session.md, clauses N1 to N8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from protocol.encoding.codec import Count, Message, Uint, encode, message
from protocol.errors import DishonestError, MalformedError, SignatureError
from protocol.identity.ids import U40, U64, BlockSpan, Bytes32, PublicKeyBytes, Tokens, keccak256
from protocol.identity.signing import address_of_public_key, open_envelope
from protocol.market.offer import MAX_DRAFT
from protocol.market.rates import Rates, check_rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import Policy
from protocol.routing.routes import MAX_LEGS
from protocol.session.logprobs import MAX_TOP
from protocol.session.messages import LegNumber, Session, session_id
from protocol.session.shaping import Shaping, check_shaping

__all__ = [
    "Assignment",
    "Continuation",
    "LegTerms",
    "Plan",
    "Reroute",
    "SamplingTerms",
    "Speculation",
    "Terms",
    "check_terms",
    "open_reroutes",
    "route_at",
    "terms_hash",
]

MAX_TEMPERATURE_MILLI = 1_000_000
WHOLE_PPM = 1_000_000
"""No token is cut off."""
MAX_TOP_K = 1 << 24
MAX_FLIGHTS = 256
"""Of drafts."""
MAX_REROUTES = 64
"""In one session: a job whose route changes more often is given up."""
MAX_SEALED_REROUTE = 1024
"""Bytes of a sealed reroute."""
MAX_AHEAD = 8
"""Windows beyond the last one that every leg has signed for."""


@message()
class LegTerms(Message):
    """One provider's part of a job."""

    public_key: PublicKeyBytes
    """Of the provider; its address is that of the session's leg in the same place."""
    span: BlockSpan
    """The blocks that it runs, or, as a standby, may be asked to run."""
    rates: Rates
    """For these blocks."""
    offer: Bytes32
    """Keccak-256 of the sealed offer that the rates come from."""
    offer_expires_at: U40
    """When that offer ends: the provider honours it until then."""


@message()
class Plan(Message):
    """The counts that fix the windows: the same for the client and for every leg."""

    prompt: Tokens
    """Prompt tokens, at least 1."""
    most: Tokens
    """Generated tokens at most, at least 1."""
    chunk: Tokens
    """Prompt tokens in one window."""
    window: Tokens
    """Generated tokens in one window."""
    ahead: Annotated[int, Uint(8, MAX_AHEAD)] = 1
    """Windows that a leg serves beyond the last one that every leg has signed for; at least 1. With several, the legs
    work on different chunks of a prompt at once."""


@message()
class SamplingTerms(Message):
    """How tokens are drawn: reproducible from these numbers and the position (audit.md, clause F8)."""

    temperature_milli: Annotated[int, Uint(32, MAX_TEMPERATURE_MILLI)]
    """Thousandths; 0 is greedy."""
    seed: U64
    """Key of the noise."""
    top_p_ppm: Annotated[int, Uint(32, WHOLE_PPM)] = WHOLE_PPM
    """Only the likeliest tokens are drawn that have this many millionths of the probability together; 1,000,000 cuts
    nothing. The likeliest is always among them."""
    top_k: Annotated[int, Uint(32, MAX_TOP_K)] = 0
    """Only so many of the likeliest tokens are drawn; 0 for any number."""
    shaping: Shaping | None = None
    """What is done to logits first; None for nothing."""
    logprobs: Annotated[int, Uint(8, MAX_TOP)] | None = None
    """The last leg says how likely each token was that it draws, and so many of the likeliest in its place (N9); None
    for nothing of that."""

    @property
    def looks_back(self) -> bool:
        """Whether a draw depends on the tokens before it."""
        return self.shaping is not None and self.shaping.looks_back


@message()
class Speculation(Message):
    """How far the first leg may draft ahead; both 0 for not at all."""

    depth: Annotated[int, Uint(32, MAX_DRAFT)]
    """Drafted tokens that one pass verifies at most."""
    flights: Annotated[int, Uint(32, MAX_FLIGHTS)]
    """Such passes under way at once, at most."""


@message()
class Continuation(Message):
    """The session whose sequence this one goes on from."""

    session: Bytes32
    """Its id."""
    positions: Tokens
    """So many of its first tokens are the first ones of this prompt; at most the prompt less one."""


@message("terms/1")
class Terms(Message):
    """What was agreed. Its hash stands in the session."""

    venue: Bytes32
    """Domain separator of the ledger that the session is on."""
    model: Bytes32
    """Model root (`ids.model_root`)."""
    policy: Policy
    """What has to hold for every leg."""
    route: Annotated[tuple[LegTerms, ...], Count(1, MAX_LEGS)]
    """Who serves, first block to last: the session's first legs, in the same order."""
    standbys: Annotated[tuple[LegTerms, ...], Count(0, MAX_LEGS - 1)]
    """Who may take over what: the session's further legs, in the same order."""
    plan: Plan
    sampling: SamplingTerms
    activations: ActivationType
    """Number format of the rows between legs."""
    credit: Tokens
    """Generated tokens that every leg serves before they are paid; at most the plan's window."""
    speculation: Speculation
    nonces: Bytes32
    """Anchor of the client's nonce chain (audit.md, clause F3)."""
    continues: Continuation | None
    """None for a job that begins anew."""

    @property
    def legs(self) -> tuple[LegTerms, ...]:
        """All legs by their index in the session: the route, then the standbys."""
        return (*self.route, *self.standbys)


def terms_hash(terms: Terms) -> bytes:
    """32 bytes that name the terms in a session."""
    return keccak256(encode(terms))


def check_terms(terms: Terms, session: Session, *, blocks: int) -> None:
    """Hold terms against the session that names them, and against themselves (docs/spec/session.md, N1 to N5, N8).

    Args:
        blocks: transformer blocks in the whole model.

    Raises:
        MalformedError: one of the clauses does not hold.
    """
    # N1: the session is about these very terms.
    if session.terms != terms_hash(terms):
        raise MalformedError("the terms are not those that the session names")
    # N2: each leg of the session is the provider in the terms, and none is there twice.
    providers = [address_of_public_key(leg.public_key) for leg in terms.legs]
    if providers != [leg.provider for leg in session.legs]:
        raise MalformedError("the session's legs are not those of the terms")
    if len(set(providers)) != len(providers):
        raise MalformedError("a provider is in the session twice")
    # N3: the route covers the model, and standbys are for blocks that it has.
    _check_cover([leg.span for leg in terms.route], blocks)
    if any(leg.span.end > blocks for leg in terms.standbys):
        raise MalformedError("a standby for blocks that the model does not have")
    # N4: the counts make windows.
    _check_plan(terms)
    # N8: what is done to logits can be done, and the last leg is told of the prompt what it takes.
    if terms.sampling.shaping is not None:
        check_shaping(terms.sampling.shaping, prompt=terms.plan.prompt)
    # N5: no rate is beyond what can be counted.
    for leg in terms.legs:
        check_rates(leg.rates)


def _check_cover(spans: Sequence[BlockSpan], blocks: int) -> None:
    at = 0
    for span in spans:
        if span.start != at:
            raise MalformedError(f"the route leaves a gap or overlaps at block {at}")
        at = span.end
    if at != blocks:
        raise MalformedError(f"the route ends at block {at} of {blocks}")


def _check_plan(terms: Terms) -> None:
    plan = terms.plan
    if min(plan.prompt, plan.most, plan.chunk, plan.window, plan.ahead) < 1:
        raise MalformedError("prompt, tokens, chunk, window and the windows ahead are at least 1")
    if terms.credit > plan.window:
        raise MalformedError("credit is at most one window")
    if bool(terms.speculation.depth) is not bool(terms.speculation.flights):
        raise MalformedError("drafts have a depth and flights, or neither")
    if terms.continues is not None and not 1 <= terms.continues.positions < plan.prompt:
        raise MalformedError("a session continues at least one position, and computes at least one of its prompt")


# Changing the route in mid-stream


@message()
class Assignment(Message):
    """One leg's part of a route."""

    leg: LegNumber
    """Index in the session's legs."""
    span: BlockSpan
    """Within the span of that leg's terms."""


@message("reroute/1")
class Reroute(Message):
    """From a position on, other legs serve; sealed with the client's key.

    The position is the end of a window that every leg of the route before has signed for: what came after it is
    computed again, by all, from there.
    """

    session: Bytes32
    """Session id."""
    number: Annotated[int, Uint(32, 255)]
    """1, 2, 3, ... in one session."""
    position: Tokens
    """First position of the new route; not below that of the reroute before."""
    route: Annotated[tuple[Assignment, ...], Count(1, MAX_LEGS)]
    """The whole new route, first block to last."""


def open_reroutes(sealed: Sequence[bytes], terms: Terms, session: Session, *, blocks: int) -> tuple[Reroute, ...]:
    """The reroutes of a session, in order, each held against the rules (docs/spec/session.md, clause N6).

    The caller still owes: that each position ends a window which every leg before has signed for (clause N7).

    Raises:
        MalformedError: not a reroute, too many, or one that covers the model wrongly.
        SignatureError: not signed by the session's client.
        DishonestError: for another session, out of order, or with a leg twice or outside of its terms.
    """
    if len(sealed) > MAX_REROUTES:
        raise MalformedError(f"{len(sealed)} reroutes where {MAX_REROUTES} are allowed")
    reroutes: list[Reroute] = []
    before, gone = route_at(terms, (), 0), set[int]()
    for number, data in enumerate(sealed, 1):
        reroute, signer = open_envelope(data, Reroute)
        if signer != session.client:
            raise SignatureError("a reroute is not signed by the session's client")
        if reroute.session != session_id(session) or reroute.number != number:
            raise DishonestError("a reroute is for another session, or out of order")
        if reroutes and reroute.position < reroutes[-1].position:
            raise DishonestError("a reroute goes back behind the one before")
        _check_assignments(reroute, before, gone, terms, blocks)
        gone |= {each.leg for each in before} - {each.leg for each in reroute.route}
        before = reroute.route
        reroutes.append(reroute)
    return tuple(reroutes)


def _check_assignments(
    reroute: Reroute, before: Sequence[Assignment], gone: set[int], terms: Terms, blocks: int
) -> None:
    _check_cover([each.span for each in reroute.route], blocks)
    legs = [each.leg for each in reroute.route]
    if len(set(legs)) != len(legs) or max(legs) >= len(terms.legs):
        raise DishonestError("a reroute names a leg twice, or one that the session does not have")
    if gone & set(legs):
        raise DishonestError("a leg that was left does not come back")
    stays = {each.leg: each.span for each in before}
    for each in reroute.route:
        held = terms.legs[each.leg].span
        if not (held.start <= each.span.start and each.span.end <= held.end):
            raise DishonestError(f"leg {each.leg} agreed to blocks {held}, not {each.span}")
        if stays.get(each.leg, each.span) != each.span:
            raise DishonestError(f"leg {each.leg} goes on, so it keeps its blocks")


def route_at(terms: Terms, reroutes: Sequence[Reroute], position: int) -> tuple[Assignment, ...]:
    """Who serves a position: the route of the last reroute that does not begin after it, else that of the terms."""
    for reroute in reversed(reroutes):
        if reroute.position <= position:
            return reroute.route
    return tuple(Assignment(leg=leg, span=each.span) for leg, each in enumerate(terms.route))
