"""A client that trusts some providers with the ends: who is waited for, who stands by for what, where a job goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from market_offers import MANIFEST, NOW, VENUE, an_offer, key_of

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.continuing import Earlier
from node.app.buying.law import covers_trusted, ends_of
from node.app.buying.planning import Market
from node.app.buying.privacy import privacy_of
from node.app.buying.request import Request
from node.app.models.leaks import known_leaks
from node.cli.buying.privacy import show
from node.config import ClientConfig
from node.model_directory import held_manifest
from protocol.identity.ids import BlockSpan, checksum_address
from protocol.identity.signing import seal
from protocol.market.offer import Offer
from protocol.policy.ends import TrustedEnds
from protocol.routing.routes import NoRouteError
from protocol.session.healing import next_reroute
from protocol.session.messages import session_id

CONFIG = ClientConfig(
    data_dir=Path("/nowhere"),
    latency_weight_micro_per_ms=0,
    trusted_ends=tuple(checksum_address(key_of(each).address) for each in (0, 1, 2)),
)


def here(number: int, start: int = 0, end: int = 4, **changes: Any) -> Offer:
    return an_offer(number, (start, end), model=MANIFEST.root, **changes)


def market(offers: list[Offer], earlier: Earlier | None = None, **settings: Any) -> Market:
    sealed = [(offer, seal(offer, key_of(0))) for offer in offers]
    config = dataclasses.replace(CONFIG, **settings)
    request = Request(prompt=(1, 2, 3), earlier=earlier)
    made = Market(request, config, MANIFEST, sealed, venue=VENUE, clock=lambda: NOW)
    asked = made.worth_asking()
    made.hear(asked, {offer.public_key: 2_000 for offer in asked})
    return made


OURS = [here(0, 0, 2, price_out=9_000), here(1, 2, 4, price_out=9_000)]
STRANGER = here(8, price_out=100)


def who(made: Market) -> list[tuple[bytes, str]]:
    return [(leg.offer.public_key, str(leg.span)) for leg in made.route().legs]


def key(number: int) -> bytes:
    return key_of(number).public_key


def test_a_stranger_is_enough_only_where_it_may_serve_all() -> None:
    assert market([STRANGER], trusted_ends=()).would_do({})
    made = market([STRANGER])
    assert not made.would_do({})
    with pytest.raises(NoRouteError) as caught:
        made.route()
    assert (caught.value.code, [str(each.code) for _, each in caught.value.explanations]) == (
        "untrusted",
        ["untrusted"],
    )
    assert who(market([*OURS, STRANGER])) == [(key(0), "0:1"), (key(8), "1:3"), (key(1), "3:4")]
    assert who(market([*OURS, STRANGER], end_blocks=2)) == [(key(0), "0:2"), (key(1), "2:4")]


def test_offers_are_waited_for_until_those_are_there_who_may_serve_the_ends() -> None:
    assert not covers_trusted(CONFIG, [STRANGER], MANIFEST)
    assert not covers_trusted(CONFIG, [STRANGER, OURS[0]], MANIFEST)
    assert covers_trusted(CONFIG, [STRANGER, *OURS], MANIFEST)
    assert not covers_trusted(CONFIG, [each.replace(model=bytes(32)) for each in OURS], MANIFEST)
    assert ends_of(dataclasses.replace(CONFIG, trusted_ends=()), [key(0)]) is None


def test_a_request_trusts_whom_the_settings_trust_too() -> None:
    mine = {number: checksum_address(key_of(number).address) for number in (0, 1, 8)}
    nodes = [key(number) for number in mine]
    open_to_all = dataclasses.replace(CONFIG, trusted_ends=())

    def ends(config: ClientConfig, *numbers: int, blocks: int = 1) -> TrustedEnds | None:
        asked = Request(prompt=(1,), trusted_ends=tuple(mine[number] for number in numbers), end_blocks=blocks)
        return ends_of(config, nodes, asked)

    assert ends(open_to_all) is None
    assert ends(open_to_all, 8, blocks=2) == TrustedEnds(frozenset([key(8)]), 2)
    assert ends(CONFIG) == TrustedEnds(frozenset([key(0), key(1)]))
    assert ends(CONFIG, 1, 8) == TrustedEnds(frozenset([key(1)]))
    assert ends(CONFIG, 8) == TrustedEnds(frozenset())  # nobody, and not anybody
    assert ends(dataclasses.replace(CONFIG, end_blocks=2), 1) == TrustedEnds(frozenset([key(1)]), 2)


def test_a_stranger_that_stands_by_never_takes_over_an_end() -> None:
    made = market([*OURS, STRANGER, here(7, price_out=50_000), here(2, price_out=60_000)], standbys=2)
    deal = made.deal(made.route(), client=bytes(20), randomness=bytes)
    spans = {chosen.leg.offer.public_key: str(chosen.leg.span) for chosen in deal.legs}
    assert (spans[key(7)], spans[key(2)]) == ("1:3", "0:4")
    standby = {each.public_key: at for at, each in enumerate(deal.terms.legs)}
    assert str(deal.terms.legs[standby[key(7)]].span) == "1:3"
    for gone, taker in ((0, 2), (1, 7), (2, 2)):
        again = next_reroute(deal.terms, deal.session, (), 3, without=[gone], standbys=standby.values())
        assert again is not None
        assert again.route[gone].leg == standby[key(taker)]
        assert again.session == session_id(deal.session)
    assert next_reroute(deal.terms, deal.session, (), 3, without=[0, 2], standbys=[standby[key(7)]]) is None


def test_a_job_that_goes_on_leaves_a_leg_that_is_not_trusted_any_more() -> None:
    earlier = Earlier(session=bytes(32), tokens=(1, 2, 3), proven=2, legs=((key(8), BlockSpan(start=0, end=4)),))
    assert who(market([*OURS, STRANGER], earlier, trusted_ends=())) == [(key(8), "0:4")]
    assert who(market([*OURS, STRANGER], earlier)) == [(key(0), "0:1"), (key(8), "1:3"), (key(1), "3:4")]


def test_what_each_leg_sees_is_told() -> None:
    made = market([*OURS, STRANGER])
    trusted = [key_of(each).address for each in (0, 1)]
    told = privacy_of(MANIFEST, made.route(), None, trusted=trusted, end_blocks=1)
    assert [(leg.prompt, leg.answer, leg.cut, leg.trusted) for leg in told.legs] == [
        ("token ids", "token ids", None, True),
        ("rows", "rows", 1, False),
        ("rows", "token ids", 3, True),
    ]
    alone = privacy_of(MANIFEST, market([here(0)]).route(), None, trusted=trusted, end_blocks=1)
    assert [(leg.prompt, leg.answer, leg.cut) for leg in alone.legs] == [("token ids", "token ids", None)]
    assert known_leaks(MANIFEST.root, Path("/nowhere")) is None


def test_who_is_on_no_second_route_is_asked_all_the_same_where_it_could_stand_by() -> None:
    spare = here(7, price_out=50_000)
    for standbys, asked in ((0, [8, 0, 1]), (1, [8, 0, 1, 7])):
        made = market([*OURS, STRANGER, spare, here(6, 0, 1)], standbys=standbys)
        assert set(made.round_trips) == set(map(key, asked)), "one that may serve nothing is never asked"


def test_what_rows_tell_is_shown_beside_the_leg_that_is_handed_them(capsys: pytest.CaptureFixture[str]) -> None:
    leaks = known_leaks(held_manifest(BUNDLED_MODEL).root, Path("/nowhere"))
    show(privacy_of(MANIFEST, market([*OURS, STRANGER]).route(), leaks, trusted=[], end_blocks=1))
    said = capsys.readouterr().out
    assert "nearest 99.9 %, trained 100.0 %, search 100.0 % of 1024 tokens" in said
    assert "Always saying the commonest token tells 14.6 %." in said
    assert "whoever offers them" in said
