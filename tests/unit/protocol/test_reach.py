"""What an offer may name as its node's addresses, each beside its invalid neighbour (M2)."""

from __future__ import annotations

import pytest
from market_offers import NOW, address_of, an_offer, key_of

from protocol.errors import MalformedError
from protocol.market.offer import check_offer
from protocol.market.reach import Reach, check_data_addresses, endpoint_of, reach_of

HOSTS = {
    "0.0.0.0": Reach.NOWHERE,
    "::": Reach.NOWHERE,
    "224.0.0.1": Reach.NOWHERE,
    "ff02::1": Reach.NOWHERE,
    "169.254.169.254": Reach.NOWHERE,
    "fe80::1": Reach.NOWHERE,
    "255.255.255.255": Reach.NOWHERE,
    "240.0.0.1": Reach.NOWHERE,
    "::ffff:0.0.0.0": Reach.NOWHERE,
    "127.0.0.1": Reach.MACHINE,
    "127.8.8.8": Reach.MACHINE,
    "::1": Reach.MACHINE,
    "::ffff:127.0.0.1": Reach.MACHINE,
    "localhost": Reach.MACHINE,
    "LOCALHOST.": Reach.MACHINE,
    "10.0.0.1": Reach.SITE,
    "192.168.1.1": Reach.SITE,
    "fd00::1": Reach.SITE,
    "9.9.9.9": Reach.ANYWHERE,
    "2620:fe::fe": Reach.ANYWHERE,
    "node.example": Reach.ANYWHERE,
}


@pytest.mark.parametrize("host", HOSTS)
def test_how_far_an_address_reaches(host: str) -> None:
    assert reach_of(host) is HOSTS[host]


def check(*addresses: str) -> None:
    check_offer(an_offer(0, addresses=addresses), key_of(0).address, NOW)


@pytest.mark.parametrize(
    "at",
    [
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/2620:fe::fe/tcp/65535",
        "/dns4/node.example/tcp/4001",
        "/dns4/" + "x" * 63 + "/tcp/1",
    ],
)
def test_a_node_names_its_own_addresses(at: str) -> None:
    check(address_of(0, at))
    with pytest.raises(MalformedError, match="not an address of the node"):
        check(address_of(0, at), address_of(1, at))
    with pytest.raises(MalformedError):
        check(at)


@pytest.mark.parametrize(
    "at",
    [
        "/ip4/0.0.0.0/tcp/4001",
        "/ip6/::/tcp/4001",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/080",
        "/ip4/127.0.0.1/udp/80",
        "/ip4/::1/tcp/80",
        "/ip6/127.0.0.1/tcp/80",
        "/ip4/example.org/tcp/80",
        "/dns4/-x-/tcp/80",
        "/dns4/" + "x" * 64 + "/tcp/80",
        "/dns4/a b/tcp/80",
        "",
    ],
)
def test_what_nobody_should_dial_is_in_no_offer(at: str) -> None:
    with pytest.raises(MalformedError, match="dialled"):
        check(address_of(0, at))
    with pytest.raises(MalformedError, match="dialled"):
        check_data_addresses((f"{at}/tls",))


def test_host_and_port_of_an_address() -> None:
    assert endpoint_of(address_of(0)) == ("127.0.0.1", 4001)
    assert endpoint_of("/dns/node.example/tcp/4002/tls") == ("node.example", 4002)
