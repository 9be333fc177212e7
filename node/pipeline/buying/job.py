"""What a job is about before any money moves, and what is left of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from node.events import Events
from node.pipeline.vouchers import VoucherStore
from node.ports import Clock, Connect, Link, PeerMemory, PlaceOrder, Randomness, Settlement
from protocol.errors import JoulemeshError, LostPeerError
from protocol.identity.ids import Address, ModelManifest
from protocol.identity.signing import SigningKey
from protocol.market.offer import Offer
from protocol.policy.law import NO_LAW, Law
from protocol.policy.policy import Policy
from protocol.session.agreement import Chosen, Paid, make_session, make_terms, paid_nobody
from protocol.session.draws import NonceChain
from protocol.session.frames import NO_SECRET
from protocol.session.messages import Session, SignedDischarge, SignedReceipt, SignedVoucher
from protocol.session.metering import chain_length
from protocol.session.shaping import bound_to, look_back
from protocol.session.tab import Tab
from protocol.session.terms import Continuation, Plan, SamplingTerms, Terms
from protocol.settlement import SessionRecord

__all__ = ["ClientSide", "Deal", "HealedLegs", "JobResult", "make_deal", "tls_address"]


_OF_NEIGHBOURS = {"next-unreachable": (0, 1), "neighbour-lost": (-1, 0, 1)}
"""Codes with which a leg tells of another one, and where on the ring from itself that may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSide:
    """One key as a client, and what it acts through."""

    key: SigningKey
    settlement: Settlement
    order: PlaceOrder
    connect: Connect
    keep: Callable[[Link], None]
    """Told of a link whose job is over, and over which nothing more comes: the next job may have it."""
    journal: VoucherStore
    """Keeps every open session, so that a later run can claim what a crashed one left reserved."""
    clock: Clock
    events: Events
    peers: PeerMemory
    """Told of what each leg did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """Everything that a client has settled on before it opens a session. `make_deal` makes one; each is used once."""

    terms: Terms
    session: Session
    chain: NonceChain
    """The client's nonces; the terms name its anchor."""
    legs: tuple[Chosen, ...]
    """By index in the session: the route, then the standbys."""
    prompt: tuple[int, ...]
    """Token ids."""
    grammar: bytes
    """Text of what the answer is held to; empty for nothing."""
    stop_tokens: tuple[int, ...]
    """Ids that end an answer."""
    vocabulary: int
    """Of the model, in tokens."""
    secret: bytes = field(repr=False)
    """32 bytes for the first and the last leg: they hide drafted tokens from those between."""
    law: Law = NO_LAW
    """What the hashes in the policy stand for."""
    measured: tuple[int | None, ...] = ()
    """By leg: the round trip that the client measured, microseconds; None where it has not."""

    def offer(self, leg: int) -> Offer:
        """That of a leg of the session."""
        return self.legs[leg].leg.offer

    def secret_of(self, leg: int) -> bytes:
        """What a leg is given of the secret: all of it, or nothing."""
        ends_ring = self.terms.legs[leg].span.start == 0 or self.holds_last(leg)
        return self.secret if self.terms.speculation.depth and ends_ring else NO_SECRET

    def holds_last(self, leg: int) -> bool:
        """Whether a leg holds the model's last block, so that it may draw."""
        return self.terms.legs[leg].span.end == self.terms.route[-1].span.end

    @property
    def told(self) -> bytes:
        """What draws look back on of the prompt, and the grammar, as the last leg is told of it."""
        return look_back(self.terms.sampling.shaping, self.prompt, self.grammar).told

    def name(self, leg: int) -> str:
        """A leg for people."""
        return f"leg {leg} (blocks {self.legs[leg].leg.span})"


def make_deal(
    route: Sequence[Chosen],
    *,
    manifest: ModelManifest,
    venue: bytes,
    policy: Policy,
    plan: Plan,
    sampling: SamplingTerms,
    prompt: Sequence[int],
    grammar: bytes = b"",
    client: Address,
    expiry: int,
    randomness: Randomness,
    standbys: Sequence[Chosen] = (),
    continues: Continuation | None = None,
    paid: Paid = paid_nobody,
    drafts: bool = True,
    law: Law = NO_LAW,
    measured: Mapping[bytes, int | None] = MappingProxyType({}),
) -> Deal:
    """Terms and a session over a route, with fresh nonces and a fresh salt.

    Args:
        venue: domain separator of the ledger.
        grammar: text of the one that `sampling` names.
        expiry: of the session, Unix seconds.
        standbys: who may take over from a leg that fails.
        continues: the session whose sequence the prompt goes on from.
        paid: what the client has paid each provider before, for credit.
        drafts: whether the first leg may draft ahead, where all legs verify.
        law: what the hashes in the policy stand for.
        measured: the client's own round trips, by public key.

    Raises RoutingError where the legs have no number format in common.
    """
    chain = NonceChain(randomness(32), chain_length(plan))
    sampling = sampling.replace(shaping=bound_to(sampling.shaping, prompt, grammar))
    terms = make_terms(
        route,
        manifest=manifest,
        venue=venue,
        policy=policy,
        plan=plan,
        sampling=sampling,
        nonces=chain.anchor,
        standbys=standbys,
        continues=continues,
        paid=paid,
        drafts=drafts,
    )
    return Deal(
        terms=terms,
        session=make_session(terms, client=client, expiry=expiry, salt=randomness(32)),
        chain=chain,
        legs=(*route, *standbys),
        prompt=tuple(prompt),
        grammar=grammar,
        stop_tokens=tuple(manifest.stop_tokens),
        vocabulary=manifest.vocabulary,
        secret=randomness(32),
        law=law,
        measured=tuple(measured.get(chosen.leg.offer.public_key) for chosen in (*route, *standbys)),
    )


