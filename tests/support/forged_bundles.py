"""What the tests of forged receipt bundles share: an honest job, and how a lie in it is refused.

Whoever lies has the keys of the party whose word it is: the client's, a leg's, the ledger's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from agreed_job import agree
from played_job import Play

from protocol.errors import DishonestError, PeerError
from protocol.identity.signing import SigningKey
from protocol.receipts.bundle import Bundle, verify_bundle
from protocol.session.messages import Receipt

STRANGER = SigningKey(b"\x44" * 32)
Lie = Callable[[Receipt, bytes], tuple[Receipt, bytes]]


def lying(leg: int, window: int, /, **changes: Any) -> Lie:
    """A leg signs something else in one window."""

    def alter(receipt: Receipt, shown: bytes) -> tuple[Receipt, bytes]:
        return (receipt.replace(**changes) if (receipt.leg, receipt.window) == (leg, window) else receipt), shown

    return alter


def refused(bundle: Bundle, says: str, error: type[PeerError] = DishonestError) -> None:
    """That a verifier refuses it, for a reason of which `says` is a part."""
    with pytest.raises(error, match=says):
        verify_bundle(bundle)


@functools.cache
def honest_play() -> Play:
    """One whole job of three legs. Nobody plays on in it."""
    return Play(agree()).run()


@functools.cache
def honest_bundle() -> Bundle:
    """Its bundle, which verifies."""
    made = honest_play().bundle()
    verify_bundle(made)
    return made
