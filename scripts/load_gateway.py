"""Many streams at once through one gateway, while nodes are killed and come back.

    python scripts/load_gateway.py [STREAMS] [SECONDS]

A ledger, six nodes of the demo model (three ways through each half of it) and a gateway, each a process. One node at a
time is killed, and another one started in its place. Held against targets, with exit status 1 where one is missed: no
answer fails, what the key was charged is what its account has less, nothing stays held, and memory stays where it is.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from bench_gateway import ROOM, streamed
from local_network import LocalNetwork

from node.app.buying.audit import BUNDLED_MODEL
from node.demo.processes import JouleProcess

TOKENS = 24
EVERY_S = 15.0
"""Between two nodes that are killed."""
QUIET_S = 20.0
"""At the end without."""
SESSION_S = 180
"""For how long money is kept for nodes that are gone, before 2 s of grace; longer than any answer takes."""
SETTLED_S = 30.0
"""For having it back."""
GROWTH = 1.05
"""Memory of the last third against that of the second one, at most."""


@dataclass
class Load:
    """What came of it."""

    answers: int = 0
    tokens: int = 0
    killed: int = 0
    failed: list[str] = field(default_factory=list)
    """Last lines of answers that were not whole."""
    memory_kib: list[int] = field(default_factory=list)
    """The gateway's, once a second."""

    @property
    def growth(self) -> float:
        """Memory of the last third of the time against that of the one before."""
        third = len(self.memory_kib) // 3
        return statistics.median(self.memory_kib[-third:]) / statistics.median(self.memory_kib[third : 2 * third])


def resident_kib(process: JouleProcess) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def ask_until(until: float, http: aiohttp.ClientSession, url: str, seed: int, found: Load) -> None:
    while time.monotonic() < until:
        try:
            times, last = await streamed(http, url, tokens=TOKENS, seed=seed)
        except (aiohttp.ClientError, TimeoutError) as error:
            times, last = [], repr(error)
        found.answers += 1
        found.tokens += len(times)
        if last != "data: [DONE]":
            found.failed.append(last)


async def disturb_until(until: float, net: LocalNetwork, found: Load) -> None:
    """A node killed, and another one in its place, again and again."""
    halves = {name: ("0:3", "3:6")[number % 2] for number, name in enumerate(net.nodes)}
    while time.monotonic() + EVERY_S + QUIET_S < until:
        await asyncio.sleep(EVERY_S)
        gone = random.choice(list(net.nodes))
        net.nodes.pop(gone).process.send_signal(signal.SIGKILL)
        found.killed += 1
        name = f"again{found.killed}"
        halves[name] = halves.pop(gone)
        await (await net.start_node(name, BUNDLED_MODEL, halves[name], *ROOM)).event("node ready")


async def watch_until(until: float, gateway: JouleProcess, found: Load) -> None:
    while time.monotonic() < until:
        found.memory_kib.append(resident_kib(gateway))
        await asyncio.sleep(1)


async def account(net: LocalNetwork) -> tuple[int, int]:
    """Micro-units that the gateway's client has, open sessions included, and those in open sessions."""
    found = (await net.joule("balance", "--json")).json()
    return int(found["free"] + found["held"]), int(found["held"])


async def load(net: LocalNetwork, gateway: JouleProcess, url: str, streams: int, seconds: float) -> bool:
    before, _ = await account(net)
    made = (await net.joule("gateway", "key", "new", "load", "--budget", "400", "--json")).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    until, found = time.monotonic() + seconds, Load()
    whole = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers, timeout=whole) as http:
        asking = (ask_until(until, http, url, seed, found) for seed in range(streams))
        await asyncio.gather(disturb_until(until, net, found), watch_until(until, gateway, found), *asking)
    after, held = await settled(net, url, headers)
    (key,) = (await net.joule("gateway", "key", "list", "--json")).json()
    print(f"{streams} streams for {seconds:.0f} s, {found.killed} nodes killed:")
    print(f"  {found.answers} answers, {found.tokens} tokens, {len(found.failed)} failed (target 0)")
    for each in sorted(set(found.failed)):
        print(f"    {found.failed.count(each)} times: {each[:400]}")
    print(f"  the key was charged {key['spent_micro']} micro-units, {key['held_micro']} are held of it (target 0)")
    print(f"  the account has {before - after} less (target the same), {held} are held of it (target 0)")
    first, last = found.memory_kib[0] / 1024, found.memory_kib[-1] / 1024
    print(f"  memory {first:.0f} MiB at first, {last:.0f} at last; last third {found.growth:.3f} of the second one")
    same = key["spent_micro"] == before - after
    return same and not (found.failed or held or key["held_micro"]) and found.growth <= GROWTH


async def settled(net: LocalNetwork, url: str, headers: dict[str, str]) -> tuple[int, int]:
    """What `account` says once nothing is held any more, or when that takes too long."""
    until = time.monotonic() + SESSION_S + SETTLED_S
    while True:
        await streamed_once(url, headers)  # a gateway has back what was held when it is asked next
        await asyncio.sleep(5)
        after, held = await account(net)
        if not held or time.monotonic() > until:
            return after, held


async def streamed_once(url: str, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession(headers=headers) as http:
        await streamed(http, url, tokens=1)


async def main(streams: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with LocalNetwork(Path(folder)) as net:
            await net.start_ledger(grace_s=2, faucet="1000")
            await net.start_nodes(BUNDLED_MODEL, *("0:3", "3:6") * 3, **{f"node{number}": ROOM for number in range(6)})
            await net.joule("faucet", "500")
            gateway = await net.start(
                "client", "gateway", "run", "--port", "0", "--ledger", net.url, "--session-s", str(SESSION_S)
            )
            url = (await gateway.event("gateway ready"))["url"]
            held = await load(net, gateway, url, streams, seconds)
            await gateway.stop()
            return 0 if held else 1


if __name__ == "__main__":
    given = [float(each) for each in sys.argv[1:]]
    sys.exit(asyncio.run(main(int(given[0]) if given else 64, given[1] if len(given) > 1 else 600)))
