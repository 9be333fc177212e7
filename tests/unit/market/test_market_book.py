"""The book keeps the newest valid offer of each kind, within bounds, and forgets what is over."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from market_offers import MODEL, NOW, an_offer, key_of

from node.market import OfferBook, VerifiedOffer, verify_offer
from protocol.errors import ExpiredError, MalformedError, RefusedError, SignatureError
from protocol.identity.signing import seal
from protocol.market.offer import CLOCK_SKEW_S, MAX_TTL_S, Offer
from protocol.reputation.merit import Merit


class Time:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def sealed(number: int = 0, blocks: tuple[int, int] = (0, 4), **changes: Any) -> bytes:
    return seal(an_offer(number, blocks, **changes), key_of(number))


def test_news_is_kept_and_served() -> None:
    book = OfferBook(Time())
    first, second = sealed(0, issued_at=NOW - 9), sealed(1, (1, 3), issued_at=NOW - 2)
    assert book.add(first)
    assert book.add(second)
    assert not book.add(first)
    assert book.sealed() == [second, first]
    assert {offer.public_key for offer in book.offers()} == {key_of(0).public_key, key_of(1).public_key}


def test_one_model_can_be_asked_for() -> None:
    book = OfferBook(Time())
    book.add(sealed(0))
    book.add(sealed(1, model=b"\x55" * 32))
    assert [offer.model for offer in book.offers(MODEL)] == [MODEL]
    assert len(book.sealed(MODEL)) == 1
    assert book.offers(b"\x66" * 32) == []


def test_one_node_can_be_asked_for() -> None:
    book = OfferBook(Time())
    book.add(sealed(0))
    book.add(sealed(1))
    assert book.sealed(node=key_of(1).public_key) == [sealed(1)]
    assert book.sealed(MODEL, key_of(0).public_key) == [sealed(0)]
    assert book.sealed(b"\x66" * 32, key_of(0).public_key) == book.sealed(node=key_of(2).public_key) == []


def test_what_was_verified_is_taken_as_it_is() -> None:
    """Gossip has verified it in its own thread; a second time would cost as much again."""
    book = OfferBook(Time())
    assert book.take(verify_offer(sealed(sequence=2), NOW))
    assert not book.take(verify_offer(sealed(sequence=1), NOW))
    assert not book.add(sealed(sequence=2))
    assert book.sealed() == [sealed(sequence=2)]


def test_a_later_sequence_replaces_and_an_earlier_one_does_not() -> None:
    book = OfferBook(Time())
    assert book.add(sealed(sequence=5, price_in=5))
    assert not book.add(sealed(sequence=4, price_in=4))
    assert not book.add(sealed(sequence=5, price_in=6))
    assert book.add(sealed(sequence=6, price_in=7))
    assert [offer.rates.price_in for offer in book.offers()] == [7]


def test_an_expired_offer_is_gone_but_its_elders_stay_out() -> None:
    time = Time()
    book = OfferBook(time)
    elder = sealed(sequence=1, issued_at=NOW, expires_at=NOW + MAX_TTL_S)
    book.add(sealed(sequence=2, issued_at=NOW, expires_at=NOW + 5))
    time.now += 5
    assert book.offers() == book.sealed() == []
    assert not book.add(elder)
    assert book.add(sealed(sequence=3, issued_at=NOW, expires_at=NOW + 50))
    assert len(book.offers()) == 1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedError),
        (b"\xc0" * 9_000, MalformedError),
        (seal(an_offer(0), key_of(1)), SignatureError),
        (seal(an_offer(0, expires_at=NOW), key_of(0)), ExpiredError),
        (seal(an_offer(0, issued_at=NOW + CLOCK_SKEW_S + 1), key_of(0)), ExpiredError),
    ],
)
def test_what_is_not_valid_is_refused(data: bytes, error: type[Exception]) -> None:
    book = OfferBook(Time())
    with pytest.raises(error):
        book.add(data)
    with pytest.raises(error):
        verify_offer(data, NOW)
    assert book.offers() == []


def test_a_valid_one_comes_back_as_it_was() -> None:
    offer: Offer = an_offer(3)
    assert verify_offer(seal(offer, key_of(3)), NOW) == VerifiedOffer(offer, seal(offer, key_of(3)))


def test_one_node_has_so_many_offers() -> None:
    time = Time()
    book = OfferBook(time, most_by_peer=2)
    book.add(sealed(0, (0, 1)))
    book.add(sealed(0, (0, 2)))
    with pytest.raises(RefusedError) as raised:
        book.add(sealed(0, (0, 3)))
    assert raised.value.code == "book-full"
    assert book.add(sealed(0, (0, 2), sequence=2)), "renewing takes no room"
    assert book.add(sealed(1, (0, 3))), "another node has its own room"
    time.now += MAX_TTL_S + CLOCK_SKEW_S
    assert book.add(sealed(0, (0, 3), issued_at=time.now, expires_at=time.now + 60)), "what is over makes room"


def merits(**known: Merit) -> Callable[[bytes], Merit]:
    """Merit by number of the key, such as ``k3=Merit.PAID``."""
    of = {key_of(int(name[1:])).public_key: merit for name, merit in known.items()}
    return lambda public_key: of.get(public_key, Merit.NEWCOMER)


def keys_in(book: OfferBook) -> set[int]:
    numbers = {key_of(number).public_key: number for number in range(300)}
    return {numbers[offer.public_key] for offer in book.offers()}


def test_a_flood_of_new_keys_drives_out_nobody_who_has_merit() -> None:
    merit = merits(k0=Merit.ANSWERED, k1=Merit.PAID, k2=Merit.SERVED)
    book = OfferBook(Time(), merit=merit, most=12, most_guests=3)
    for number in (10, 11, 0, 12, 1, 2):
        book.add(sealed(number))
    for number in range(20, 200):
        with suppress(RefusedError):
            book.add(sealed(number))
    assert {0, 1, 2} < keys_in(book)
    assert len(book.offers()) == 6


def test_who_has_merit_finds_room_in_a_book_full_of_newcomers() -> None:
    book = OfferBook(Time(), merit=merits(k9=Merit.PAID, k8=Merit.PAID, k7=Merit.PAID), most=2, most_guests=2)
    assert book.add(sealed(0))
    assert book.add(sealed(1))
    assert book.add(sealed(9))
    assert book.add(sealed(8))
    assert keys_in(book) == {8, 9}
    with pytest.raises(RefusedError) as raised:
        book.add(sealed(7))
    assert raised.value.code == "book-full", "those who have merit are not driven out by others who have"
    with pytest.raises(RefusedError):
        book.add(sealed(0))


def test_each_newcomer_has_the_same_chance_however_many_come() -> None:
    dice = random.Random(7)
    kept = Counter[int]()
    offers = [verify_offer(sealed(number), NOW) for number in range(40)]
    numbers = {verified.offer.public_key: number for number, verified in enumerate(offers)}
    for _ in range(300):
        book = OfferBook(Time(), draw=dice.randrange, most=50, most_guests=10)
        for verified in offers:
            with suppress(RefusedError):
                book.take(verified)
        kept.update(numbers[offer.public_key] for offer in book.offers())
    assert sum(kept.values()) == 3000
    assert all(40 <= kept[number] <= 115 for number in range(40)), "75 is fair"


def test_a_newcomer_that_is_sent_again_gets_in() -> None:
    book = OfferBook(Time(), most=50, most_guests=5)
    for number in range(100):
        with suppress(RefusedError):
            book.add(sealed(number))
    for sequence in range(2, 2000):
        with suppress(RefusedError):
            if book.add(sealed(200, sequence=sequence)):
                break
    assert 200 in keys_in(book)


def test_offenders_go_first_and_get_in_only_where_there_is_room() -> None:
    known: dict[bytes, Merit] = {}
    book = OfferBook(Time(), merit=lambda key: known.get(key, Merit.NEWCOMER), most=50, most_guests=4, draw=no_luck)
    for number in range(4):
        book.add(sealed(number))
    known[key_of(0).public_key] = Merit.SHUNNED
    known[key_of(5).public_key] = Merit.SHUNNED
    assert book.add(sealed(4)), "in the first minute the chance is 4 of 5"
    assert keys_in(book) == {1, 2, 3, 4}
    with pytest.raises(RefusedError):
        book.add(sealed(5))


def no_luck(below: int) -> int:
    return 0


def test_what_has_earned_merit_since_it_came_is_no_newcomer_any_more() -> None:
    known: dict[bytes, Merit] = {}
    book = OfferBook(Time(), merit=lambda key: known.get(key, Merit.NEWCOMER), most=50, most_guests=2)
    book.add(sealed(0))
    book.add(sealed(1))
    known[key_of(0).public_key] = Merit.SERVED
    for number in range(10, 100):
        with suppress(RefusedError):
            book.add(sealed(number))
    assert 0 in keys_in(book)


def test_newcomers_are_not_judged_anew_each_second() -> None:
    time, asked = Time(), Counter[bytes]()

    def merit(key: bytes) -> Merit:
        asked[key] += 1
        return Merit.PAID if key == key_of(0).public_key else Merit.NEWCOMER

    book = OfferBook(time, merit=merit)
    for number in range(5):
        book.add(sealed(number))
    asked.clear()
    time.now += 1
    assert len(book.offers()) == 5
    assert asked == {key_of(0).public_key: 1}


def test_a_replayed_offer_does_not_come_back() -> None:
    time = Time()
    book = OfferBook(time)
    cheap = sealed(0, sequence=1, price_out=1)
    dear = sealed(0, sequence=2, price_out=9)
    assert book.add(cheap)
    assert book.add(dear)
    assert not book.add(cheap)
    assert [offer.rates.price_out for offer in book.offers()] == [9]
    time.now = NOW + 120
    with pytest.raises(ExpiredError):
        book.add(sealed(0, sequence=3, price_out=1))
