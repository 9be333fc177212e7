"""Two front ends of one ledger as a person runs them: a job goes on when the one that writes is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_network import LocalNetwork, voucher_beyond
from postgres_server import PostgresServer, running_postgres

from node.demo.processes import JouleProcess

ONE, OTHER = "ledger", "ledger-b"


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


async def start_front(network: LocalNetwork, name: str, database: str) -> tuple[JouleProcess, str]:
    """The second one gets copies of the operator's key and the log's."""
    if name == OTHER:
        shutil.copytree(network.home / ONE / "keys", network.home / OTHER / "keys")
        (network.home / OTHER / "ledger").mkdir()
        shutil.copy(network.home / ONE / "ledger" / "log.key", network.home / OTHER / "ledger" / "log.key")
        network.addresses[OTHER] = network.addresses[ONE]
    rules = ("--grace-s", "2", "--faucet-limit", "5")
    process = await network.start(name, "ledger", "run", "--port", "0", *rules, "--database", database)
    return process, (await process.event("ledger ready"))["url"]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_job_goes_on_when_the_writer_is_killed(
    tmp_path: Path, endless: Path, postgres: PostgresServer, forked: Path
) -> None:
    database = postgres.empty_database()
    async with LocalNetwork(tmp_path) as network:
        one, at_one = await start_front(network, ONE, database)
        other, at_other = await start_front(network, OTHER, database)
        assert (await other.event("standing by", writer=at_one))["reason"] == "another front end writes"
        network.url = f"{at_one},{at_other}"
        await network.start_nodes(endless, "0:3", "3:6")
        assert (await network.joule("faucet", "1")).status == 0
        before = (await network.joule("balance", "--json")).json()["free"]
        heard = await network.joule("offers", "--wait", "60", "--json", "--ledger", at_other)
        assert len(heard.json()) == 2, "the one that stands by has heard of the nodes"
        job = await network.spawn("run", "hello", "--max-tokens", "96", "--json", "--verbose")
        await voucher_beyond(job, 16)
        os.killpg(one.process.pid, signal.SIGKILL)
        _, told = await job.communicate()
        assert job.returncode == 0, told
        await other.event("took over")
        assert b'"closed"' in told  # settled where the session was not opened
        # Whoever comes now finds the market through the one that is left: its host was joined with the other's.
        done = await network.joule("run", "hello", "--max-tokens", "8", "--json")
        assert done.status == 0, done.err
        report = done.json()
        assert report["balance_after_micro"] < report["balance_before_micro"] < before
        alone = await network.joule("balance", "--json", "--ledger", at_other)
        assert alone.json()["free"] == report["balance_after_micro"]
        sound = await network.joule("ledger", "verify", at_other, "--json")
        assert sound.json()["sound"], sound.out
