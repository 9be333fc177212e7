"""Which providers a client leaves out where there are others, and why: what it remembers of them, or they have said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from protocol.identity.ids import Address
from protocol.identity.signing import address_of_public_key
from protocol.policy.policy import Known, Reason, ReasonCode
from protocol.reputation.standing import Deed, Standing, why_shunned

__all__ = ["address_of", "known_of", "left_alone", "shunned"]


@lru_cache(maxsize=32_768)
def address_of(public_key: bytes) -> Address:
    """A provider's address, which takes some arithmetic."""
    return address_of_public_key(public_key)


def shunned(remembered: Mapping[bytes, Standing], now: int) -> dict[bytes, tuple[Reason, bool]]:
    """By public key: why a provider is left out where there is another, and whether for more than a failure.

    Args:
        remembered: of providers, by public key.
        now: Unix seconds.
    """
    found = {}
    for node, known in remembered.items():
        why = why_shunned(known, now)
        if why is not None:
            found[node] = Reason(ReasonCode.SHUNNED, why), known.offended
    return found


def known_of(standing: Standing) -> Known:
    """What the client knows of a provider that it remembers so: one that it paid keeps a place for it."""
    return Known(has_place=standing.of(Deed.SERVED).count > 0)


def left_alone(busy: Mapping[bytes, int], now: int) -> dict[bytes, tuple[Reason, bool]]:
    """As `shunned`: nodes that said to come back later."""
    return {
        node: (Reason(ReasonCode.SHUNNED, f"it is busy, and said to come back in {until - now} s"), False)
        for node, until in busy.items()
        if until > now
    }
