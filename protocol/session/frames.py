"""What travels on the data plane while a job runs: headers; activations and sketches follow as raw payload bytes.

A link joins two authenticated peers and carries the frames of many sessions. Which side may send what is in
docs/spec/session.md, clauses D1 to D10; a frame that its sender may not send ends the session, not the process.
"""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Count, Message, Size, TextSize, Uint, message
from protocol.identity.ids import U32, Bytes32, Name, TokenId, Tokens
from protocol.market.offer import MAX_DRAFT, MAX_SEALED_OFFER
from protocol.models.activations import ActivationType
from protocol.session.messages import LegNumber, SignedDischarge, SignedReceipt, SignedVoucher
from protocol.session.terms import MAX_REROUTES, MAX_SEALED_REROUTE

__all__ = [
    "ANEW",
    "CLIENT_FRAMES",
    "LEG_FRAMES",
    "NO_SECRET",
    "PEER_FRAMES",
    "Attach",
    "Discharged",
    "Draw",
    "Failed",
    "Finish",
    "Joining",
    "Paused",
    "Probe",
    "Prompt",
    "Receipted",
    "Replayed",
    "Rerouted",
    "Sampled",
    "SampledToken",
    "Stands",
    "Step",
    "StepItem",
    "Told",
]

MAX_ITEMS = 256
"""Sessions in one pipeline step."""
MAX_KNOWN_TOKENS = 1 << 16
"""Token ids that a reroute hands over: of the windows that are computed again."""

RouteNumber = Annotated[int, Uint(8, MAX_REROUTES)]
"""Reroutes that are in force: 0 on the route of the terms."""
SealedReroute = Annotated[bytes, Size(1, MAX_SEALED_REROUTE)]


@message()
class Joining(Message):
    """Where a leg takes up a sequence whose first part is computed already (docs/spec/session.md, clause H3).

    All 0 for a job that begins anew; ``start`` and ``onward`` are at most ``base``.
    """

    base: Tokens
    """Position from which this route signs receipts."""
    start: Tokens
    """First position that this leg computes: it holds those before. What is below the base is catching up."""
    onward: Tokens
    """First position whose rows the next leg needs; below `start` they come from the trail of what was sent before."""


ANEW = Joining(base=0, start=0, onward=0)
"""Of a job that begins at its first position."""
NO_SECRET = bytes(32)
"""For legs that have no part in drafts."""


@message("attach/2")
class Attach(Message):
    """Client to leg, first of all: tokens, receipts and errors of this session go to this link."""

    session: Bytes32
    joining: Joining = ANEW
    """Of the order's session where it continues another one; of a standby it is said when it is called."""
    secret: Bytes32 = NO_SECRET
    """To the first and the last leg of a job with drafts: it hides drafted tokens from those between; else zero."""


@message("prompt/2")
class Prompt(Message):
    """Client to the first leg; payload: `length` token ids as little-endian 32-bit integers."""

    session: Bytes32
    position: Tokens
    """Of the first token."""
    length: Tokens


@message("told/1")
class Told(Message):
    """Client to a leg that holds the model's last block, after `attach/2`, where draws look back. Payload: the next
    bytes of what it is told (session.md, clause N8), or ids of the answer, 32 bits each.
    """

    session: Bytes32
    answer: bool
    """Whether they are generated tokens: a leg that takes over is told those that came."""
    last: bool
    """Whether these are the last ones."""


@message()
class StepItem(Message):
    """One session's part of a step."""

    session: Bytes32
    position: Tokens
    """Of the first row. Below what was sent before, all from there on is taken back: a draft was not taken."""
    length: Tokens
    """Rows."""
    certain: Tokens
    """Rows of positions below are of tokens that stand. Without drafts: all of the item's."""
    route: RouteNumber = 0
    """At the sender: what was sent on an older route is void."""
    flight: U32 = 0
    """Counts the session's items with drafts at the first leg; 0 for an item without."""
    drafts: Annotated[bytes, Size(0, 4 * MAX_DRAFT)] = b""
    """Ids of the tokens of rows that are not certain, masked for the last leg (`drafts.mask`)."""


