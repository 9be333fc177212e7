"""Addresses in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.address import DataAddress, check_listen, check_peer_address, data_address, parse_data_address
from protocol.errors import ListenError, MalformedError
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey

PEER = peer_id_of(SigningKey(b"\x01" * 32).public_key)


@given(st.ip_addresses().map(str), st.integers(1, 65535))
def test_round_trip(host, port):
    assert parse_data_address(data_address(host, port)) == DataAddress(host, port)


@pytest.mark.parametrize("host", ["example.org", "localhost", "a-b.c1", "xn--bcher-kva.example"])
def test_names(host):
    assert data_address(host, 4002) == f"/dns4/{host}/tcp/4002/tls"
    assert parse_data_address(data_address(host, 4002)) == DataAddress(host, 4002)
    assert parse_data_address(f"/dns6/{host}/tcp/4002/tls") == DataAddress(host, 4002)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "127.0.0.1:4002",
        "/ip4/127.0.0.1/tcp/4002",
        "/ip4/127.0.0.1/udp/4002/tls",
        "/ip4/127.0.0.1/tcp/0/tls",
        "/ip4/127.0.0.1/tcp/65536/tls",
        "/ip4/127.0.0.1/tcp/+4002/tls",
        "/ip4/127.0.0.1/tcp/\u0664/tls",
        "/ip4/::1/tcp/4002/tls",
        "/ip6/127.0.0.1/tcp/4002/tls",
        "/ip4/127.1/tcp/4002/tls",
        "/dns4/-bad/tcp/4002/tls",
        "/dns4/bad..name/tcp/4002/tls",
        "/dns4//tcp/4002/tls",
        "/dns4/" + "a" * 254 + "/tcp/4002/tls",
        "/dns4/" + "a" * 64 + "/tcp/4002/tls",
        "/ip4/127.0.0.1/tcp/4002/tls/extra",
        " /ip4/127.0.0.1/tcp/4002/tls",
        "/ip4/127.0.0.1/tcp/4002/tls\n",
    ],
)
def test_malformed_data_addresses(address):
    with pytest.raises(MalformedError):
        parse_data_address(address)


@given(st.text(alphabet="/ip46dns.tclu0123459:", max_size=60))
def test_any_text_is_an_address_or_malformed(text):
    try:
        parsed = parse_data_address(text)
    except MalformedError:
        return
    assert 0 < parsed.port < 65536


def test_peer_addresses():
    assert check_peer_address(f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}") == PEER
    assert check_peer_address(f"/dns4/example.org/tcp/4001/p2p/{PEER}") == PEER
    for bad in (f"/ip4/192.0.2.1/tcp/0/p2p/{PEER}", f"/ip4/192.0.2.1/tcp/4001/tls/p2p/{PEER}", f"/p2p/{PEER}"):
        with pytest.raises(MalformedError):
            check_peer_address(bad)


def test_listen_addresses():
    check_listen("/ip4/0.0.0.0/tcp/0")
    check_listen("/ip6/::/tcp/4001")
    for bad in ("/dns4/localhost/tcp/0", "/ip4/0.0.0.0/tcp/0/tls", "/ip4/0.0.0.0/tcp/x"):
        with pytest.raises(ListenError):
            check_listen(bad)
