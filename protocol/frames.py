"""What travels on the data plane while a job runs: headers; activations and sketches follow as raw payload bytes.

A link joins two authenticated peers and carries the frames of many sessions. Which side may send what is in
docs/spec/session.md, clauses D1 to D10; a frame that its sender may not send ends the session, not the process.
"""

from __future__ import annotations

from typing import Annotated

from protocol.activations import ActivationType
from protocol.codec import Count, Message, TextSize, message
from protocol.ids import Bytes32, Name, TokenId, Tokens
from protocol.messages import LegNumber, SignedDischarge, SignedReceipt, SignedVoucher

__all__ = [
    "CLIENT_FRAMES",
    "LEG_FRAMES",
    "PEER_FRAMES",
    "Attach",
    "Discharged",
    "Draw",
    "Failed",
    "Finish",
    "Prompt",
    "Receipted",
    "Sampled",
    "SampledToken",
    "Step",
    "StepItem",
]

MAX_ITEMS = 256
"""Sessions in one pipeline step."""


@message("attach/2")
class Attach(Message):
    """Client to leg, first of all: tokens, receipts and errors of this session go to this link."""

    session: Bytes32


@message("prompt/2")
class Prompt(Message):
    """Client to the first leg; payload: `length` token ids as little-endian 32-bit integers."""

    session: Bytes32
    position: Tokens
    """Of the first token."""
    length: Tokens


@message()
class StepItem(Message):
    """One session's part of a step."""

    session: Bytes32
    position: Tokens
    """Of the first row."""
    length: Tokens
    """Rows."""


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


CLIENT_FRAMES = (Attach, SignedVoucher, Prompt, Draw, Finish)
"""What a client may send to a leg."""
PEER_FRAMES = (Step, Sampled)
"""What a leg may send to another leg."""
LEG_FRAMES = (Sampled, Receipted, Discharged, Failed)
"""What a leg may send to its client."""
