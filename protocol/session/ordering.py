"""Orders on the data plane: the question and its answer, each a header with the sealed bytes as its payload.

An order travels on the very link that the job will use, so that it takes one round trip and no connection of its own
(docs/spec/wire.md, clause W12).
"""

from __future__ import annotations

from protocol.encoding.codec import Message, message
from protocol.identity.ids import Bytes32
from protocol.market.catalog import RequestRefused

__all__ = ["MAX_ANSWER_BYTES", "MAX_ORDER_BYTES", "Ordered", "Ordering"]

MAX_ORDER_BYTES = 64 * 1024
"""Payload of an `Ordering`."""
MAX_ANSWER_BYTES = 4 * 1024
"""Payload of an `Ordered`."""


@message("ordering/1")
class Ordering(Message):
    """Whoever dialled to a leg; payload: a sealed `JobOrder`. Frames behind it wait until it is answered."""

    session: Bytes32
    """That the answer names again; what counts is in the order."""


@message("ordered/1")
class Ordered(Message):
    """Leg to whoever dialled; payload: a sealed `Acceptance` or `Refusal`, or nothing where `refused` says why."""

    session: Bytes32
    """As asked."""
    refused: RequestRefused | None
    """Why there is no sealed answer; signed by nobody."""
