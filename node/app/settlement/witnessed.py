"""Which cosignatures a client or a node asks the ledger's checkpoints for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from node.app.process.clock import clock
from node.config import ClientConfig, NodeConfig
from node.events import Events, LedgerUnwitnessed
from node.ledger import Witnessed
from protocol.errors import ConfigurationError, InvalidError, UnwitnessedError
from protocol.log.cosignature import CosignerKey, WitnessPolicy
from protocol.log.post_quantum import PostQuantumKey, parse_cosigner

__all__ = ["Witnessing", "tell_of_lack", "witnessed_by", "witnessed_of"]


class Witnessing(Protocol):
    """A venue that can say whether it is watched as is asked for."""

    async def require_witnessed(self) -> None:
        """Raises UnwitnessedError where it is not."""


def witnessed_of(config: ClientConfig | NodeConfig) -> Witnessed:
    """Which cosignatures a client or a node asks for. Raises ConfigurationError."""
    return _witnessed(config.witnesses, config.min_witnesses, config.max_checkpoint_age_s)


def witnessed_by(witnesses: Sequence[str]) -> Witnessed:
    """That all of some witnesses have cosigned, whenever. Raises ConfigurationError, MalformedError."""
    return _witnessed(witnesses, None, 0)


def _witnessed(witnesses: Sequence[str], least: int | None, max_age_s: int) -> Witnessed:
    found = tuple(map(parse_cosigner, witnesses))
    keys = tuple(each for each in found if isinstance(each, CosignerKey))
    second = tuple(each for each in found if isinstance(each, PostQuantumKey))
    try:
        return Witnessed(WitnessPolicy(keys, len(keys) if least is None else least, max_age_s, second), clock)
    except InvalidError as error:
        raise ConfigurationError(f"witnesses, min_witnesses: {error.message}", hint=error.hint) from None


async def tell_of_lack(ledger: Witnessing, on_event: Events) -> None:
    """Where the ledger shows no checkpoint as the policy asks, say so: no order will be taken until it does."""
    try:
        await ledger.require_witnessed()
    except UnwitnessedError as error:
        on_event(LedgerUnwitnessed(reason=error.message))
