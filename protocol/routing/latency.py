"""What the latency classes allow for a first token; `policy.TIME_PER_TOKEN_US` is what they allow for each one."""

from __future__ import annotations

from protocol.policy.policy import LatencyClass

__all__ = ["FIRST_TOKEN_US"]

FIRST_TOKEN_US: dict[LatencyClass, int] = {
    LatencyClass.BATCH: 600_000_000,
    LatencyClass.CHAT: 10_000_000,
    LatencyClass.VOICE: 1_000_000,
    LatencyClass.METRO: 250_000,
}
"""Most microseconds from the prompt to the first token, by the offers' own figures for a session alone: the whole
prompt through each leg, one after another, and one token's way round the ring. People wait some ten seconds for a page
to begin, and a second before a voice sounds broken."""
