"""What a hop costs: three real nodes in a ring against the same engine in one process, and against another checkout.

Everything is real: a ledger and three nodes in processes of their own on loopback, a client in another, signed orders,
TLS, vouchers, receipts, seeds and sketches; one compute thread each. Random weights, so that nothing depends on a file.
Compared are tokens in the steady part of an answer, after every stream has begun. Each row has both sides in one go and
prints their ratio; absolute figures depend on the machine and on what else it does.

    python scripts/bench_hop.py
    python scripts/bench_hop.py --rows one,hop --json
    python scripts/bench_hop.py --rows loop --against ../another-checkout
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from measured_market import LARGE, ROOT, SMALL, Ask, Shape, asked, make_model

from node.engine.engine import Engine
from node.ports import StepInput, StepOutput

RING = Path(__file__).resolve().parent / "measured_ring.py"
LARGE_SPANS = ("0:3", "3:6", "6:8")
"""The last leg has the head, too."""
ROWS = ("one", "8", "16", "hop", "loop")
HOPS = 3
PROMPT = 24
SETTLED = 40
"""Tokens of each stream before what is measured: more than the two windows that come before all have begun."""
ROUNDS = 3


class Measured(NamedTuple):
    """The steady part of some answers through a ring."""

    tokens: int
    seconds: float
    nodes: list[dict[str, int]]
    client: int

    @property
    def rate(self) -> float:
        """Tokens a second, of all streams together."""
        return self.tokens / self.seconds

    def ms(self, part: str) -> float:
        """Of one thread, for each token and node."""
        return sum(node[part] for node in self.nodes) / self.tokens / len(self.nodes) / 1e6


def ring(checkout: Path, model: Path, spans: Sequence[str], vocabulary: int) -> AbstractContextManager[Ask]:
    """A ring of a checkout's code."""
    return asked(checkout, sys.executable, str(RING), str(model), ",".join(spans), str(vocabulary))


def measure(ask: Ask, count: int, most: int) -> Measured:
    """The steady part of `count` answers at once, of `most` tokens or, where streams are too uneven, of more.

    Raises RuntimeError where they are so uneven that there is no steady part.
    """
    for longer in (1, 2, 4):
        found = Measured(**ask(streams=count, most=most * longer, prompt=PROMPT, settled=SETTLED))
        if found.tokens:
            return found
    raise RuntimeError(f"{count} streams never ran all at once: one was over while another had hardly begun")


# One process, and the rows


class Alone:
    """All blocks in one engine, in this process: what there is besides is the network's."""

    def __init__(self, model: Path, shape: Shape) -> None:
        self._engine = Engine.load(model, 0, shape.layers, kv_tokens=8192)

    def rate(self, most: int) -> float:
        """Tokens a second of one stream, over the same positions as the ring's."""
        self._engine.open(b"bench", max_tokens=512)
        data, position, began = tuple(range(PROMPT)), 0, 0.0
        for number in range(most):
            if number == SETTLED:
                began = time.perf_counter()
            item = StepInput(session=b"bench", position=position, length=len(data), data=data, draws=1)
            (output,) = self._engine.forward([item])
            if not isinstance(output, StepOutput):
                raise RuntimeError("the engine drew no token") from output
            position, data = position + len(data), output.tokens
        seconds = time.perf_counter() - began
        self._engine.close(b"bench")
        return (most - SETTLED) / seconds


Row = dict[str, Any]


def row(name: str, ours: float, other: float, unit: str, **more: object) -> Row:
    return {"row": name, "ours": round(ours, 3), "other": round(other, 3), "unit": unit, "ratio": ours / other, **more}


