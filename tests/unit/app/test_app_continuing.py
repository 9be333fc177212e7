"""Going on from an earlier session: what the prompt shares with it, and which providers are asked first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from market_offers import MANIFEST, NOW, VENUE, an_offer, key_of

from node.app.buying.continuing import Earlier
from node.app.buying.planning import Market
from node.app.buying.request import Request
from node.config import ClientConfig
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import seal
from protocol.market.offer import Offer

LEGS = ((key_of(0).public_key, BlockSpan(start=0, end=2)), (key_of(1).public_key, BlockSpan(start=2, end=4)))
EARLIER = Earlier(session=b"\x05" * 32, tokens=(4, 5, 6, 7, 8), proven=5, legs=LEGS)


@pytest.mark.parametrize(
    ("prompt", "positions"),
    [
        ((4, 5, 6, 7, 8, 9), 5),
        ((4, 5, 6, 7, 8), 4),  # the last one is computed whatever is held
        ((4, 5, 9, 7, 8, 9), 2),
        ((4, 5), 1),
        ((4,), None),
        ((9, 5, 6, 7, 8), None),
    ],
)
def test_as_much_is_continued_as_both_begin_with(prompt: tuple[int, ...], positions: int | None) -> None:
    continued = EARLIER.continued_by(prompt)
    assert (None if continued is None else continued.positions) == positions
    if continued is not None:
        assert continued.session == EARLIER.session


def test_no_more_is_continued_than_all_legs_have_signed_for() -> None:
    continued = replace(EARLIER, proven=2).continued_by((4, 5, 6, 7, 8, 9))
    assert continued is not None
    assert continued.positions == 2
    assert replace(EARLIER, proven=0).continued_by((4, 5, 6, 7, 8, 9)) is None


def market(offers: list[Offer], **request: Any) -> Market:
    sealed = [(offer, seal(offer, key_of(0))) for offer in offers]
    asked = Request(prompt=(4, 5, 6, 9), earlier=EARLIER, **request)
    return Market(asked, ClientConfig(data_dir=Path("/nowhere")), MANIFEST, sealed, venue=VENUE, clock=lambda: NOW)


def here(number: int, span: tuple[int, int] = (0, 4), **changes: Any) -> Offer:
    return an_offer(number, span, model=MANIFEST.root, **changes)


def served_by(asked: Market, *silent: int) -> list[tuple[int, str]]:
    offers = asked.worth_asking()
    asked.hear(offers, {each.public_key: 500 for each in offers if each.public_key not in map(node, silent)})
    return [(number_of(leg.offer), str(leg.span)) for leg in asked.route().legs]


def node(number: int) -> bytes:
    return key_of(number).public_key


def number_of(offer: Offer) -> int:
    return next(number for number in range(20) if node(number) == offer.public_key)


def test_the_legs_of_then_are_asked_first_and_taken_again() -> None:
    cheaper = [here(number, price_out=1, price_in=1) for number in range(2, 16)]
    asked = market([*cheaper, here(0, (0, 3)), here(1)])
    assert {node(0), node(1)} <= {offer.public_key for offer in asked.worth_asking()}
    assert served_by(asked) == [(0, "0:2"), (1, "2:4")]
    assert served_by(market([*cheaper, here(0), here(1)]), 1) in [[(0, "0:2"), (n, "2:4")] for n in range(2, 16)]


def test_one_that_is_excluded_or_too_dear_now_is_not() -> None:
    offers = [here(0), here(1), here(2, price_out=900_000)]
    assert served_by(market(offers, exclude=frozenset({node(1)}))) == [(0, "0:2"), (2, "2:4")]
    other = market([here(0, price_out=5_000_000), here(1), here(2)], policy={"max_price_out": 1_000_000})
    assert served_by(other) in ([(1, "0:4")], [(2, "0:4")], [(2, "0:2"), (1, "2:4")])


def test_the_terms_name_the_session() -> None:
    asked = market([here(0), here(1)])
    offers = asked.worth_asking()
    asked.hear(offers, dict.fromkeys([node(0), node(1)], 500))
    deal = asked.deal(asked.route(), client=key_of(9).address, randomness=lambda size: bytes(size))
    assert deal.terms.continues == EARLIER.continued_by((4, 5, 6, 9))
    assert deal.terms.continues is not None
    assert deal.terms.continues.positions == 3