def tls_address(offer: Offer) -> str:
    """Where a node's data plane is dialled directly: the best address of those that it names.

    Raises LostPeerError where none is of a kind that is known here.
    """
    for address in offer.data_addresses:
        if address.endswith("/tls"):
            return address
    raise LostPeerError("its data plane cannot be dialled from here", code="unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealedLegs:
    """One change of the route that let a job go on."""

    position: int
    """From which the new route serves."""
    tokens: int
    """Generated tokens that had come."""
    gone: tuple[int, ...]
    """Legs that serve no more."""
    joined: tuple[int, ...]
    """Those that took over."""
    seconds: float
    """Until all legs had taken up the new route."""
    why: str


@dataclass(slots=True)
class JobResult:
    """Everything that is left of one session: what the receipt bundle and the report are made from."""

    deal: Deal
    tab: Tab
    """What came, and the receipts that hold."""
    acceptances: dict[int, bytes] = field(default_factory=dict)
    """Sealed, by leg, of those that took the order."""
    failures: dict[int, JoulemeshError] = field(default_factory=dict)
    """By leg: why it refused, could not be reached, or ended the job."""
    gone: dict[int, LostPeerError] = field(default_factory=dict)
    """By leg: why the job went on without it."""
    twice: tuple[SignedReceipt, SignedReceipt] | None = None
    """Two receipts that a leg has signed under one nonce, and that say different things."""
    healed: list[HealedLegs] = field(default_factory=list)
    """How the route changed, in order."""
    discharges: dict[int, SignedDischarge] = field(default_factory=dict)
    """By leg: its word that it claims no more."""
    pay: SignedVoucher | None = None
    """The last voucher; None before the end, and where no leg took the order."""
    opened: bytes | None = None
    """Evidence that the session was opened."""
    settled: bytes | None = None
    """Evidence that vouchers were redeemed."""
    released: bytes | None = None
    """Evidence that what the legs do not claim came back."""
    record: SessionRecord | None = None
    """The session on the ledger after all this; None where that could not be asked."""
    operations: int = 0
    """That this client made on the ledger, each for a fee."""
    error: JoulemeshError | None = None
    """Why the answer is not complete; None when it is."""
    settle_error: JoulemeshError | None = None
    """Why the money is not where it belongs yet; None when it is, or waits for a leg that is gone."""
    started_s: float = 0.0
    """On the loop's clock, as the times that follow: when the session was asked for."""
    funded_s: float | None = None
    """When it was open."""
    accepted_s: float | None = None
    """When all legs had taken the order."""
    token_times_s: list[float] = field(default_factory=list)
    """When each token came."""
    passes: int = 0
    """Passes of the last leg that brought tokens: fewer than tokens where drafts were taken."""

    def blame(self, leg: int, error: JoulemeshError) -> None:
        """Take down what ended a leg's part; the first reason stays."""
        self.failures.setdefault(leg, error)

    @property
    def paid(self) -> tuple[int, ...]:
        """Micro-units by leg: as the ledger has it, or else as it was promised last."""
        if self.record is not None:
            return self.record.settled
        return (0,) * len(self.deal.session.legs) if self.pay is None else self.pay.voucher.amounts

    @property
    def unreleased(self) -> tuple[int, ...]:
        """Micro-units by leg that it has not been paid, nor given up."""
        caps = [leg.cap for leg in self.deal.session.legs]
        ceilings = caps if self.record is None else self.record.ceilings
        return tuple(ceiling - paid for ceiling, paid in zip(ceilings, self.paid, strict=True))

    @property
    def held(self) -> tuple[int, ...]:
        """Micro-units by leg that nobody claims: those of legs that gave no word."""
        silent = [self.record is None or leg not in self.discharges for leg in range(len(self.deal.legs))]
        return tuple(left if held else 0 for left, held in zip(self.unreleased, silent, strict=True))

    @property
    def first_failure(self) -> JoulemeshError:
        """The reason that tells most. There is one."""
        own = [leg for leg in self.culprits if leg in self.failures]
        return self.failures[own[0] if own else min(self.failures)]

    @property
    def culprits(self) -> tuple[int, ...]:
        """Legs that a new attempt should do without, lowest first.

        Where a leg says no more than that a neighbour is out of its reach, it is the neighbour that has failed; where
        no neighbour has shown any failure, either side may be at fault.
        """
        of_themselves = sorted(leg for leg, error in self.failures.items() if error.code not in _OF_NEIGHBOURS)
        if of_themselves:
            return tuple(of_themselves)
        around = {leg + step for leg, error in self.failures.items() for step in _OF_NEIGHBOURS[error.code]}
        return tuple(sorted({leg % len(self.deal.terms.route) for leg in around}))
