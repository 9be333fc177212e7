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
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

PROMPT = "Once upon a time there was a little fox"
TOKENS = 10
CLIENTS = 8
RATE_S = 8.0
"""Seconds of one measurement of jobs a second."""
NODES = ("0:2", "2:4", "4:6")
HOSTS = ("ledger", "first", "middle", "last", "client")
DELAYS_MS = (25, 175)
"""Round trips between hosts, in milliseconds: far enough apart for what else the machine does not to matter."""
PLAY_MONEY = 4_000_000
SOCKET = f"/tmp/joulemesh-first-token-{os.getpid()}.sock"  # noqa: S108 - a name of this process's own


# The client of one side: runs in its checkout, told what to do line by line.


class Worker:
    """Does one measurement for each line on its standard input, and answers with a line of JSON."""

    def __init__(self, url: str, home: Path) -> None:
        self._url = url
        self._home = home
        self._tokens: tuple[int, ...] = ()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """One with a new key, money, and all offers; it has asked nothing yet."""
        from node.app.client import open_client
        from node.config import ClientConfig
        from node.events import unheard
        from node.keystore import generate

        folder = self._home / secrets.token_hex(4)
        if (kept := self._home / "models").exists():  # what was downloaded once is there for all
            shutil.copytree(kept, folder / "models")
        config = ClientConfig(ledger=self._url, data_dir=folder, max_tokens=TOKENS)
        async with open_client(config, generate(), unheard) as client:
            await client.faucet(PLAY_MONEY)
            await client.offers(30.0, enough=lambda found: len({each.public_key for each in found}) >= len(NODES))
            if not self._tokens:
                text = await client.text(await client.model(None))
                self._tokens = tuple(text.encode(PROMPT))
                shutil.copytree(folder / "models", self._home / "models")
            yield client

    async def job(self, client: Any) -> tuple[float, list[float]]:
        """Milliseconds from the plan of a job to its first token; and to its parts: plan, open, orders, token."""
        from node.app.planning import Request

        began, first = time.perf_counter(), 0.0
        loop_began = asyncio.get_running_loop().time()
        plan = await client.plan(Request(prompt=self._tokens))
        planned = time.perf_counter()
        async with await client.execute(plan) as tokens:
            count = 0
            async for _ in tokens:
                first = first or time.perf_counter()
                count += 1
        error = tokens.result.error or tokens.result.settle_error
        if error is not None or not count:
            raise RuntimeError(f"a job failed: {error}")
        result = tokens.result
        parts = [time - loop_began for time in (result.funded_s, result.accepted_s, result.token_times_s[0])]
        return 1000 * (first - began), [round(1000 * each) for each in (planned - began, *parts)]

    async def first_tokens(self, jobs: int) -> dict[str, list[float]]:
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

            async def ask_again(client: Any) -> None:
                nonlocal done
                while time.perf_counter() - began < seconds:
                    await self.job(client)
                    done += 1

            await asyncio.gather(*map(ask_again, clients))
            took = time.perf_counter() - began
            return {"rate": done / took, "jobs": done, "cpu_ms": 1000 * (time.process_time() - cpu) / done}


async def work(url: str, home: Path) -> None:
    """Until standard input ends."""
    worker = Worker(url, home)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, value = line.split()
        found = await (worker.first_tokens(int(value)) if what == "first" else worker.rate(float(value)))
        print(json.dumps(found), flush=True)


# The market of one side


