"""A ledger that shows two histories, and one whose clock jumps."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path

from ledger_world import OPERATOR, HandClock, ledger_settings, make_session

from node.ledger import LedgerClient, run_ledger
from protocol.errors import JoulemeshError
from protocol.identity.signing import SigningKey
from protocol.names import CHECKPOINTS_TOPIC
from siege.gossip import talkers
from siege.trial import Bench, Broken, trial

DAY_S = 86_400
TOLD_S = 60.0
WITNESS = SigningKey(b"\x31" * 32)


@trial
async def ledger_whose_clock_jumps_ahead(bench: Bench) -> None:
    """200 days ahead for one operation, and back: accounts can act on at once."""
    clock = HandClock(int(time.time()))
    settings = ledger_settings(bench.folder)
    async with (
        run_ledger(settings, OPERATOR, clock, steady=time.monotonic) as running,
        LedgerClient(running.url) as client,
    ):
        await client.faucet(WITNESS.address, 100)
        clock.now += 200 * DAY_S
        ahead = ""
        try:
            await client.faucet(WITNESS.address, 1)
        except JoulemeshError as error:
            ahead = error.code
        clock.now -= 200 * DAY_S - 5
        try:
            await client.faucet(WITNESS.address, 1)
        except JoulemeshError as error:
            raise Broken(f"after the jump (answered {ahead or 'as ever'}): {error.code}: {error.message}") from None
        if not ahead:
            session = make_session(WITNESS, cap=1, expiry=clock.now + 600)
            try:
                await client.open(session, WITNESS)
            except JoulemeshError as error:
                raise Broken(f"no session opens after the jump: {error.code}: {error.message}") from None


@trial
async def ledger_that_forks_before_running_nodes(bench: Bench) -> None:
    """The same ledger begun twice from one point on: nodes and clients that run hear of it, and trade no more."""
    field, tracebacks = bench.field, bench.field.tracebacks
    twin = bench.folder / "twin"
    await asyncio.to_thread(_copy, field.network.home / "ledger", twin)
    process = await field.network._ledgers.start(
        "twin", ["ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", "5"],
        {**field.network.environment("twin"), "JOULE_HOME": str(twin)},
    )  # fmt: skip
    url = (await process.event("ledger ready"))["url"]
    async with LedgerClient(url) as other, talkers(field.target, 1) as (host,):
        await other.faucet(SigningKey(bytes([9]) * 32).address, 1)
        await other.checkpoint()
        telling = [
            asyncio.create_task(field.processes[name].event("ledger forked", timeout_s=TOLD_S))
            for name in field.processes
            if name.startswith("node")
        ]
        while not all(each.done() for each in telling):
            await host.publish(CHECKPOINTS_TOPIC, other.note or b"")
            await asyncio.wait(telling, timeout=2.0)
    try:
        for told in telling:
            told.result()
    except JoulemeshError as error:
        raise Broken(f"a node says nothing of it: {error.message}") from None
    jobs = await field.jobs_in(5.0, 0)
    if any(job.ok for job in jobs[1:]):
        raise Broken(f"{sum(job.ok for job in jobs[1:])} jobs were done on a ledger that contradicts itself")
    if field.exits or field.tracebacks > tracebacks:
        raise Broken(f"ended: {field.gone}; {field.tracebacks - tracebacks} tracebacks")


def _copy(ledger: Path, twin: Path) -> None:
    """A ledger's home as it is now, while it runs."""
    shutil.copytree(ledger, twin, ignore=shutil.ignore_patterns("*.sqlite3*", "locks", "*.lock"))
    source = sqlite3.connect(ledger / "ledger" / "ledger.sqlite3")
    copy = sqlite3.connect(twin / "ledger" / "ledger.sqlite3")
    source.backup(copy)
    copy.close()
    source.close()
