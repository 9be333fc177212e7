"""Whether what a node has at stake lets it be paid what it is promised, where its ledger bounds that (L8)."""

from __future__ import annotations

from collections.abc import Iterable

from node.events import BondTooSmall, Events
from node.pipeline.vouchers import StoredVoucher
from node.ports import Settlement

__all__ = ["BondWatch"]


class BondWatch:
    """Tells of it once, and again after it was enough."""

    def __init__(self, settlement: Settlement, address: bytes, events: Events) -> None:
        self._settlement = settlement
        self._address = address
        self._events = events
        self._told = False

    async def look(self, stored: Iterable[StoredVoucher]) -> None:
        """At what is promised and not settled yet. Raises as the settlement does."""
        multiple = (await self._settlement.rules()).bond_multiple
        promised = sum(each.pay.voucher.amounts[each.leg] for each in stored if each.pay and each.leg is not None)
        if not multiple or not promised:
            self._told = False
            return
        bond = (await self._settlement.account(self._address)).bond
        is_small = promised > multiple * bond
        if is_small and not self._told:
            self._events(BondTooSmall(promised_micro=promised, bond_micro=bond, multiple=multiple))
        self._told = is_small
