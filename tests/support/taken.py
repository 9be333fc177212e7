"""A voucher that is checked and counted at once, as where nothing has to be on disk first."""

from __future__ import annotations

from typing import Any

from protocol.session.claim import Claim
from protocol.session.messages import SignedVoucher


def take_voucher(claim: Claim, signed: SignedVoucher, **told: Any) -> None:
    """Raises what `Claim.check` does."""
    claim.check(signed, **told)
    claim.count(signed)
