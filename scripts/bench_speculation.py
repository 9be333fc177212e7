"""What guessing ahead is worth: tokens a pass and speed, with and without, over loopback and over far links.

Everything is real: a ledger and three nodes in processes of their own, a client, signed orders, TLS, vouchers,
receipts. Far links are proxies that hold back what they pass on, half of the round trip each way, before each node's
data port. The oracle has seen the answer without drafts, and is right with the probability that it is told. Rows take
both sides in turn over the same prompts; absolute figures depend on the machine and on what else it does.

    python scripts/bench_speculation.py
    python scripts/bench_speculation.py --rows oracle --json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from measured_market import SMALL, joule, market, served
from tokenizers import Tokenizer

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.client import Client
from node.app.buying.request import Request

NEAR, FAR = "127.0.0.1", "127.0.0.2"
"""Where nodes listen, and where their far ends do."""
PROMPTS = ("Once upon a time", "Tell me a story about a drum.", "Tell me a story about a cat.")
MOST = 160


# A node whose drafter knows the answers


class Oracle:
    """Right with a probability, by position; it knows only sequences whose answer the file has."""

    instant = True

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sequences: dict[bytes, list[int]] = {}

    def begin(self, session: bytes, *, max_tokens: int, prompt: int, sampling: object) -> None:
        """See `node.ports.Drafter`."""
        self._sequences[session] = []

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """See `node.ports.Drafter`."""
        self._sequences[session].extend(tokens)

    def propose(self, asks: Sequence[Any]) -> list[tuple[int, ...]]:
        """See `node.ports.Drafter`."""
        said = json.loads(self._file.read_text())
        return [self._one(ask, said["right"], said["answers"]) for ask in asks]

    def end(self, session: bytes) -> None:
        """See `node.ports.Drafter`."""
        self._sequences.pop(session, None)

    def _one(self, ask: Any, right: float, answers: list[list[int]]) -> tuple[int, ...]:
        own = self._sequences[ask.session]
        whole = next((each for each in answers if each[: len(own)] == own), None)
        at = len(own) + len(ask.guesses)
        if whole is None or not right:
            return ()
        return tuple(
            token if _chance(at + offset) < right else token ^ 1
            for offset, token in enumerate(whole[at : at + ask.wanted])
        )


def _chance(position: int) -> float:
    return int.from_bytes(hashlib.sha256(f"oracle {position}".encode()).digest()[:8], "big") / 2**64


def knowing(answers: Path, arguments: Sequence[str]) -> Sequence[str]:
    """The command of a node with an oracle."""
    return [sys.executable, __file__, "--node", str(answers), *arguments]


def be_a_node(answers: str, *arguments: str) -> None:
    """`joule` with an oracle that knows these answers in the place of what the settings name."""
    import node.app.daemons.provider
    from node.cli import main

    node.app.daemons.provider.load_drafter = lambda *_: Oracle(Path(answers))
    sys.argv = ["joule", *arguments]
    main()


# Far links


class Far:
    """Holds back what passes to and from one port of this machine."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, near: tuple[str, int], there: tuple[str, int]) -> None:
        """Listen near, and pass on there."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            other_reader, other_writer = await asyncio.open_connection(*there)
            for source, sink in ((reader, other_writer), (other_reader, writer)):
                task = asyncio.create_task(self._pass(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(serve, *near)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    sink.close()
                    return
                sink.write(data)

        delivering = asyncio.create_task(deliver())
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                under_way.put_nowait((loop.time() + self._delay_s, data))
        under_way.put_nowait((loop.time() + self._delay_s, b""))
        with contextlib.suppress(OSError):
            await delivering

    async def close(self) -> None:
        """Stop listening, and cut what passes."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def asked(drafter: Sequence[str], *, round_trip_s: float, answers: Path | None) -> AsyncIterator[Client]:
    """A client of three nodes with the demo's model, far from each other, that guess so or know these answers."""
    ports: dict[str, int] = {}

    def command(name: str, arguments: Sequence[str]) -> Sequence[str]:
        at = ("--data-port", str(ports[name]), "--data-announce", FAR) if name in ports else ()
        return [*(joule(name, arguments) if answers is None else knowing(answers, arguments)), *at]

    spans = SMALL.spans(3)
    async with AsyncExitStack() as stack:
        for number in range(len(spans) if round_trip_s else 0):
            with socket.create_server((NEAR, 0)) as probe:
                ports[f"node{number}"] = port = probe.getsockname()[1]
            far = Far(round_trip_s / 2)
            stack.push_async_callback(far.close)
            await far.open((FAR, port), (NEAR, port))
        ring = await stack.enter_async_context(market(BUNDLED_MODEL, spans, *drafter, command=command))
        yield await stack.enter_async_context(ring.client())


