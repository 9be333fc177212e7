"""Of a flood of offers by throwaway keys so many are looked at; those of known keys always are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from market_offers import NOW, an_offer, key_of

from node.market import OfferGate, picked
from node.market.gate import GUESTS_AT_ONCE, GUESTS_OF_A_BOOK, GUESTS_PER_S
from protocol.errors import MalformedError, PeerError, RefusedError, SignatureError
from protocol.identity.signing import seal


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(seconds: Seconds, *known: int) -> OfferGate:
    keys = {key_of(number).public_key for number in known}
    return OfferGate(lambda: NOW, lambda key: key in keys, seconds)


def passed(gate: OfferGate, data: bytes, times: int) -> int:
    count = 0
    for _ in range(times):
        with suppress(RefusedError):
            gate.admit(data)
            count += 1
    return count


def test_a_flood_of_newcomers_is_thinned_out_and_known_keys_are_heard() -> None:
    seconds = Seconds()
    held = gate(seconds, 1)
    guest, regular = seal(an_offer(0), key_of(0)), seal(an_offer(1), key_of(1))
    assert passed(held, guest, 1000) == GUESTS_AT_ONCE
    assert passed(held, regular, 50) == 50
    seconds.now = 2.0
    assert passed(held, guest, 1000) == 2 * GUESTS_PER_S


def test_who_says_to_be_somebody_known_is_still_checked() -> None:
    held = gate(Seconds(), 1)
    forged, real = seal(an_offer(1), key_of(0)), seal(an_offer(1), key_of(1))
    held.admit(forged)
    with pytest.raises(SignatureError):
        held.verify(forged)
    assert held.verify(real).offer == an_offer(1)


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x00" * 9000, seal(an_offer(0), key_of(0))[:-1], b"\x91" * 500])
def test_what_is_no_offer_is_refused_and_nothing_else(data: bytes) -> None:
    for look in (gate(Seconds()).admit, gate(Seconds()).verify):
        with pytest.raises(PeerError) as caught:
            look(data)
        assert isinstance(caught.value, MalformedError)


def test_of_a_long_book_known_keys_and_a_few_others_are_looked_at() -> None:
    guests = [seal(an_offer(number), key_of(number)) for number in range(2, 12)]
    regulars = [seal(an_offer(number), key_of(number)) for number in range(2)]
    keys = {key_of(number).public_key for number in range(2)}
    book = [*guests, b"no offer", *regulars]
    some = picked(book, keys.__contains__, most_guests=4)
    assert (some[:2], len(some), set(some) <= set(book)) == (regulars, 6, True)
    assert set(picked(book, keys.__contains__)) == set(book)
    assert len(picked(guests * 20, keys.__contains__)) == GUESTS_OF_A_BOOK
