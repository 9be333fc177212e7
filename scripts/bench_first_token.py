"""What a short job costs before its first token, and how many of them a ring takes: this checkout against another.

Each side is a market of its own on the bundled model, a ledger and three nodes, all real processes, with a client in a
process beside them. The sides take turns in one run, so that what else the machine does meets both. Per side:

- `cold`: a client that knows the offers and nothing else, from the plan of a ten-token job to its first token;
- `warm`: the same client's next jobs;
- `rate`: jobs a second of eight clients that ask again and again.

With `--wan` the parties are in network namespaces with a delay between them (needs root and /dev/net/tun), and the
first tokens are counted in round trips: how much longer they take over two delays, by the difference of these. So what
is computed does not count.

    python scripts/bench_first_token.py --against DIR [--rounds 5] [--wan] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from measured_market import ROOT, SMALL, Ask, Market, answer, asked, joule, market

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.client import Client
from node.app.buying.request import Request

PROMPT = "Once upon a time there was a little fox"
TOKENS = 10
CLIENTS = 8
RATE_S = 8.0
"""Seconds of one measurement of jobs a second."""
HOSTS = ("ledger", "node0", "node1", "node2", "client")
DELAYS_MS = (25, 175)
"""Round trips between hosts, in milliseconds: far enough apart for what else the machine does not to matter."""
SOCKET = f"/tmp/joulemesh-first-token-{os.getpid()}.sock"  # noqa: S108 - a name of this process's own


# The market of one side: runs with its checkout's code, told what to measure line by line.


class Worker:
    """Measures in a market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._tokens: tuple[int, ...] = ()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """One with a new key, money, and all offers; it has asked nothing yet."""
        async with self._market.client(secrets.token_hex(4), max_tokens=TOKENS, latency_class="chat") as client:
            kept, own = self._market.home / "models", client.config.data_dir / "models"
            if kept.exists():  # what was downloaded once is there for all
                shutil.copytree(kept, own)
            else:
                text = await client.text(await client.model(None))
                self._tokens = tuple(text.encode(PROMPT))
                shutil.copytree(own, kept)
            yield client

    async def job(self, client: Client) -> tuple[float, list[float]]:
        """Milliseconds from the plan of a job to its first token; and to its parts: plan, open, orders, token."""
        began, first = time.perf_counter(), 0.0
        loop_began = asyncio.get_running_loop().time()
        plan = await client.plan(Request(prompt=self._tokens))
        planned = time.perf_counter()
        async with await client.execute(plan) as tokens:
            count = 0
            async for _ in tokens:
                first = first or time.perf_counter()
                count += 1
        result: Any = tokens.result
        error = result.error or result.settle_error
        if error is not None or not count:
            raise RuntimeError(f"a job failed: {error}")
        parts = [time - loop_began for time in (result.funded_s, result.accepted_s, result.token_times_s[0])]
        return 1000 * (first - began), [round(1000 * each) for each in (planned - began, *parts)]

    async def first_tokens(self, jobs: int) -> dict[str, Any]:
        """Of a new client: milliseconds to the first token of its first job, and of those after it."""
        async with self.client() as client:
            found = [await self.job(client) for _ in range(jobs)]
        times = [time for time, _ in found]
        return {"cold": times[:1], "warm": times[1:], "parts": [parts for _, parts in found]}

    async def rate(self, seconds: float) -> dict[str, float]:
        """Jobs a second of `CLIENTS` clients, and the processor seconds of this process for each."""
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self.client()) for _ in range(CLIENTS)]
            await asyncio.gather(*map(self.job, clients))
            began, cpu, done = time.perf_counter(), time.process_time(), 0

            async def ask_again(client: Client) -> None:
                nonlocal done
                while time.perf_counter() - began < seconds:
                    await self.job(client)
                    done += 1

            await asyncio.gather(*map(ask_again, clients))
            took = time.perf_counter() - began
            return {"rate": done / took, "jobs": done, "cpu_ms": 1000 * (time.process_time() - cpu) / done}

    async def measure(self, what: str, value: float) -> dict[str, Any]:
        """One of these, and the processor seconds of each process meanwhile: ledger, nodes, this one."""
        pids = [*(each.process.pid for each in self._market.processes), os.getpid()]
        before = [_processor_s(pid) for pid in pids]
        found: dict[str, Any] = await (self.first_tokens(int(value)) if what == "first" else self.rate(value))
        return {**found, "processor_s": [_processor_s(pid) - s for pid, s in zip(pids, before, strict=True)]}


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _inside(host: str) -> list[str]:
    """Runs what follows on a host of the emulator."""
    return ["ip", "netns", "exec", f"we-{_there(host)}"]


def _far(name: str, arguments: Sequence[str]) -> Sequence[str]:
    """A `Command`: each process on a host of its own."""
    at = f"10.77.0.{HOSTS.index(name) + 1}"
    host = "--host" if name == "ledger" else "--data-host"
    return [*_inside(name), *joule(name, arguments), host, at, "--listen", f"/ip4/{at}/tcp/0"]


