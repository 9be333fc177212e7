"""What a client's settings make of law: who is asked, which way data go, and what is said where nobody may serve."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from market_offers import NOW, VENUE, an_offer, key_of

from node.app.buying.law import law_of
from node.app.buying.planning import Market
from node.app.buying.request import Request
from node.config import ClientConfig
from node.signed_files import read_signed, write_signed
from protocol.errors import ConfigurationError, LocalError
from protocol.identity.ids import ModelFile, ModelManifest, checksum_address
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import Offer, Statement
from protocol.policy.law import NO_LAW
from protocol.routing.routes import NoRouteError
from protocol.routing.ways import UNKNOWN_RTT_US

MANIFEST = ModelManifest(
    name="demo", license="apache-2.0", precision="fp32", blocks=4, hidden_size=8, vocabulary=100, max_context=100,
    stop_tokens=(0,), files=(ModelFile(name="config.json", size=1, sha256=bytes(32), chunks=bytes(32)),),
)  # fmt: skip
CONFIG = ClientConfig(data_dir=Path("/nowhere"))
ATTESTOR = SigningKey(b"\x0a" * 32)
PARIS = "48.85,2.35"


def market(offers: list[Offer], **settings: Any) -> Market:
    sealed = [(offer, seal(offer, key_of(0))) for offer in offers]
    config = dataclasses.replace(CONFIG, **settings)
    return Market(Request(prompt=(1, 2, 3)), config, MANIFEST, sealed, venue=VENUE, clock=lambda: NOW)


def here(number: int, blocks: tuple[int, int] = (0, 4), **changes: Any) -> Offer:
    return an_offer(number, blocks, model=MANIFEST.root, **changes)


def asked(made: Market, us: dict[int, int] | None = None) -> Market:
    offers = made.worth_asking()
    made.hear(offers, {offer.public_key: (us or {}).get(at, 2_000) for at, offer in enumerate(offers)})
    return made


def codes(made: Market) -> list[str]:
    with pytest.raises(NoRouteError) as caught:
        made.route()
    return [str(reason.code) for _, reason in caught.value.explanations]


def test_what_a_client_measures_itself_is_evidence() -> None:
    settings: dict[str, Any] = {"min_evidence": "rtt_consistent", "stands_at": PARIS}
    assert asked(market([here(0)], **settings)).route().legs[0].offer == here(0)
    assert codes(asked(market([here(0)], **settings), {0: UNKNOWN_RTT_US})) == ["evidence"]
    assert codes(market([here(0)], min_evidence="rtt_consistent")) == ["evidence"]
    assert codes(asked(market([here(0, jurisdiction="JP")], **settings))) == ["place-disproved"]
    assert codes(asked(market([here(0, jurisdiction="JP")], allow=("JP",), stands_at=PARIS))) == ["place-disproved"]


def test_a_statement_in_an_offer_counts_where_its_signer_is_believed() -> None:
    said = Statement(subject=key_of(0).public_key, claim="place", value="FR", issued_at=NOW - 5, expires_at=NOW + 10**5)
    offer = here(0, statements=(seal(said, ATTESTOR),))
    believed = {"min_evidence": "attested", "attestors": (checksum_address(ATTESTOR.address),)}
    assert asked(market([offer], **believed)).route().legs[0].offer == offer
    assert codes(market([offer], **{**believed, "attestors": (checksum_address(bytes(20)),)})) == ["evidence"]
    late = market([offer], **believed, session_s=10**5)
    assert codes(late) == ["evidence"], "it expires before the session could"


CORRIDORS = ("FR>DE:inference:2099-01-01", "FR>CH:inference:2099-01-01", "DE>FR:inference:2099-01-01")


def ways() -> list[Offer]:
    """Over DE and CH is cheapest, and there is no corridor between them; over DE and FR is next."""
    return [
        here(0, (0, 2), jurisdiction="DE", price_out=10),
        here(1, (2, 4), jurisdiction="CH", price_out=10),
        here(2, (2, 4), jurisdiction="FR", price_out=1_000),
        here(3, (0, 4), jurisdiction="FR", price_out=100_000),
    ]


def test_a_route_follows_corridors_from_leg_to_leg() -> None:
    free = asked(market(ways())).route()
    assert [leg.offer.jurisdiction for leg in free.legs] == ["DE", "CH"]
    bound = asked(market(ways(), origin="FR", corridors=CORRIDORS)).route()
    assert [leg.offer.jurisdiction for leg in bound.legs] == ["DE", "FR"]
    reasons = {offer.jurisdiction: reason.code for offer, reason in bound.explanations}
    assert reasons["CH"] == "dearer", "from FR it may be reached"
    narrow = asked(market(ways(), origin="FR", corridors=CORRIDORS[1:2])).route()
    assert [leg.offer.jurisdiction for leg in narrow.legs] == ["FR"]


def test_where_every_route_is_forbidden_it_says_which_hop() -> None:
    made = asked(market(ways()[:2], origin="FR", corridors=CORRIDORS))
    with pytest.raises(NoRouteError, match="no corridor for inference leads from DE to CH") as caught:
        made.route()
    assert caught.value.code == "no-corridor"


def test_a_standby_stands_where_data_may_go() -> None:
    settings: dict[str, Any] = {"standbys": 2, "origin": "FR", "corridors": CORRIDORS}
    offers = [
        here(0, (0, 2), jurisdiction="FR"),
        here(1, (2, 4), jurisdiction="FR"),
        here(2, jurisdiction="DE", price_out=9_000_000),
        here(3, jurisdiction="CH", price_out=9_000_000),
    ]
    made = asked(market(offers, **settings))
    deal = made.deal(made.route(), client=bytes(20), randomness=bytes)
    assert [chosen.leg.offer.jurisdiction for chosen in deal.legs] == ["FR", "FR", "DE"], "nothing comes back from CH"
    assert deal.law == made.law
    assert deal.measured == (2_000,) * 3


def test_lists_are_read_with_care(tmp_path: Path) -> None:
    assert law_of(CONFIG, NOW) == dataclasses.replace(NO_LAW, until=law_of(CONFIG, NOW).until)
    signer = checksum_address(ATTESTOR.address)
    junk = tmp_path / "junk"
    for content in (b"", b"?", b"AAAA", b"A" * 200_000):
        junk.write_bytes(content)
        with pytest.raises(LocalError):
            law_of(dataclasses.replace(CONFIG, deny_lists=(f"{signer}@{junk}",)), NOW)
    with pytest.raises(LocalError, match="cannot read"):
        law_of(dataclasses.replace(CONFIG, deny_lists=(f"{signer}@{tmp_path / 'none'}",)), NOW)
    write_signed(junk, b"whatever it is")
    assert read_signed(junk) == b"whatever it is"


def test_corridors_without_an_origin_are_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="no place that data come from"):
        market([here(0)], corridors=CORRIDORS)
