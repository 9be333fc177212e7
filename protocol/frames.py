"""What travels on the data plane while a job runs: headers; activations and sketches follow as raw payload bytes.

A link joins two authenticated peers and carries the frames of many sessions. Which side may send what is in
docs/spec/session.md, clauses D1 to D9; a frame that its sender may not send ends the session, not the process.
"""

from __future__ import annotations

from typing import Annotated

from protocol.codec import Count, Message, TextSize, message
from protocol.ids import U8, U32, U64, Bytes32, Name, SignatureBytes
from protocol.messages import Discharge, Receipt, Voucher

__all__ = [
    "CLIENT_FRAMES",
    "LEG_FRAMES",
    "PEER_FRAMES",
    "Attach",
    "Discharged",
    "Failed",
    "Finish",
    "Pay",
    "Prompt",
    "Receipted",
    "Sampled",
    "SampledToken",
    "Step",
    "StepItem",
]

MAX_ITEMS = 256
"""Sessions in one pipeline step."""


@message("attach/1")
class Attach(Message):
    """Client to leg, first of all: tokens, receipts and errors of this session go to this link."""

    session: Bytes32


@message("pay/1")
class Pay(Message):
    """Client to every leg: a voucher."""

    voucher: Voucher
    signature: SignatureBytes


@message("prompt/1")
class Prompt(Message):
    """Client to the first leg; payload: `length` token ids as little-endian 32-bit integers."""

    session: Bytes32
    position: U32
    """Of the first token."""
    length: U32


@message()
class StepItem(Message):
    """One session's part of a step."""

    session: Bytes32
    position: U32
    """Of the first row."""
    length: U32
    """Rows."""


@message("step/1")
class Step(Message):
    """Leg to next leg; payload: the rows of all items in order, each row `hidden_size` little-endian fp32 numbers."""

    items: Annotated[tuple[StepItem, ...], Count(1, MAX_ITEMS)]


@message()
class SampledToken(Message):
    """One generated token."""

    session: Bytes32
    position: U32
    """Where the token stands: the first generated one at the prompt's length."""
    token: U32


@message("sampled/1")
class Sampled(Message):
    """Last leg to the client, and to the first leg, which feeds the tokens back into the ring."""

    tokens: Annotated[tuple[SampledToken, ...], Count(1, MAX_ITEMS)]


@message("receipted/1")
class Receipted(Message):
    """Leg to client at the end of a window; payload: the window's 128-byte sketch."""

    receipt: Receipt
    signature: SignatureBytes


@message("finish/1")
class Finish(Message):
    """Client to every leg: no more tokens are wanted. The leg answers with a receipt for a window it has begun."""

    session: Bytes32
    tokens_out: U64
    """Generated tokens that the client has seen."""


@message("discharged/1")
class Discharged(Message):
    """Leg to client, after the last voucher: the leg claims nothing beyond it."""

    discharge: Discharge
    leg: U8
    signature: SignatureBytes


@message("failed/1")
class Failed(Message):
    """Leg to client: this session ends here, and why."""

    session: Bytes32
    leg: U8
    code: Name
    reason: Annotated[str, TextSize(512)]


CLIENT_FRAMES = (Attach, Pay, Prompt, Finish)
"""What a client may send to a leg."""
PEER_FRAMES = (Step, Sampled)
"""What a leg may send to another leg."""
LEG_FRAMES = (Sampled, Receipted, Discharged, Failed)
"""What a leg may send to its client."""
