"""Which of many offers a policy admits, as arrays, by the very rule that judges one (`policy.excluded`).

Offers of one kind differ in numbers alone, so each kind is judged once, by that rule, on an offer of which no number
stands against anything; the numbers are compared as columns. Whoever takes an offer by this still holds it against the
rule itself (`Judge.reason`): a clause that has no column yet then costs time, and lets nothing through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from protocol.market.offer import Evidence, Offer
from protocol.policy.policy import NOTHING_KNOWN, TIME_PER_TOKEN_US, Known, Needs, Policy, Reason, ReasonCode, excluded
from protocol.routing.cells import Bools, Ints
from protocol.routing.columns import Column, Columns

__all__ = ["Judge"]

_LIMITS = (Column.CONTEXT, Column.WINDOW, Column.CHUNK)
_ANY_PRICE = 2**40
"""No price of a block is above this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Holds offers in columns against a policy."""

    columns: Columns
    policy: Policy
    model: bytes
    blocks: int
    """Of the whole model."""
    venue: bytes
    now: int
    needs: Needs
    known: Mapping[bytes, Known] = field(default_factory=lambda: MappingProxyType({}))
    """By public key."""
    others: Known = NOTHING_KNOWN
    """What is known of those who are not there."""
    among: Bools | None = None
    """(rows,) which offers count; None for all that the columns hold."""
    _by_kind: dict[tuple[int, Known], Reason | None] = field(default_factory=dict)

    def there(self) -> Bools:
        """(rows,) which offers count."""
        return self.columns.live() if self.among is None else self.columns.live() & self.among

    @property
    def until(self) -> int:
        """Unix seconds, until when the law has to hold."""
        return max(self.now, self.needs.law.until)

    def admitted(self) -> Bools:
        """(rows,) which offers may be used."""
        at, needs = self.columns.at, self.needs
        numbers, of = self._numbers_of_known()
        fits = self._ours()
        fits[fits] = self._kinds_admitted(at(Column.KIND)[fits], of[fits], list(numbers))
        fits &= self._numbers_fit()
        fits &= at(Column.CONTEXT) >= needs.positions
        fits &= at(Column.WINDOW) >= needs.window
        fits &= at(Column.CHUNK) >= needs.chunk
        keeps_place = np.array([each.has_place for each in numbers])
        fits &= (at(Column.SESSIONS) > 0) | keeps_place[of]
        if self._asks_each:
            for row in np.flatnonzero(fits).tolist():
                fits[row] = self.reason(self.columns.offer(row)) is None
        return fits

    def _ours(self) -> Bools:
        """Which rows are offers of this model on this ledger that are in force."""
        at = self.columns.at
        ours: Bools = at(Column.MODEL) == self.columns.model(self.model)
        ours &= at(Column.VENUE) == self.columns.venue(self.venue)
        ours &= at(Column.EXPIRES_AT) > self.now
        ours &= self.there()
        return ours

    @property
    def _asks_each(self) -> bool:
        """Whether what is asked depends on more than kind and numbers: on who it is, or what others say of it."""
        return self.policy.trust is not None or bool(self.policy.lists)

    def _numbers_of_known(self) -> tuple[dict[Known, int], Ints]:
        """A number for each thing that is known, and by row that of its provider."""
        numbers = {self.others: 0}
        by_provider = np.zeros(max(1, self.columns.providers), dtype=np.int64)
        for key, known in self.known.items():
            provider = self.columns.provider(key)
            if provider >= 0:
                by_provider[provider] = numbers.setdefault(known, len(numbers))
        return numbers, by_provider[self.columns.at(Column.PROVIDER)]

    def why_not(self) -> Callable[[int, Offer], Reason | None]:
        """For a row as it is now and its offer: as `reason`, and sooner. Offers alike in all that the rule asks
        are judged once.
        """
        numbers, of = self._numbers_of_known()
        own = self._ours() & self._numbers_fit()
        if self._asks_each:
            own[:] = False
        at = self.columns.at
        alike = [of, at(Column.SESSIONS) > 0, *(at(each).copy() for each in (Column.KIND, *_LIMITS))]
        known, lists, told = list(numbers), list[list[int]](), dict[tuple[int, ...], Reason | None]()

        def of_row(row: int, offer: Offer) -> Reason | None:
            if not own[row]:
                return self.reason(offer)
            if not lists:
                lists.extend(each.tolist() for each in alike)
            who, places, kind, context, window, chunk = lists
            key = who[row], places[row], kind[row], context[row], window[row], chunk[row]
            if key not in told:
                told[key] = self.reason(offer, known[key[0]])
            return told[key]

        return of_row

    def _numbers_fit(self) -> Bools:
        """Which rows keep the limits on the whole route with a single block."""
        at, policy = self.columns.at, self.policy
        length = at(Column.END) - at(Column.START)
        fits: Bools = at(Column.BLOCKS) == self.blocks
        fits &= at(Column.POSITION_US) < (TIME_PER_TOKEN_US.get(policy.latency_class, -1) + 1) * length
        for cap, price in ((policy.max_price_in, Column.PRICE_IN), (policy.max_price_out, Column.PRICE_OUT)):
            if cap is not None:
                fits &= at(price) <= min(cap, _ANY_PRICE) * length
        return fits

    def _kinds_admitted(self, kind: Ints, of: Ints, known: list[Known]) -> Bools:
        pair = kind * len(known) + of
        met = np.zeros(self.columns.kinds * len(known), dtype=bool)
        met[pair] = True
        for each in np.flatnonzero(met).tolist():
            number, which = divmod(each, len(known))
            met[each] = self._of_kind(number, known[which]) is None
        admitted: Bools = met[pair]
        return admitted

    def _of_kind(self, kind: int, known: Known) -> Reason | None:
        """Why no offer of a kind may be used, by whomever of whom just this is known."""
        key = kind, known
        if key not in self._by_kind:
            sample = self.columns.sample(kind)
            policy = self.policy
            if self._asks_each:  # the best that could come of it: each is judged by itself afterwards
                policy = policy.replace(trust=None, lists=())
                known = replace(known, evidence=Evidence.ATTESTED)
            judge = partial(excluded, policy, model=sample.model, venue=sample.venue, now=self.now, needs=self.needs)
            self._by_kind[key] = judge(sample, known=known)
        return self._by_kind[key]

    def reason(self, offer: Offer, known: Known | None = None) -> Reason | None:
        """Why one offer may not be used, by the rule itself; `known` where that was looked up."""
        reason = excluded(
            self.policy,
            offer,
            model=self.model,
            venue=self.venue,
            now=self.now,
            needs=self.needs,
            known=self.known.get(offer.public_key, self.others) if known is None else known,
        )
        if reason is None and offer.blocks != self.blocks:
            text = f"it says that the model has {offer.blocks} blocks, not {self.blocks}"
            return Reason(ReasonCode.BLOCKS, text)
        return reason