@message("step/2")
class Step(Message):
    """Leg to next leg; payload: the rows of all items in order, each of `hidden_size` numbers of the named type."""

    activations: ActivationType
    """As in the terms of every session in it."""
    items: Annotated[tuple[StepItem, ...], Count(1, MAX_ITEMS)]


@message()
class SampledToken(Message):
    """One generated token."""

    session: Bytes32
    position: Tokens
    """Where the token stands: the first generated one at the prompt's length."""
    token: TokenId
    route: RouteNumber = 0
    """At the last leg."""


@message("sampled/2")
class Sampled(Message):
    """Last leg to the client, and to the first leg, which feeds the tokens back into the ring."""

    tokens: Annotated[tuple[SampledToken, ...], Count(1, MAX_ITEMS)]


@message("receipted/2")
class Receipted(Message):
    """Leg to client at the end of a window, and once more after the last; payload: the sketches that it names."""

    signed: SignedReceipt


@message("draw/2")
class Draw(Message):
    """Client to every leg, once all receipts for a window are in: the seed under which it is sketched."""

    session: Bytes32
    window: Tokens
    """Index of the window."""
    seed: Bytes32
    """`draws.window_seed`; whoever verifies the receipts later computes it again."""


@message("finish/2")
class Finish(Message):
    """Client to every leg: no more tokens are wanted. The leg answers with a receipt for a window it has begun."""

    session: Bytes32
    tokens_out: Tokens
    """Generated tokens that the client has seen."""


@message("discharged/2")
class Discharged(Message):
    """Leg to client, after the last voucher: the leg claims nothing beyond it."""

    signed: SignedDischarge


@message("failed/2")
class Failed(Message):
    """Leg to client: this session ends here, and why."""

    session: Bytes32
    leg: LegNumber
    code: Name
    reason: Annotated[str, TextSize(512)]


# Healing (docs/spec/session.md, clauses H1 to H8)


@message("paused/2")
class Paused(Message):
    """Leg to client: a neighbour is gone, or what was computed had to make room and may begin anew; the session stands
    still here until the client says how it goes on.
    """

    session: Bytes32
    leg: LegNumber
    code: Name
    reason: Annotated[str, TextSize(512)]


@message("probe/2")
class Probe(Message):
    """Client to leg: where does this session stand with you?"""

    session: Bytes32
    number: U32
    """Comes back with the answer."""


@message("stands/2")
class Stands(Message):
    """Leg to client, at once: how far it is. Not signed: it serves to find who holds up the others."""

    session: Bytes32
    leg: LegNumber
    number: U32
    """Of the probe."""
    arrived: Tokens
    """Positions that have come in."""
    processed: Tokens
    """Positions that have gone through its blocks."""
    signed: Tokens
    """Positions that it has signed receipts for."""
    replays: bool
    """Whether it can send again all that it sent of the positions that it signed for."""


@message("rerouted/2")
class Rerouted(Message):
    """Client to every leg of a new route. Payload, to its first and last leg: the ids of the generated tokens at the
    positions from the base on that the client has, 32 bits each, which stand.
    """

    session: Bytes32
    sealed: Annotated[tuple[SealedReroute, ...], Count(1, MAX_REROUTES)]
    """All of the session's reroutes, sealed, in order; the last one is the news."""
    next_offer: Annotated[bytes, Size(0, MAX_SEALED_OFFER)]
    """The sealed offer of the leg after the receiver on the new route (after the last leg of the first), where that is
    not the one before; else empty."""
    joining: Joining


@message("replayed/2")
class Replayed(Message):
    """Leg to client: it has caught up with rows that were sent to it again, and this is what they were."""

    session: Bytes32
    leg: LegNumber
    fed: Bytes32
    """Keccak-256 of the hashes of all windows up to the base, as receipts name what enters (`receipt.fed_hash`)."""


CLIENT_FRAMES = (Attach, SignedVoucher, Prompt, Told, Draw, Finish, Probe, Rerouted)
"""What a client may send to a leg."""
PEER_FRAMES = (Step, Sampled)
"""What a leg may send to another leg."""
LEG_FRAMES = (Sampled, Receipted, Discharged, Failed, Paused, Stands, Replayed)
"""What a leg may send to its client."""
