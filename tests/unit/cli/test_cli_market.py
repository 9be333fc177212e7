"""The pictures of a market: an SVG that is one whatever names say, and the changes of a book."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from market_offers import an_offer

from node.cli.buying.market_plot import market_svg
from node.cli.buying.offer_watch import Lines, changes
from protocol.market.market_figures import market_figures
from protocol.market.offer import Offer, OfferKey, offer_key


def test_a_plot_is_xml_whatever_a_model_is_called() -> None:
    name = "<script>&\"'"
    drawn = ET.fromstring(market_svg(market_figures([an_offer(1, (0, 2), model_name=name)], {"batch": 10**7})))
    said = "".join(drawn.itertext())
    assert name in said
    assert sum(each.tag.endswith("rect") for each in drawn.iter()) == 1 + 4 + 2
    assert ET.fromstring(market_svg([])) is not None


def by_key(*offers: Offer) -> dict[OfferKey, Offer]:
    return {offer_key(each): each for each in offers}


def test_an_offer_that_is_sent_again_has_not_changed() -> None:
    first = an_offer(1)
    again = first.replace(sequence=2, expires_at=first.expires_at + 20)
    assert changes(by_key(first), by_key(again)) == []
    dearer = an_offer(1, price_out=1, sequence=3)
    assert [each.kind for each in changes(by_key(first), by_key(dearer))] == ["changed"]
    assert [each.kind for each in changes({}, by_key(first))] == ["new"]
    assert [(each.kind, each.offer) for each in changes(by_key(first), {})] == [("gone", first)]


def test_changes_are_lines_or_objects(capsys: pytest.CaptureFixture[str]) -> None:
    plain, objects = (
        Lines(lambda offer: offer.model_name + "\x1b[31m", None),
        Lines(lambda _: "", lambda _: {"provider": "x"}),
    )
    for show in (plain, objects):
        show([an_offer(1, model_name="a")])
        show([an_offer(1, model_name="a", sequence=2)])
        show([])
    new, gone, one, other = capsys.readouterr().out.splitlines()
    assert "new" in new
    assert "gone" in gone
    assert "\x1b" not in new
    assert [(each["change"], each["provider"]) for each in (json.loads(one), json.loads(other))] == [
        ("new", "x"),
        ("gone", "x"),
    ]
