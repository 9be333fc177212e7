"""Offers as columns of numbers beside the offers themselves, so that thousands are judged and routed as arrays.

What is equal in many offers (a model, a ledger, all that a policy asks of a place or a machine) is a small number in
its column. Rows of offers that are gone are used again, and so are the numbers that nobody has any more: columns take
no more room than the most offers that there ever were at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import IntEnum
from typing import Generic, TypeVar

import numpy as np

from protocol.identity.ids import MAX_TOKENS, BlockSpan
from protocol.market.offer import Limits, Offer, OfferKey, offer_key
from protocol.market.rates import Rates
from protocol.routing.cells import Bools, Ints

__all__ = ["Column", "Columns", "Interned", "neutral"]

_LEAST_ROWS = 64
_MOST = MAX_TOKENS

T = TypeVar("T", bound=Hashable)


class Column(IntEnum):
    """What stands in a column; prices and times are of the whole span."""

    LIVE = 0
    """1 where the row is an offer."""
    MODEL = 1
    VENUE = 2
    KIND = 3
    """Equal for offers that a policy judges alike, numbers and their provider apart."""
    PLACE = 4
    """Equal for offers whose machines stand in the same places."""
    PROVIDER = 5
    START = 6
    END = 7
    BLOCKS = 8
    PRICE_IN = 9
    PRICE_OUT = 10
    POSITION_US = 11
    PROMPT_US = 12
    CONTEXT = 13
    SESSIONS = 14
    WINDOW = 15
    CHUNK = 16
    EXPIRES_AT = 17
    ORDER = 18
    """The first bits of the public key: an order that does not depend on how offers came in."""


class Interned(Generic[T]):
    """A small number for each value that somebody holds."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._held: list[int] = []
        self._values: list[T | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """Numbers that were ever in use at once."""
        return len(self._values)

    def hold(self, value: T) -> int:
        """Its number, once more in use."""
        number = self._numbers.get(value)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._values[number] = value
            else:
                number = len(self._values)
                self._values.append(value)
                self._held.append(0)
            self._numbers[value] = number
        self._held[number] += 1
        return number

    def drop(self, number: int) -> bool:
        """Once less in use; whether nobody holds it any more."""
        self._held[number] -= 1
        if self._held[number]:
            return False
        value = self._values[number]
        assert value is not None
        del self._numbers[value]
        self._values[number] = None
        self._free.append(number)
        return True

    def copy(self) -> Interned[T]:
        """The same values with the same numbers."""
        copied: Interned[T] = Interned()
        copied._numbers, copied._held = dict(self._numbers), list(self._held)
        copied._values, copied._free = list(self._values), list(self._free)
        return copied

    def find(self, value: T) -> int | None:
        """Its number, where somebody holds it."""
        return self._numbers.get(value)

    def value(self, number: int) -> T:
        """What has this number."""
        value = self._values[number]
        assert value is not None
        return value


Kind = tuple[object, ...]


def _kind(offer: Offer) -> Kind:
    hardware, energy = offer.hardware, offer.energy
    return (
        offer.precision,
        offer.license,
        hardware.device,
        hardware.name,
        hardware.category,
        offer.retention_s,
        offer.trains,
        None if energy is None else energy.carbon_g_per_kwh,
        *_place(offer),
    )


def _place(offer: Offer) -> tuple[str, ...]:
    return (offer.jurisdiction, offer.region, *offer.places)


def neutral(offer: Offer) -> Offer:
    """An offer of the same kind of which no number stands against anything."""
    return offer.replace(
        expires_at=2**40 - 1,
        span=BlockSpan(start=0, end=1),
        limits=Limits(window=_MOST, chunk=_MOST, context=_MOST, sessions=1, draft_depth=0, credit=0),
        rates=Rates(opening=0, price_in=0, price_out=0, price_cached=0, price_rejected=0, late_discount_ppm=0),
        prompt_us=1,
        position_us=1,
        statements=(),
        round_trips=(),
    )


class Columns:
    """The offers that are here, of each key one. `offer(row)` is the offer, `at(column)` a column over all rows."""

    def __init__(self, offers: Iterable[Offer] = ()) -> None:
        self._table = np.zeros((len(Column), _LEAST_ROWS), dtype=np.int64)
        self._offers: list[Offer | None] = []
        self._rows: dict[OfferKey, int] = {}
        self._free: list[int] = []
        self._models: Interned[bytes] = Interned()
        self._venues: Interned[bytes] = Interned()
        self._kinds: Interned[Kind] = Interned()
        self._places: Interned[tuple[str, ...]] = Interned()
        self._providers: Interned[bytes] = Interned()
        self._neutral: dict[int, Offer] = {}
        for offer in offers:
            self.put(offer)

    def __len__(self) -> int:
        """Offers that are here."""
        return len(self._rows)

    @property
    def rows(self) -> int:
        """Rows, those of offers that are gone included."""
        return len(self._offers)

    def put(self, offer: Offer) -> int:
        """Take in an offer, in place of an earlier one of its key; its row."""
        key = offer_key(offer)
        row = self._rows.get(key)
        if row is not None:
            self._release(row)
        elif self._free:
            row = self._free.pop()
        else:
            row = len(self._offers)
            self._offers.append(None)
            if row == self._table.shape[1]:
                self._table = np.concatenate((self._table, np.zeros_like(self._table)), axis=1)
        self._rows[key] = row
        self._offers[row] = offer
        kind = self._kinds.hold(_kind(offer))
        if kind not in self._neutral:
            self._neutral[kind] = neutral(offer)
        rates, limits = offer.rates, offer.limits
        self._table[:, row] = (
            1,
            self._models.hold(offer.model),
            self._venues.hold(offer.venue),
            kind,
            self._places.hold(_place(offer)),
            self._providers.hold(offer.public_key),
            offer.span.start,
            offer.span.end,
            offer.blocks,
            rates.price_in,
            rates.price_out,
            offer.position_us,
            offer.prompt_us,
            limits.context,
            limits.sessions,
            limits.window,
            limits.chunk,
            offer.expires_at,
            int.from_bytes(offer.public_key[1:8]),
        )
        return row

    def row(self, offer: Offer) -> int:
        """The row of an offer; it is taken in where it is not here."""
        row = self._rows.get(offer_key(offer))
        return row if row is not None and self._offers[row] is offer else self.put(offer)

    def drop(self, key: OfferKey) -> None:
        """Forget the offer of a key."""
        row = self._rows.pop(key)
        self._release(row)
        self._offers[row] = None
        self._table[Column.LIVE, row] = 0
        self._free.append(row)

    def _release(self, row: int) -> None:
        table = self._table
        self._models.drop(int(table[Column.MODEL, row]))
        self._venues.drop(int(table[Column.VENUE, row]))
        self._places.drop(int(table[Column.PLACE, row]))
        self._providers.drop(int(table[Column.PROVIDER, row]))
        kind = int(table[Column.KIND, row])
        if self._kinds.drop(kind):
            del self._neutral[kind]

    def copy(self) -> Columns:
        """The same offers, which stay as they are."""
        copied = Columns()
        copied._table = self._table.copy()
        copied._offers, copied._free = list(self._offers), list(self._free)
        copied._rows, copied._neutral = dict(self._rows), dict(self._neutral)
        copied._models, copied._venues = self._models.copy(), self._venues.copy()
        copied._kinds, copied._places = self._kinds.copy(), self._places.copy()
        copied._providers = self._providers.copy()
        return copied

    def at(self, column: Column) -> Ints:
        """A column; belongs to these columns, which go on changing."""
        return self._table[column, : len(self._offers)]

    def offer(self, row: int) -> Offer:
        """The offer in a row."""
        offer = self._offers[row]
        assert offer is not None
        return offer

    def offers(self) -> list[Offer | None]:
        """By row, as they are now; None where a row is free."""
        return list(self._offers)

    def live(self) -> Bools:
        """Which rows are offers."""
        live: Bools = self.at(Column.LIVE) == 1
        return live

    # What the numbers mean

    def model(self, root: bytes) -> int:
        """Of a model; -1 where nobody offers it."""
        return _or_none(self._models.find(root))

    def venue(self, separator: bytes) -> int:
        """Of a ledger; -1 where nobody settles on it."""
        return _or_none(self._venues.find(separator))

    def provider(self, public_key: bytes) -> int:
        """Of a provider; -1 where it offers nothing."""
        return _or_none(self._providers.find(public_key))

    @property
    def providers(self) -> int:
        """Numbers of providers are below this."""
        return len(self._providers)

    @property
    def kinds(self) -> int:
        """Numbers of kinds are below this."""
        return len(self._kinds)

    @property
    def places(self) -> int:
        """Numbers of places are below this."""
        return len(self._places)

    def place(self, number: int) -> tuple[str, ...]:
        """Country, part of it (or empty), and further places."""
        return self._places.value(number)

    def sample(self, kind: int) -> Offer:
        """An offer of this kind of which no number stands against anything."""
        return self._neutral[kind]


def _or_none(number: int | None) -> int:
    return -1 if number is None else number
