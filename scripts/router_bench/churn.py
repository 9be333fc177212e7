"""A book whose offers come and go."""

from __future__ import annotations

import hashlib
import random
import time
import tracemalloc
from dataclasses import replace

from node.market.book import OfferBook, VerifiedOffer
from protocol.market.offer import Offer
from protocol.policy.policy import Needs
from protocol.routing.judging import Judge
from router_bench.markets import BLOCKS, MODEL, NOW, POLICY, VENUE, random_offer, random_offers
from router_bench.rows import row


def bench_book(minutes: int) -> None:
    """10,000 offers, each sent again three times a minute, a tenth of them by others each minute; time and memory."""
    draw = random.Random(40)
    offers = [
        VerifiedOffer(offer, hashlib.sha512(b"%d" % n).digest() * 12)
        for n, offer in enumerate(random_offers(10_000, 40))
    ]
    now = [NOW + 1]
    tracemalloc.start()
    book = OfferBook(lambda: now[0], most=16_384, most_guests=16_384)
    for offer in offers:
        book.take(offer)
    copies = [random_offer(draw, 20_000 + n) for n in range(10_000)]
    used = tracemalloc.get_traced_memory()[0] + sum(len(each.sealed) + 3_000 for each in offers)
    tracemalloc.stop()
    del copies
    busy, number = 0.0, 10_000
    for second in range(60 * minutes):
        now[0] += 1
        again = [
            VerifiedOffer(replace_times(offers[at].offer, now[0]), b"%d %d" % (second, at) + offers[at].sealed[:700])
            for at in draw.sample(range(len(offers)), len(offers) // 20)
        ]
        fresh = [
            VerifiedOffer(replace_times(random_offer(draw, number + n), now[0]), b"%d" % (number + n) + bytes(700))
            for n in range(len(offers) // 600)
        ]
        number += len(fresh)
        began = time.process_time()
        for each in (*again, *fresh):
            book.take(each)
        admitted = Judge(
            columns=book.columns, policy=POLICY, model=MODEL, blocks=BLOCKS, venue=VENUE, now=now[0], needs=Needs()
        ).admitted()
        busy += time.process_time() - began
        assert admitted.any()
        for at, each in zip(draw.sample(range(len(offers)), len(fresh)), fresh, strict=True):
            offers[at] = each
    share = busy / (60 * minutes)
    row("book of 10,000, 500 sent again and 16 new each second", f"{share:.1%} of a core", "< 20 %", share < 0.2)
    row("  memory of book and offers", f"{used / 2**20:.0f} MiB", "<= 100 MB", used <= 100e6)


def replace_times(offer: Offer, now: int) -> Offer:
    """The same offer, sent again."""
    return replace(offer, sequence=offer.sequence + now, issued_at=now, expires_at=now + 120)
