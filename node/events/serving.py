"""A provider's side: offers, orders, jobs, and what they earn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, dollars, joules, short

__all__ = [
    "DiskRefused",
    "JobBegun",
    "JobFailed",
    "JobServed",
    "KeyInUse",
    "LinkRefused",
    "NodeReady",
    "OfferNotSent",
    "OfferPublished",
    "OfferSeen",
    "OfferUnseen",
    "OfferWithdrawn",
    "OrderNotAnswered",
    "OrderRefused",
    "VoucherNotRedeemable",
    "VoucherRedeemed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReady(Event):
    """A node serves, and its first offer is about to go out."""

    name: ClassVar[str] = "node ready"
    provider: bytes
    """Address that jobs are paid to."""
    peer: str
    """The multiaddr of its libp2p host."""
    data: str
    """Where activations come in."""
    ledger: str
    """URL of the ledger that it settles on."""
    model: str
    """Its name."""
    root: bytes
    """And its root, 32 bytes."""
    blocks: str
    """``START:END``, the end not included."""
    device: str
    """What computes, such as ``CPU, 2 threads``."""
    precision: str
    """Number format of the weights."""
    price_in_micro: int
    """Micro-units per million prompt tokens, for these blocks."""
    price_out_micro: int
    """Micro-units per million generated tokens, for these blocks."""
    millijoules_per_token: int | None
    """None where it is not known."""
    energy_source: str | None
    """Where that figure comes from."""
    position_us: int
    """Microseconds for one token through these blocks, measured at start."""
    start_s: float
    """Seconds from start to here."""

    def sentence(self) -> str:
        energy = "" if self.millijoules_per_token is None else f", {self.millijoules_per_token} mJ a token"
        return (
            f"ready after {self.start_s:.1f} s: blocks {self.blocks} of {self.model} in {self.precision} on "
            f"{self.device}; asks {dollars(self.price_out_micro)} per million tokens{energy} ({self.energy_source}); "
            f"paid to {short(self.provider)}; peer {self.peer}, data {self.data}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferPublished(Event):
    """The node's offer went out, anew."""

    name: ClassVar[str] = "offer published"
    level: ClassVar[Level] = Level.DEBUG
    sequence: int
    """Rises with each offer."""
    expires_at: int
    """Unix seconds."""
    price_in_micro: int
    """Micro-units per million prompt tokens."""
    price_out_micro: int
    """Micro-units per million generated tokens."""

    def sentence(self) -> str:
        return f"published an offer at {dollars(self.price_out_micro)} per million generated tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferNotSent(Event):
    """The node's offer could not be sent; it is tried again."""

    name: ClassVar[str] = "offer not sent"
    level: ClassVar[Level] = Level.WARNING
    code: str
    """Why, for programs."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"could not send the offer: {self.reason} [{self.code}]; it is tried again"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferWithdrawn(Event):
    """The node takes itself off the market."""

    name: ClassVar[str] = "offer withdrawn"

    def sentence(self) -> str:
        return "withdrew the offer: no new jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferUnseen(Event):
    """The node looked for its own offer at some peers, more than once, and did not find it."""

    name: ClassVar[str] = "offer not seen"
    level: ClassVar[Level] = Level.WARNING
    peers: int
    """How many were asked and answered."""

    def sentence(self) -> str:
        where = f"none of {self.peers} peers shows" if self.peers else "no peer answers that could show"
        return f"{where} this node's offer: no jobs will come"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInUse(Event):
    """Somebody else's offers carry this node's key: the two take each other off the market."""

    name: ClassVar[str] = "key in use elsewhere"
    level: ClassVar[Level] = Level.ERROR
    addresses: tuple[str, ...]
    """Where the other one serves."""

    def sentence(self) -> str:
        return f"another node sends offers under this key, from {', '.join(self.addresses)}: stop one of the two"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSeen(Event):
    """After `OfferUnseen`: the offer is to be found again."""

    name: ClassVar[str] = "offer seen again"

    def sentence(self) -> str:
        return "the network shows this node's offer again"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Event):
    """A client's order was not taken."""

    name: ClassVar[str] = "order refused"
    client: bytes
    """Its address."""
    session: bytes
    """Its id on the ledger, 32 bytes."""
    code: str
    """As it was answered."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"refused an order of {short(self.client)}: {self.reason} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNotAnswered(Event):
    """What came as an order was none for this node, or nothing shows that it is paid: no word was given on it."""

    name: ClassVar[str] = "order not answered"
    level: ClassVar[Level] = Level.DEBUG
    code: str
    """As it was answered."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"did not answer an order: {self.reason} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRefused(Event):
    """A peer sent what nobody in its place may send, and its link was ended."""

    name: ClassVar[str] = "link refused"
    level: ClassVar[Level] = Level.WARNING
    peer: bytes
    """Its address."""
    code: str
    """Why, for programs."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"ended a link of {short(self.peer)}: {self.reason} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBegun(Event):
    """An order was accepted."""

    name: ClassVar[str] = "job begun"
    client: bytes
    """Its address."""
    session: bytes
    """Its id on the ledger, 32 bytes."""
    leg: int
    """This node's place in the chain, from 0."""
    blocks: str
    """``START:END`` that it runs for this job."""

    def sentence(self) -> str:
        return f"began a job of {short(self.client)}: leg {self.leg}, blocks {self.blocks} ({short(self.session)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobServed(Event):
    """A job came to its end, and is paid for by voucher."""

    name: ClassVar[str] = "job served"
    client: bytes
    """Its address."""
    session: bytes
    """Its id on the ledger, 32 bytes."""
    leg: int
    """Its place in the chain, from 0."""
    tokens_in: int
    """Prompt tokens served."""
    tokens_out: int
    """Generated tokens served."""
    earned_micro: int
    """Micro-units that the last voucher promises to this leg."""
    millijoules: int | None
    """Energy by this leg's receipts; None where it is not measured."""
    seconds: float
    """From the order to the end."""

    def sentence(self) -> str:
        return (
            f"served a job of {short(self.client)}: {self.tokens_in} prompt and {self.tokens_out} generated tokens, "
            f"earned {dollars(self.earned_micro)}, {joules(self.millijoules)}, {self.seconds:.1f} s "
            f"({short(self.session)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(Event):
    """A job ended before its time; what was paid until then is redeemed."""

    name: ClassVar[str] = "job failed"
    level: ClassVar[Level] = Level.WARNING
    client: bytes
    """Its address."""
    session: bytes
    """Its id on the ledger, 32 bytes."""
    leg: int
    """Its place in the chain, from 0."""
    tokens_in: int
    """Prompt tokens served."""
    tokens_out: int
    """Generated tokens served."""
    paid_micro: int
    """Micro-units that the last voucher promises to this leg."""
    code: str
    """Why, for programs."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return (
            f"a job of {short(self.client)} failed after {self.tokens_out} tokens: {self.reason} [{self.code}]; "
            f"{dollars(self.paid_micro)} is paid ({short(self.session)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherRedeemed(Event):
    """The node settled a voucher that its client had not settled."""

    name: ClassVar[str] = "voucher redeemed"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    amount_micro: int
    """Micro-units for this node, in all."""
    entry: str
    """Where the ledger has taken it down."""

    def sentence(self) -> str:
        return f"redeemed a voucher: {dollars(self.amount_micro)} ({short(self.session)}, entry {self.entry})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherNotRedeemable(Event):
    """The ledger refuses a voucher, which is tried again until its session's grace ends; told once for each."""

    name: ClassVar[str] = "voucher not redeemable"
    level: ClassVar[Level] = Level.ERROR
    session: bytes
    """Its id on the ledger, 32 bytes."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"the ledger refuses a voucher, tried again until its grace ends: {self.reason} ({short(self.session)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRefused(Event):
    """A promise could not be written, or read: nothing is taken on it, and what is owed already is tried again."""

    name: ClassVar[str] = "disk refused"
    level: ClassVar[Level] = Level.ERROR
    reason: str
    """For people."""

    def sentence(self) -> str:
        return self.reason
