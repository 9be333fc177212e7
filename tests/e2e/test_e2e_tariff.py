"""A node whose power gets dearer at a quarter of an hour, and whose grid asks it to stop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from local_network import LocalNetwork
from tariff_files import table_toml, write

pytestmark = pytest.mark.asyncio

BY_TURNS = [0, 1] * 12
HOUR_S = 3600


def tariff(folder: Path, ahead_s: int) -> Path:
    """$0.10 in even hours and $1.00 in odd ones, by a clock that is put ahead."""
    text = table_toml([0.1, 1.0], BY_TURNS, top=f"clock_ahead_s = {ahead_s}")
    signal = f'[curtailment]\nfile = "{folder / "signal"}"\npoll_s = 1\n'
    # In one step: the node reads it again as soon as it has changed.
    return write(folder, text + signal, "new.toml").replace(folder / "tariff.toml")


def until_odd(seconds: int) -> int:
    """How far to put the clock ahead for an odd hour to begin in so many seconds."""
    now = int(time.time()) + seconds
    return (-now) % (2 * HOUR_S) + HOUR_S


@pytest.mark.slow
async def test_asks_change_at_the_boundary_and_nothing_is_offered_while_the_grid_is_short(
    tmp_path: Path, llama: Path
) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        file = tariff(tmp_path, until_odd(1800))
        more = ("--tariff", str(file), "--joules-per-token", "1", "--margin", "0", "--capital-price", "0")
        node = await network.start_node("node", llama, "0:6", *more, "--log-level", "debug")
        await node.event("node ready")
        cheap = await node.event("energy price changed", micro_per_kwh=100_000, source="table")
        offer = await only_offer(network)
        assert offer["rates"]["price_out"] == 500_000 + 27_778, "1 J at $0.10, and the overhead"
        assert offer["energy"]["tariff_micro_per_kwh"] == 100_000
        assert offer["forecast"] == [777_778, 527_778] * 24
        tariff(tmp_path, until_odd(6))
        await node.event("energy price changed", micro_per_kwh=1_000_000)
        dear = await node.event("offer published", price_out_micro=777_778)
        assert dear["time"] >= cheap["time"]
        await offered(network, 777_778)

        (tmp_path / "signal").write_text('{"level": "drain", "reason": "evening peak"}')
        held = await node.event("work held back", how="paused")
        assert held["reason"] == "evening peak"
        await node.event("offer withdrawn")
        await offered(network)
        (tmp_path / "signal").write_text("normal")
        await node.event("work resumed")
        await offered(network, 777_778)
        assert await node.stop() == 0


async def network_offers(network: LocalNetwork, wait_s: str) -> list[dict]:
    done = await network.joule("offers", "--wait", wait_s, "--json")
    return done.json()


async def only_offer(network: LocalNetwork) -> dict:
    (offer,) = await network_offers(network, "10")
    return offer


async def offered(network: LocalNetwork, *prices: int) -> None:
    """Until the offers are those at these prices: one takes a moment to come round."""
    async with asyncio.timeout(60):
        while [each["rates"]["price_out"] for each in await network_offers(network, "0")] != list(prices):
            continue
