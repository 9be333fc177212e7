"""What has to hold before a job is planned at all: something is asked, the class can be routed, the money is there."""

from __future__ import annotations

from node.app.buying.request import Request
from node.config import ClientConfig
from node.ports import VenueRules
from protocol.errors import ConfigurationError, FundsError
from protocol.policy.policy import TIME_PER_TOKEN_US, LatencyClass
from protocol.units import format_micro

__all__ = ["LEAST_CAP", "OPERATIONS", "require_funds", "require_routable", "require_tokens"]

OPERATIONS = 3
"""Of one job on the ledger, each for a fee: open, settle, release."""
LEAST_CAP = 1
"""Micro-units that any job reserves: nothing that is served is free."""


def require_tokens(request: Request) -> None:
    """Raises ConfigurationError for a request that asks nothing."""
    if not request.prompt:
        raise ConfigurationError("the prompt has no tokens", hint="write something to ask")


def require_routable(config: ClientConfig) -> None:
    """Raises ConfigurationError for a latency class that no route over a network keeps to."""
    if LatencyClass(config.latency_class) not in TIME_PER_TOKEN_US:
        raise ConfigurationError(
            f"{config.latency_class} jobs are never sent over a network",
            hint="run the model on this machine, or choose --latency-class metro or a slower one",
        )


def require_funds(caps_micro: int, rules: VenueRules, free_micro: int) -> None:
    """Raises FundsError where the free money does not pay for a session's caps and the ledger's fees."""
    fees = OPERATIONS * rules.fee
    if free_micro < caps_micro + fees:
        raise FundsError(
            f"balance too low: the job reserves {format_micro(caps_micro)} at least and costs {format_micro(fees)} in "
            f"ledger fees, {format_micro(free_micro)} is free, {format_micro(caps_micro + fees - free_micro)} is "
            "missing",
            hint="deposit the missing amount (`joule faucet` on a local network), or lower --max-tokens",
        )
