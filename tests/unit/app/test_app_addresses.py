"""A node that listens everywhere has to say where others reach it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.app.daemons.provider import _listen_for_data
from node.app.network.membership import open_network
from node.config import NodeConfig
from protocol.errors import ConfigurationError
from protocol.identity.signing import SigningKey

KEY = SigningKey(b"\x21" * 32)
CONFIG = NodeConfig(model=Path("model"))


@pytest.mark.asyncio
@pytest.mark.parametrize("listen", ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"])
async def test_a_host_everywhere_needs_an_address_to_announce(listen: str) -> None:
    with pytest.raises(ConfigurationError, match="where others reach"):
        async with open_network(KEY, listen, lambda name, details: None):
            pass


@pytest.mark.asyncio
async def test_an_announced_address_is_the_one_that_others_are_told() -> None:
    announced = "/ip4/192.0.2.7/tcp/4001"
    async with open_network(KEY, "/ip4/0.0.0.0/tcp/0", lambda name, details: None, announce=[announced]) as network:
        assert [address.partition("/p2p/")[0] for address in network.host.addresses] == [announced]


def test_a_data_plane_everywhere_needs_a_host_to_announce() -> None:
    everywhere = replace(CONFIG, data_host="0.0.0.0")
    with pytest.raises(ConfigurationError, match="where others reach"), _listen_for_data(everywhere):
        pass
    with _listen_for_data(replace(everywhere, data_announce="192.0.2.7")) as (listener, address):
        port = listener.socket.getsockname()[1]
        assert address == f"/ip4/192.0.2.7/tcp/{port}/tls"