async def work(wan: bool) -> None:
    """Be one side."""
    room = ("--jurisdiction", "IS", "--energy-price", "0.05", "--kv-tokens", "65536")
    async with market(BUNDLED_MODEL, SMALL.spans(3), *room, command=_far if wan else joule) as whole:
        await answer(Worker(whole).measure)


# Measuring


def _side(checkout: Path, wan: bool) -> AbstractContextManager[Ask]:
    """A checkout with its market."""
    own = [sys.executable, __file__, "--work", "wan" if wan else "loopback"]
    return asked(checkout, *(_inside("client") if wan else ()), *own)


def loopback(sides: Mapping[str, Ask], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Each measurement of each side, in turns."""
    found: dict[str, dict[str, Any]] = {name: {"cold": [], "warm": [], "rate": [], "cpu_ms": []} for name in sides}
    turns = (list(sides.items())[::-1], list(sides.items()))
    for ask in sides.values():
        ask(what="first", value=2)  # the first jobs of all load what is loaded once
    for turn in range(rounds):
        for name, ask in turns[turn % 2]:
            times = ask(what="first", value=6)
            for each in ("cold", "warm"):
                found[name][each] += times[each]
    if seconds:
        for turn in range(2):
            for name, ask in turns[turn % 2]:
                rate = ask(what="rate", value=seconds)
                found[name]["rate"].append(rate["rate"])
                found[name]["cpu_ms"].append([round(1000 * each / rate["jobs"]) for each in rate["processor_s"]])
    return found


def round_trips(sides: Mapping[str, Ask], emulator: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Of the first tokens of each side: what they take longer over more distance, in round trips."""
    times: dict[tuple[str, int, str], list[float]] = {}
    for ask in sides.values():
        ask(what="first", value=2)
    for _ in range(rounds):
        for delay in DELAYS_MS:
            _set_delay(emulator, delay)
            for name, ask in sides.items():
                found = ask(what="first", value=4)
                print(name, delay, found["parts"], file=sys.stderr)
                for each in ("cold", "warm"):
                    times.setdefault((name, delay, each), []).extend(found[each])
    near, far = DELAYS_MS
    return {
        name: {
            each: (min(times[name, far, each]) - min(times[name, near, each])) / (far - near)
            for each in ("cold", "warm")
        }
        | {f"{each}_{delay}_ms": min(times[name, delay, each])
           for each in ("cold", "warm") for delay in DELAYS_MS}
        for name in sides
    }  # fmt: skip


def _there(host: str) -> str:
    """A host's name in the emulator."""
    return f"first{HOSTS.index(host)}"


def _set_delay(emulator: Path, delay_ms: float) -> None:
    for at, one in enumerate(HOSTS):
        for other in HOSTS[at + 1 :]:
            order = f"link {_there(one)} {_there(other)} rtt={delay_ms}"
            command = [sys.executable, str(emulator), "ctl", order, "--sock", SOCKET]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _hosts(emulator: Path | None) -> Any:
    """The namespaces, while the block runs; nothing where there is no emulator."""
    if emulator is None:
        yield
        return
    command = [sys.executable, str(emulator), "up", *map(_there, HOSTS), "--rtt", "1", "--sock", SOCKET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
        try:
            assert hub.stdout is not None
            if not hub.stdout.readline().startswith("up"):
                raise RuntimeError("the emulator did not start")
            yield
        finally:
            hub.terminate()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--against", type=Path, help="another checkout, the side to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=RATE_S, help="of one measurement of jobs a second; 0 for none")
    parser.add_argument("--wan", type=Path, metavar="EMULATOR", help="count round trips with this wanemu.py")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", choices=("loopback", "wan"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        asyncio.run(work(chosen.work == "wan"))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the markets end with this process
    checkouts = {"here": ROOT} | ({"there": chosen.against.resolve()} if chosen.against else {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(_hosts(chosen.wan))
        sides = {name: stack.enter_context(_side(each, chosen.wan is not None)) for name, each in checkouts.items()}
        if chosen.wan is not None:
            trips = round_trips(sides, chosen.wan, chosen.rounds)
            print(json.dumps(trips) if chosen.json else _trips_table(trips))
            return
        found = loopback(sides, chosen.rounds, chosen.seconds)
    print(json.dumps(found) if chosen.json else _table(found))


def _table(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for what, unit in (("cold", "ms to the first token, cold client"), ("warm", "ms, warm client"), ("rate", "jobs/s")):
        middle = {name: statistics.median(times[what]) for name, times in found.items() if times[what]}
        ratio = f"   here / there {middle['here'] / middle['there']:.2f}" if len(middle) == 2 else ""
        lines.append("   ".join(f"{name} {value:8.1f}" for name, value in middle.items()) + f"   {unit}{ratio}")
    for name, times in found.items():
        lines.append(f"{name}: ms of processor a job (ledger, nodes, client): {times['cpu_ms']}")
    return "\n".join(lines)


def _trips_table(trips: dict[str, dict[str, float]]) -> str:
    return "\n".join(
        f"{name}: " + "   ".join(f"{what} {value:.1f}" for what, value in found.items())
        for name, found in trips.items()
    )


if __name__ == "__main__":
    main()
