"""How long nobody can pay when the ledger's writer dies under load: with another front end, and with a restart alone.

Eight submitters go on all the time; a time is that from the signal to the next operation that is acknowledged. With two
front ends the other one takes over, also from a writer that is stopped, which no supervisor notices; with one the
process is started again at once, without load. The whole log of the first side is held against what was acknowledged.
Needs a PostgreSQL server on this machine.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from ledger_fronts import FrontProcess, Fronts  # noqa: E402
from ledger_load import KEYS, Load, require_each_once  # noqa: E402
from postgres_server import running_postgres  # noqa: E402

from node.ledger import LedgerClient  # noqa: E402

KILLS, STOPS = 6, 3
LIMIT_S = 5.0


async def until_next(load: Load, since: float) -> float:
    await load.until(len(load.taken) + 1)
    return time.monotonic() - since


async def end(front: FrontProcess) -> float:
    """Kill it; when."""
    began = time.monotonic()
    front.signal(signal.SIGKILL)
    await front.process.wait()
    return began


async def with_another(folder: Path, database: str) -> tuple[list[float], list[float]]:
    killed, stopped = [], []
    async with Fronts(folder, database) as fronts:
        writer, standby = await fronts.start("one"), await fronts.start("other")
        await standby.event("standing by", writer=writer.url)
        async with LedgerClient(f"{writer.url},{standby.url}") as client:
            load = Load(client)
            await load.begin()
            for number in range(KILLS + STOPS):
                await load.until(len(load.taken) + 100)
                standby.forget()
                if number < KILLS:
                    began = await end(writer)
                    killed.append(await until_next(load, began))
                    await standby.event("took over")
                    writer, standby = standby, await fronts.start(writer.name, port=writer.port)
                else:
                    writer.forget()
                    writer.signal(signal.SIGSTOP)
                    began = time.monotonic()
                    await standby.event("took over")
                    stopped.append(time.monotonic() - began)
                    writer.signal(signal.SIGCONT)
                    await writer.event("standing by")
                    writer, standby = standby, writer
                await standby.event("standing by", writer=writer.url)
            await load.end()
            await require_each_once(load, database)
            print(f"{len(load.taken)} operations acknowledged, all in the log once, under one history")
    return killed, stopped


async def with_a_restart(folder: Path, database: str) -> list[float]:
    killed = []
    async with Fronts(folder, database) as fronts:
        writer = await fronts.start("one")
        for _ in range(KILLS):
            began = await end(writer)
            writer = await fronts.start(writer.name, port=writer.port)
            async with LedgerClient(writer.url) as client:
                await client.faucet(KEYS[0].address, 1)
            killed.append(time.monotonic() - began)
    return killed


async def main() -> None:
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        killed, stopped = await with_another(Path(folder) / "two", server.empty_database())
        restarted = await with_a_restart(Path(folder) / "one", server.empty_database())
    for what, times in (
        ("writer killed", killed),
        ("writer stopped", stopped),
        ("killed, and started again", restarted),
    ):
        each = ", ".join(f"{seconds:.1f}" for seconds in times)
        print(f"{what}: operations after {statistics.median(times):.1f} s (each: {each})")
    print(f"within {LIMIT_S:.0f} s: {sum(each < LIMIT_S for each in (*killed, *stopped))} of {KILLS + STOPS}")


if __name__ == "__main__":
    asyncio.run(main())
