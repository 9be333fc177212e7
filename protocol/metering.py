"""Who owes what for how many tokens, and how far a leg may go before it is paid. Kernels run on ints and arrays.

Positions, tokens and windows: a leg processes positions 0, 1, 2, ... of a session. The first `prompt` of them are the
prompt; processing the last prompt position yields generated token 1, the next position token 2, and so on. So after
`positions` have been processed, ``min(positions, prompt)`` prompt tokens and ``max(0, positions - prompt + 1)``
generated tokens have been served (docs/spec/session.md, clause S3).
"""

from __future__ import annotations

from protocol.codec import Message, message
from protocol.ids import U32
from protocol.messages import Leg, Session
from protocol.units import MICRO, IntOrArray, MicroUnits

__all__ = ["Plan", "amount", "leg_amount", "payable", "reserved_caps", "served", "window_end"]


def amount(tokens_in: IntOrArray, tokens_out: IntOrArray, price_in: IntOrArray, price_out: IntOrArray) -> IntOrArray:
    """Micro-units for cumulative counts at prices per million tokens, rounded down once.

    Rounding cumulative counts, never increments, keeps the error of a leg below one micro-unit for a whole session.
    On int64 arrays the caller keeps ``tokens * price`` below 2**62.
    """
    return (tokens_in * price_in + tokens_out * price_out) // MICRO


def leg_amount(leg: Leg, tokens_in: int, tokens_out: int) -> MicroUnits:
    """What one leg has earned at these counts."""
    return MicroUnits(amount(tokens_in, tokens_out, leg.price_in, leg.price_out))


def reserved_caps(session: Session) -> MicroUnits:
    """What a session takes from its client's free money when it opens."""
    return MicroUnits(sum(leg.cap for leg in session.legs))


@message()
class Plan(Message):
    """The counts that fix where a session's windows end: the same for the client and for every leg."""

    prompt: U32
    """Prompt tokens, at least 1."""
    most: U32
    """Generated tokens at most."""
    chunk: U32
    """Prompt tokens in one prepaid chunk."""
    window: U32
    """Generated tokens that may be served unpaid."""


def served(plan: Plan, positions: int) -> tuple[int, int]:
    """Prompt and generated tokens that have been served once `positions` positions are processed."""
    return min(positions, plan.prompt), max(0, positions - plan.prompt + 1)


def window_end(plan: Plan, positions: int) -> int:
    """Where the window ends that begins once `positions` have been processed: receipts are due there.

    Prompt windows end after each chunk and with the prompt; later ones after each `window` generated tokens.
    """
    if positions < plan.prompt:
        return min(plan.prompt, (positions // plan.chunk + 1) * plan.chunk)
    generated = positions - plan.prompt + 1
    return plan.prompt - 1 + (generated // plan.window + 1) * plan.window


def payable(plan: Plan, paid_in: int, paid_out: int) -> int:
    """How many positions a leg may process when a voucher pays `paid_in` and `paid_out` tokens.

    Prompt tokens are paid before they are processed, generated tokens at most one window after.
    """
    if paid_in < plan.prompt:
        return paid_in
    return plan.prompt - 1 + paid_out + plan.window
