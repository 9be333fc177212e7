"""Books that are compared come to know the same, whatever gossip lost; nothing is handed over in vain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import NOW, an_offer, key_of

from node.market import Exchange, OfferBook
from protocol.encoding.codec import encode
from protocol.errors import LostPeerError, MalformedError
from protocol.identity.signing import seal
from protocol.market.catalog import MAX_LACKING, MAX_MARKS, LackingRequest, OfferList
from protocol.market.lacking import bucket_of, buckets_of, lacking_in, mark_of, parts_for, request_for
from protocol.market.offer import offer_key

ASKING, ASKED = "asking", "asked"


class Pair:
    """Two books, one of which asks the other."""

    def __init__(self) -> None:
        self.here, self.there = (OfferBook(lambda: NOW, most_by_peer=10_000) for _ in range(2))
        self.asked: list[LackingRequest] = []
        self.neighbours = [ASKED]
        self.lost = False
        draw = random.Random(1)
        self.other = Exchange(self.there, self._nobody, self._ask, self._take, draw=draw)
        self.exchange = Exchange(self.here, self._neighbours, self._ask, self._take, draw=draw)

    async def _neighbours(self) -> Sequence[str]:
        return self.neighbours

    async def _nobody(self) -> Sequence[str]:
        return ()

    async def _ask(self, _peer: str, question: LackingRequest) -> OfferList:
        self.asked.append(question)
        if self.lost:
            raise LostPeerError("planted")
        return self.other.answer(question)

    async def _take(self, sealed: Sequence[bytes]) -> None:
        for each in sealed:
            assert self.here.add(each), "handed over in vain"


def sealed(number: int, blocks: tuple[int, int] = (0, 4), **changes: Any) -> bytes:
    return seal(an_offer(number, blocks, **changes), key_of(number))


@pytest.mark.asyncio
async def test_what_is_missing_or_old_comes_from_a_neighbour_and_nothing_else() -> None:
    pair = Pair()
    for book in (pair.here, pair.there):
        book.add(sealed(1))
    pair.here.add(sealed(2, sequence=7))
    pair.there.add(sealed(2, sequence=8))
    pair.here.add(sealed(3, sequence=8))
    pair.there.add(sealed(3, sequence=7))
    pair.there.add(sealed(4))
    assert await pair.exchange.turn() == 2
    assert await pair.exchange.turn() == 0
    assert {offer.public_key: offer.sequence for offer in pair.here.offers()} == {
        key_of(number).public_key: sequence
        for number, sequence in ((1, an_offer(1).sequence), (2, 8), (3, 8), (4, an_offer(4).sequence))
    }


@pytest.mark.asyncio
async def test_nobody_is_asked_where_nobody_is_connected() -> None:
    pair = Pair()
    pair.neighbours = []
    assert await pair.exchange.turn() == 0
    assert pair.asked == []


@pytest.mark.asyncio
async def test_a_neighbour_that_is_lost_ends_nothing() -> None:
    pair = Pair()
    pair.there.add(sealed(1))
    pair.lost = True
    assert await pair.exchange.turn() == 0
    pair.lost = False
    assert await pair.exchange.turn() == 1


@pytest.mark.asyncio
async def test_who_has_just_come_is_asked_next_and_once() -> None:
    pair = Pair()
    asked: asyncio.Queue[str] = asyncio.Queue()
    ids = [f"neighbour {number}" for number in range(40)]
    pair.neighbours = ids[:39]

    async def ask(peer: str, question: LackingRequest) -> OfferList:
        await asked.put(peer)
        return await pair._ask(peer, question)

    exchange = Exchange(pair.here, pair._neighbours, ask, pair._take, seconds=0.02, draw=random.Random(3))
    running = asyncio.create_task(exchange.run())
    for number in (5, 6):
        pair.there.add(sealed(number))
        assert await asked.get() in ids[:39]
    pair.neighbours = ids
    turns = [await asked.get() for _ in range(4)]
    assert turns.count(ids[39]) == 1, "a neighbour by chance has one chance in forty"
    assert turns[0] == ids[39] or turns[1] == ids[39], "the turn before had begun already"
    pair.neighbours = []
    running.cancel()


@pytest.mark.asyncio
async def test_what_has_expired_is_not_handed_over() -> None:
    pair = Pair()
    now = [NOW]
    pair.there = OfferBook(lambda: now[0])
    pair.other = Exchange(pair.there, pair._nobody, pair._ask, pair._take)
    pair.there.add(sealed(1, issued_at=NOW, expires_at=NOW + 5))
    now[0] += 5
    assert await pair.exchange.turn() == 0


@pytest.mark.asyncio
async def test_an_answer_has_so_many_offers_at_most_and_the_rest_comes_in_later_turns() -> None:
    pair = Pair()
    offers = [an_offer(1, (start, start + 1), blocks=4096) for start in range(MAX_LACKING + 40)]
    for each in offers:
        pair.there.add(seal(each, key_of(1)))
    assert [await pair.exchange.turn() for _ in range(3)] == [MAX_LACKING, 40, 0]


@settings(max_examples=at_length(25))
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.sampled_from([1, 2, 8, 256]))
def test_all_parts_together_ask_for_what_is_missing_and_only_that(mine: set[int], theirs: set[int], parts: int) -> None:
    here, there = ([an_offer(1, (at, at + 1)) for at in each] for each in (mine, theirs))
    found = []
    for part in range(parts):
        ours, others = (
            [each for each in offers if bucket_of(offer_key(each)) in buckets_of(part, parts)]
            for offers in (here, there)
        )
        found += [offer.span.start for offer in lacking_in(request_for(ours, part, parts), others)]
    assert sorted(found) == sorted(theirs - mine)


def test_a_question_stays_short_however_many_offers_there_are() -> None:
    offers = [an_offer(1, (start, start + 1)) for start in range(3000)]
    question = request_for(offers, 0, 1)
    assert len(question.held) == MAX_MARKS
    assert len(encode(question)) < 20 * 1024
    assert [parts_for(count) for count in (0, 511, 512, 3000, 16_384, 10**9)] == [1, 1, 2, 8, 64, 256]


@pytest.mark.parametrize(("part", "parts"), [(0, 0), (1, 1), (0, 3), (4, 4), (0, 512)])
def test_a_part_that_there_is_not_is_refused(part: int, parts: int) -> None:
    with pytest.raises(MalformedError, match="part"):
        Pair().other.answer(LackingRequest(parts=parts, part=part, held=()))


def test_of_two_marks_for_one_offer_the_newer_counts() -> None:
    old, new = an_offer(1, sequence=1), an_offer(1, sequence=2)
    for held in ((mark_of(old), mark_of(new)), (mark_of(new), mark_of(old))):
        assert lacking_in(LackingRequest(parts=1, part=0, held=held), [new]) == []
    assert lacking_in(LackingRequest(parts=1, part=0, held=(mark_of(old),)), [new]) == [new]
