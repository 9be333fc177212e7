"""A node's money through the real commands: its books, a cold destination, and vouchers when nobody is there."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from local_network import LocalNetwork, voucher_beyond

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

COLD = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
JOULES = ("--joules-per-token", "1.5", "--energy-price", "0.31", "--pue", "1.2", "--overhead-price", "50")


async def earned(network: LocalNetwork, *arguments: str) -> Any:
    done = await network.joule("earnings", *arguments, "--json", name="node0")
    assert done.status == 0, done.err
    return done.json()


async def test_what_a_node_earns_is_in_its_books_and_goes_to_a_cold_destination(tmp_path: Path, llama: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger(grace_s=600)
        node = await network.start_node("node0", llama, "0:6", *JOULES, "--payout", COLD, "--payout-above", "0")
        await node.event("node ready")
        assert (await network.joule("faucet", "5")).status == 0
        ran = await network.joule("run", "hello", "--max-tokens", "8", "--json")
        assert ran.status == 0, ran.err
        paid = await node.event("paid out")
        books = await earned(network, "--by", "client")
        (job,) = await earned(network, "--jobs")
        assert (job["client"], job["outcome"]) == (network.addresses["client"], "served")
        assert job["tokens_out"] <= 8
        assert (job["millijoules"], job["source"]) == (1_500 * job["rows"], "declared")
        assert (job["energy_price"], job["pue_milli"]) == (310_000, 1_200)
        assert job["earned"] == job["paid"] > 0
        assert job["closed"]
        by_client, payout = books["rows"]
        assert (by_client["key"], payout["key"]) == (network.addresses["client"], "payouts")
        power = -(-job["millijoules"] * 1_200 * 310_000 // (1000 * 3_600_000_000))
        assert (by_client["gross"], by_client["outstanding"], by_client["power_cost"]) == (job["paid"], 0, power)
        assert books["total"]["net"] == job["paid"] - books["total"]["fees"] - power
        (sent,) = books["payouts"]
        assert (sent["amount"], sent["to"], sent["entry"]) == (paid["amount_micro"], COLD, paid["entry"])
        # What came in went out, but for fees: nothing is left, and the ledger agrees.
        assert sent["amount"] == job["paid"] - books["total"]["fees"]
        left = (await network.joule("balance", network.addresses["node0"], "--json")).json()
        assert left["free"] == 0
        sheet = await network.joule("earnings", "--csv", name="node0")
        (day, total) = csv.DictReader(io.StringIO(sheet.out))
        assert (day["jobs"], total["key"], total["gross"]) == ("1", "all", str(job["paid"]))
        table = await network.joule("earnings", "--by", "model", name="node0")
        assert "sent out of the ledger" in table.out
        assert (await network.joule("sessions", "list", "--json", name="node0")).json() == []
        assert (await network.joule("ledger", "verify", network.url)).status == 0


async def test_vouchers_of_a_node_that_is_gone_are_settled_by_others(tmp_path: Path, endless: Path) -> None:
    """Client and node die in the middle; a watchtower on another machine, with an account of its own, settles."""
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger(grace_s=600)
        node = await network.start_node("node0", endless, "0:6")
        await node.event("node ready")
        for name in ("client", "tower"):
            assert (await network.joule("faucet", "5", name=name)).status == 0
        client = await network.spawn("run", "hello", "--max-tokens", "400", "--verbose", "--json")
        await voucher_beyond(client, 20)
        client.kill()
        node.process.kill()
        await client.wait()
        await node.process.wait()
        (held,) = (await network.joule("sessions", "list", "--json", name="node0")).json()
        assert held["client"] == network.addresses["client"]
        assert held["worth"] == held["promised"] > 0 == held["settled"]
        assert (await network.joule("sessions", name="node0")).out.count(held["session"][:12]) == 1
        copies = tmp_path / "copies"
        told = (await network.joule("sessions", "export", str(copies), "--json", name="node0")).json()
        assert (told["vouchers"], told["worth"]) == (1, held["worth"])
        early = (await network.joule("watch", str(copies), "--once", "--json", name="tower")).json()
        assert (early["vouchers"], early["settled"]) == (1, 0)
        done = await network.joule("watch", str(copies), "--once", "--lead", "86400", "--json", name="tower")
        assert (done.json()["settled"], done.json()["amount"]) == (1, held["worth"]), done.err
        free = (await network.joule("balance", network.addresses["node0"], "--json")).json()["free"]
        assert free == held["worth"]
        # Nothing is left for the operator to settle by hand, and the node that comes back takes it down as it was.
        by_hand = await network.joule("settle", "--all", "--json", name="node0")
        assert by_hand.json()["vouchers"] == 0, by_hand.err
        node = await network.start_node("node0", endless, "0:6")
        await node.event("node ready")
        await node.stop()
        (job,) = await earned(network, "--jobs")
        assert (job["outcome"], job["paid"], job["fees"], job["millijoules"]) == ("cut", held["worth"], 0, None)
        assert (await earned(network))["total"]["net"] is None
        assert "unknown" in (await network.joule("earnings", name="node0")).out
        assert (await network.joule("sessions", "list", "--json", name="node0")).json() == []


async def test_a_node_that_is_gone_is_paid_by_hand(tmp_path: Path, endless: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger(grace_s=600)
        node = await network.start_node("node0", endless, "0:6", *JOULES)
        await node.event("node ready")
        assert (await network.joule("faucet", "5")).status == 0
        client = await network.spawn("run", "hello", "--max-tokens", "400", "--verbose", "--json")
        await voucher_beyond(client, 20)
        client.kill()
        node.process.kill()
        await client.wait()
        await node.process.wait()
        (held,) = (await network.joule("sessions", "list", "--json", name="node0")).json()
        done = await network.joule("settle", "--json", name="node0")
        assert done.status == 0, done.err
        assert (done.json()["vouchers"], done.json()["amount"], done.json()["fees"]) == (1, held["worth"], 1)
        free = (await network.joule("balance", network.addresses["node0"], "--json")).json()["free"]
        assert free == held["worth"] - 1
        (after,) = (await network.joule("sessions", "list", "--json", name="node0")).json()
        assert (after["redeemed"], after["settled"]) == (True, held["worth"])
        node = await network.start_node("node0", endless, "0:6", *JOULES)
        await node.event("node ready")
        await node.stop()
        (job,) = await earned(network, "--jobs")
        assert (job["paid"], job["fees"], job["closed"]) == (held["worth"], 1, True)
