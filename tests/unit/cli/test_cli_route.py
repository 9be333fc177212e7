"""How a planned route is shown: as a table, as bars, as a picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer, key_of
from routes_of_offers import route

from node.app.buying.planned import PlannedRoute, planned
from node.cli.buying.route import _print
from node.cli.buying.route_picture import MOST_DRAWN, WIDTH, bars, svg
from protocol.identity.ids import ModelFile, ModelManifest
from protocol.market.offer import Offer
from protocol.policy.policy import Needs

MANIFEST = ModelManifest(
    name="<demo>",
    license="",
    precision="fp32",
    blocks=4,
    max_context=4096,
    hidden_size=8,
    vocabulary=16,
    stop_tokens=(),
    files=(ModelFile(name="model.safetensors", size=1, sha256=bytes(32), chunks=bytes(32)),),
)
OFFERS = [
    an_offer(0, (0, 2), price_in=20, price_out=10),
    an_offer(1, (1, 4), jurisdiction="DE", region="DE-BE", price_in=20, price_out=10),
    an_offer(2, (0, 3), price_out=900),
    an_offer(3, (2, 4), price_out=800),
    an_offer(4, (0, 4), jurisdiction="US"),
]


def found(offers: list[Offer]) -> PlannedRoute:
    rtt = {key_of(number).public_key: 2_000 + number for number in range(3)}
    best = route(
        offers,
        a_policy(deny=("US",)),
        model=MODEL,
        blocks=4,
        venue=VENUE,
        now=NOW,
        rtt_us=rtt,
        latency_weight=0,
        needs=Needs(positions=10),
        prompt=20,
        standbys=2,
        backups=2,
    )
    return planned(MANIFEST, best, rtt)


def test_legs_standbys_and_reasons() -> None:
    shown = found(OFFERS)
    assert [(leg.blocks, leg.offered, leg.region) for leg in shown.legs] == [
        ("0:1", "0:2", ""),
        ("1:4", "1:4", "DE-BE"),
    ]
    assert [leg.round_trip_us for leg in shown.legs] == [2_000, 2_001]
    assert [len(leg.standbys) for leg in shown.legs] == [1, 0]
    assert {each.code for each in shown.not_taken} == {"dearer", "jurisdiction-denied"}
    assert shown.first_token_us is not None
    assert shown.first_token_us > shown.token_us > 0


def test_a_terminal_shows_bars_over_the_blocks() -> None:
    first, second = bars(found(OFFERS))
    assert first.count("█") == second.count("█") // 3 == WIDTH // 4
    assert (first.count("░"), second.count("░")) == (WIDTH // 4, 0)


def test_the_picture_is_well_formed_and_bounded() -> None:
    many = [*OFFERS, *(an_offer(number, (0, 4), jurisdiction="US") for number in range(10, 15 + MOST_DRAWN))]
    picture = ElementTree.fromstring(svg(found(many)))
    bars_drawn = picture.findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(bars_drawn) == 1 + 2 * 2 + MOST_DRAWN
    assert picture.findtext("{http://www.w3.org/2000/svg}title") == "<demo>: 2 legs"


@pytest.mark.parametrize("explain", [False, True])
def test_people_are_told_why_not_where_they_ask(explain: bool, capsys: pytest.CaptureFixture[str]) -> None:
    _print(found(OFFERS), explain=explain)
    said = capsys.readouterr().out
    assert ("among the jurisdictions you deny" in said) is explain
    assert ("3 other offers; --explain says why" in said) is not explain
    assert "no route within the limits is cheaper" in said


def test_a_backup_is_shown_with_its_providers(capsys: pytest.CaptureFixture[str]) -> None:
    shown = found(OFFERS)
    (backup,) = shown.backups
    assert backup.blocks == ("0:3", "3:4")
    assert set(backup.providers).isdisjoint({leg.provider for leg in shown.legs})
    _print(shown, explain=False)
    assert f"0:3@{backup.providers[0]}" in capsys.readouterr().out