def large_rows(wanted: set[str], folder: Path) -> Iterator[Row]:
    """Rows of the large model."""
    make_model(folder, LARGE)
    alone = Alone(folder, LARGE)
    with ring(ROOT, folder, LARGE_SPANS, LARGE.vocabulary) as ask:
        measure(ask, 1, SETTLED + 8)
        pairs = [(measure(ask, 1, SETTLED + 48), alone.rate(SETTLED + 48)) for _ in range(ROUNDS)]
        single = statistics.median(each.rate for each, _ in pairs)
        if "one" in wanted:
            ratio = statistics.median(each.rate / other for each, other in pairs)
            yield row("one stream, ring / one process", single, single / ratio, "tokens/s")
        if "hop" in wanted:
            yield hop_row("hop, one stream", [each for each, _ in pairs], alone=True)
        for count in (8, 16):
            if str(count) in wanted or (count == 8 and "hop" in wanted):
                together = measure(ask, count, SETTLED + 200)
                yield row(f"{count} streams / one", together.rate, single, "tokens/s", client_ms=client_ms(together))
                if count == 8 and "hop" in wanted:
                    yield hop_row("hop, 8 streams", [together], alone=False)


def client_ms(measured: Measured) -> float:
    return round(measured.client / measured.tokens / 1e6, 3)


def hop_row(name: str, rounds: list[Measured], *, alone: bool) -> Row:
    """What is not compute, per token and leg: with one stream all the time besides, with several what they compete for.

    Where a thread that computes waits for a core, that is the machine's doing, not the hop's. What the loop waits for
    is in the time of one stream: on a busy machine it is most of it.
    """
    engine, busy, kept = (
        statistics.median(sum(each.ms(part) for part in parts) for each in rounds)
        for parts in (("engine",), ("loop", "rest"), ("loop_waited",))
    )
    whole = statistics.median(1e3 * each.seconds / each.tokens / HOPS - each.ms("engine_waited") for each in rounds)
    more = {"other_threads": round(busy, 3), "loop_without_a_core": round(kept, 3)}
    return row(name, whole - engine if alone else busy, engine, "ms per token and leg, beside compute", **more)


def loop_row(folder: Path, against: Path | None) -> Row:
    """The event loop's CPU with 16 streams of a small model, here and in another checkout."""
    make_model(folder, SMALL)
    with ExitStack() as stack:
        asks = [
            stack.enter_context(ring(each, folder, SMALL.spans(HOPS), SMALL.vocabulary))
            for each in (ROOT, against)
            if each is not None
        ]
        rounds = [(measure(asks[0], 16, 120), measure(asks[-1], 16, 120)) for _ in range(ROUNDS)]
    mine, theirs = ([pair[side] for pair in rounds] for side in (0, 1))
    here, there = (statistics.median(each.ms("loop") for each in side) for side in (mine, theirs))
    rates = [round(statistics.median(each.rate for each in side)) for side in (mine, theirs)]
    name = "event loop, 16 small streams, here / " + ("here again" if against is None else "there")
    clients = [client_ms(side[-1]) for side in (mine, theirs)]
    return row(name, here, there, "ms per token and node", rates=rates, clients_ms=clients)


def rows(wanted: set[str], against: Path | None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        if wanted - {"loop"}:
            yield from large_rows(wanted, Path(folder) / "large")
        if "loop" in wanted:
            yield loop_row(Path(folder) / "small", against)


def shown(each: Row) -> Iterator[str]:
    yield f"{each['row']:<42}{each['ours']:>9.2f}{each['other']:>9.2f}{each['ratio']:>8.2f}  {each['unit']}"
    more = {name: value for name, value in each.items() if name not in ("row", "ours", "other", "ratio", "unit")}
    if more:
        yield "    " + ", ".join(f"{name} {value}" for name, value in more.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="What a hop costs.")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--against", type=Path, help="another checkout, for the row loop")
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    arguments = parser.parse_args()
    wanted = set(arguments.rows.split(","))
    if wanted - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(wanted - set(ROWS)))}")
    for each in rows(wanted, arguments.against and arguments.against.resolve()):
        print(json.dumps(each) if arguments.json else "\n".join(shown(each)), flush=True)


if __name__ == "__main__":
    main()
