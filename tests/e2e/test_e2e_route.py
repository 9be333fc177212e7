"""`joule route` against real nodes: a plan, reasons, a picture, and nothing paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_network import LocalNetwork

BUNDLED = Path(__file__).parents[2] / "node" / "demo" / "model"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_route_is_planned_and_explained_without_money(tmp_path: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(BUNDLED, "0:3", "3:6", "0:6")
        picture = tmp_path / "route.svg"
        done = await network.joule("route", "--svg", str(picture), "--json")
        assert done.status == 0, done.err
        found = done.json()
        assert found["blocks"] == 6
        assert found["legs"][0]["blocks"].startswith("0:")
        assert len(found["legs"]) + len(found["not_taken"]) == 3
        assert all(leg["round_trip_us"] for leg in found["legs"])
        assert picture.read_text().startswith("<svg")
        told = await network.joule("route", "--explain")
        assert told.status == 0, told.err
        assert "dearer" in told.out
        none = await network.joule("route", "--explain", "--deny", "ZZ", "--allow", "IS")
        assert none.status != 0
        assert "Traceback" not in none.err
        refused = await network.joule("route", "--latency-class", "device", "--json")
        assert refused.status != 0
        assert "never sent over a network" in refused.out + refused.err