async def answer(client: Client, prompt: tuple[int, ...], most: int, drafts: str) -> tuple[list[int], float, float]:
    """The tokens, how many came a second after the first, and how many a pass."""
    client.config = dataclasses.replace(client.config, drafts=drafts)
    result = await served(client, Request(prompt=prompt, most=most))
    tokens = list(result.tab.tokens[len(prompt) :])
    times = result.token_times_s
    return tokens, (len(times) - 1) / max(1e-9, times[-1] - times[0]), len(tokens) / max(1, result.passes)


def tell(file: Path, right: float, answers: list[list[int]]) -> None:
    """The oracle, of how often it is to be right, and of what."""
    file.write_text(json.dumps({"right": right, "answers": answers}))


async def compared(client: Client, rounds: int, answers: Path | None, right: float) -> dict[str, Any]:
    """With against without, over the prompts in turn."""
    tokenizer = Tokenizer.from_file(str(BUNDLED_MODEL / "tokenizer.json"))
    ratios, passes, known = [], [], []
    for turn in range(rounds + 1):
        for text in PROMPTS:
            prompt = tuple(tokenizer.encode(text).ids)
            without, slow, _ = await answer(client, prompt, MOST, "never")
            known.append([*prompt, *without])
            if answers is not None:
                tell(answers, right, known[-len(PROMPTS) :])
            came, fast, together = await answer(client, prompt, MOST, "auto")
            if came != without:
                raise RuntimeError("drafts have changed an answer")
            if turn and len(came) > 16:  # the first round finds out what guesses are worth
                ratios.append(fast / slow)
                passes.append(together)
    return {"ratio": statistics.median(ratios), "least": min(ratios), "tokens_per_pass": statistics.mean(passes)}


async def rows(wanted: set[str], rounds: int) -> AsyncIterator[dict[str, Any]]:
    """One after the other, each with a market of its own."""
    kinds: dict[str, tuple[Sequence[str], float, float | None]] = {
        "ngram": (("--drafter", "ngram"), 0.0, None),
        "layers": (("--drafter", "layers"), 0.0, None),
        "ngram 25 ms": (("--drafter", "ngram"), 0.025, None),
        "layers 25 ms": (("--drafter", "layers"), 0.025, None),
        "oracle 0.7 25 ms": ((), 0.025, 0.7),
        "oracle 0.9 25 ms": ((), 0.025, 0.9),
        "oracle 0.7 75 ms": ((), 0.075, 0.7),
        "oracle 0.9 75 ms": ((), 0.075, 0.9),
    }
    for name, (drafter, round_trip_s, right) in kinds.items():
        if not any(name.startswith(each) for each in wanted):
            continue
        with tempfile.TemporaryDirectory() as home:
            answers = None if right is None else Path(home) / "answers.json"
            if answers is not None:
                tell(answers, 0.0, [])
            async with asked(drafter, round_trip_s=round_trip_s, answers=answers) as client:
                found = await compared(client, rounds, answers, right or 0.0)
        ideal = {} if right is None else {"ideal": 1 / (1 - right)}
        yield {"row": name, **found, **ideal}


async def print_rows(wanted: set[str], rounds: int, *, as_json: bool) -> None:
    """As they come."""
    async for row in rows(wanted, rounds):
        if as_json:
            print(json.dumps(row), flush=True)
            continue
        ideal = f"   of {row['ideal']:.1f} at best" if "ideal" in row else f"   least {row['least']:.2f}x"
        print(f"{row['row']:18} {row['ratio']:5.2f}x   {row['tokens_per_pass']:5.2f} tokens a pass{ideal}", flush=True)


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--node"]:
        be_a_node(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="What guessing ahead is worth.")
    parser.add_argument("--rows", default="ngram,layers,oracle", help="how the names of rows begin, with commas")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    asyncio.run(print_rows(set(asked.rows.split(",")), asked.rounds, as_json=asked.json))


if __name__ == "__main__":
    main()