class Side:
    """A checkout with its market; its processes end with it."""

    def __init__(self, name: str, checkout: Path, home: Path, wan: bool) -> None:
        self.name = name
        self._checkout = checkout
        self._home = home / name
        self._wan = wan
        self._running: list[subprocess.Popen[str]] = []
        self._worker: subprocess.Popen[str] | None = None
        self._passphrase = secrets.token_urlsafe(12)

    def _run(self, host: str, *arguments: str) -> subprocess.Popen[str]:
        folder = self._home / host
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._checkout),
            "JOULE_HOME": str(folder),
            "JOULE_PASSPHRASE": self._passphrase,
            "OMP_NUM_THREADS": "1",
        }
        inside = ["ip", "netns", "exec", f"we-{_there(host)}"] if self._wan else []
        errors = (folder / "stderr").open("w")
        process = subprocess.Popen(
            [*inside, sys.executable, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            cwd=self._checkout,
        )  # fmt: skip
        self._running.append(process)
        return process

    def _address(self, host: str) -> str:
        return f"10.77.0.{HOSTS.index(host) + 1}" if self._wan else "127.0.0.1"

    def start(self) -> None:
        """Ledger, nodes, client; returns when all are ready."""
        from node.keystore import LIGHT, Keystore, generate

        for host in HOSTS:
            Keystore(self._home / host / "keys").create("default", generate(), self._passphrase, work_factor=LIGHT)
        here = self._address("ledger")
        arguments = ["--port", "0", "--grace-s", "60", "--faucet-limit", "5", "--json"]
        if self._wan:
            arguments += ["--host", here, "--listen", f"/ip4/{here}/tcp/0"]
        ledger = self._run("ledger", "-m", "node", "ledger", "run", *arguments)
        url = _event(ledger, "ledger ready")["url"]
        nodes = []
        for host, blocks in zip(HOSTS[1:4], NODES, strict=True):
            at = self._address(host)
            listen = ["--listen", f"/ip4/{at}/tcp/0", "--data-host", at] if self._wan else []
            model = str(self._checkout / "node" / "demo" / "model")
            nodes.append(
                self._run(
                    host, "-m", "node", "node", "run", "--model", model, "--blocks", blocks, "--ledger", url,
                    "--jurisdiction", "IS", "--energy-price", "0.05", "--kv-tokens", "65536", "--json", *listen,
                )
            )  # fmt: skip
        for node in nodes:
            _event(node, "node ready")
        self._worker = self._run("client", __file__, "--work", url, str(self._home / "client" / "jobs"))

    def ask(self, what: str, value: float) -> dict[str, Any]:
        """Have the client measure. Raises RuntimeError where it has died."""
        worker = self._worker
        if worker is None or worker.stdin is None or worker.stdout is None:
            raise RuntimeError(f"{self.name} has not begun")
        before = self._processor_s()
        worker.stdin.write(f"{what} {value:g}\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self.name}: the client died: {(self._home / 'client' / 'stderr').read_text()[-2000:]}"
            )
        found: dict[str, Any] = json.loads(line)
        after = self._processor_s()
        found["processor_s"] = [late - early for early, late in zip(before, after, strict=True)]
        return found

    def _processor_s(self) -> list[float]:
        """Processor seconds that each process has used, by host."""
        found = []
        for process in self._running:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        return found

    def stop(self) -> None:
        """End all processes, last first."""
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _event(process: subprocess.Popen[str], wanted: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == wanted:
                threading.Thread(target=process.stdout.read, daemon=True).start()  # it must not fill the pipe
                return event
    raise RuntimeError(f"a process ended before {wanted!r}")


# Measuring


def loopback(sides: Sequence[Side], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Each measurement of each side, in turns."""
    found: dict[str, dict[str, Any]] = {side.name: {"cold": [], "warm": [], "rate": [], "cpu_ms": []} for side in sides}
    for side in sides:
        side.ask("first", 2)  # the first jobs of all load what is loaded once
    for turn in range(rounds):
        for side in sides if turn % 2 else reversed(sides):
            times = side.ask("first", 6)
            for each in ("cold", "warm"):
                found[side.name][each] += times[each]
    if seconds:
        for turn in range(2):
            for side in sides if turn % 2 else reversed(sides):
                rate = side.ask("rate", seconds)
                found[side.name]["rate"].append(rate["rate"])
                found[side.name]["cpu_ms"].append([round(1000 * each / rate["jobs"]) for each in rate["processor_s"]])
    return found


def round_trips(sides: Sequence[Side], emulator: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Of the first tokens of each side: what they take longer over more distance, in round trips."""
    times: dict[tuple[str, int, str], list[float]] = {}
    for side in sides:
        side.ask("first", 2)
    for _ in range(rounds):
        for delay in DELAYS_MS:
            _set_delay(emulator, delay)
            for side in sides:
                answer = side.ask("first", 4)
                print(side.name, delay, answer["parts"], file=sys.stderr)
                for each, found in answer.items():
                    if each in ("cold", "warm"):
                        times.setdefault((side.name, delay, each), []).extend(found)
    near, far = DELAYS_MS
    return {
        side.name: {
            each: (min(times[side.name, far, each]) - min(times[side.name, near, each])) / (far - near)
            for each in ("cold", "warm")
        }
        | {f"{each}_{delay}_ms": min(times[side.name, delay, each])
           for each in ("cold", "warm") for delay in DELAYS_MS}
        for side in sides
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
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        asyncio.run(work(chosen.work[0], Path(chosen.work[1])))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the markets end with this process
    here = Path(__file__).resolve().parent.parent
    home = Path(tempfile.mkdtemp(prefix="joulemesh-bench-"))
    checkouts = {"here": here} | ({"there": chosen.against.resolve()} if chosen.against else {})
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        stack.enter_context(_hosts(chosen.wan))
        sides = [Side(name, checkout, home, chosen.wan is not None) for name, checkout in checkouts.items()]
        for side in sides:
            stack.callback(side.stop)
            side.start()
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
