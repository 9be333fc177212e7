"""An engine that measures itself, for `bench_engine`; a process of its own, so of any checkout.

Processor time, not the clock's: the machine may do other things. A line of JSON on standard input asks for a
measurement, and is answered with one.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.process_time()

from node.engine.engine import Engine  # noqa: E402 - its import is part of what is measured
from node.ports import StepInput, StepOutput  # noqa: E402

IMPORTED_S = time.process_time() - BEGAN
PAGE = 4096


def resident() -> int:
    """Bytes of this process that nobody else has."""
    whole, shared = (int(each) for each in Path("/proc/self/statm").read_text().split()[1:3])
    return (whole - shared) * PAGE


class Measured:
    """One engine with all blocks of a model."""

    def __init__(self, model: Path, blocks: int, precision: str) -> None:
        before = time.process_time()
        self.engine = Engine.load(model, 0, blocks, kv_tokens=1 << 16, dtype=precision, max_rows=1024)
        self.load_s = time.process_time() - before
        gc.collect()
        self.beyond = resident() - self.engine.span.size[1]

    def run(self, items: list[StepInput]) -> list[tuple[int, ...]]:
        """The tokens drawn."""
        tokens = []
        for output in self.engine.forward(items):
            if not isinstance(output, StepOutput):
                raise RuntimeError("the engine failed") from output
            tokens.append(output.tokens)
        return tokens

    def decode(self, streams: int, context: int, steps: int, *, together: bool) -> float:
        """Tokens a second of so many sessions at about this context."""
        sessions = [number.to_bytes(2, "big") for number in range(streams)]
        fed = {}
        for number, each in enumerate(sessions):
            self.engine.open(each, max_tokens=context + steps + 1)
            prompt = tuple((7 * number + 11 * at) % self.engine.facts.vocabulary for at in range(context))
            (fed[each],) = self.run([StepInput(session=each, position=0, length=context, data=prompt, draws=1)])
        times = []
        for step in range(steps):
            items = [StepInput(session=s, position=context + step, length=1, data=fed[s], draws=1) for s in sessions]
            began = time.thread_time()
            drawn = self.run(items) if together else [tokens for item in items for tokens in self.run([item])]
            times.append(time.thread_time() - began)
            fed = dict(zip(sessions, drawn, strict=True))
        for each in sessions:
            self.engine.close(each)
        return streams / min(times)

    def prefill(self, tokens: int) -> float:
        """Tokens a second of one prompt."""
        times = []
        for _ in range(3):
            self.engine.open(b"bench", max_tokens=tokens)
            began = time.thread_time()
            self.run([StepInput(session=b"bench", position=0, length=tokens, data=(5,) * tokens, draws=0)])
            times.append(time.thread_time() - began)
            self.engine.close(b"bench")
        return tokens / min(times)


def main() -> None:
    model, blocks, precision = sys.argv[1:]
    measured = Measured(Path(model), int(blocks), precision)
    print("{}", flush=True)
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        kind = wanted.pop("kind")
        if kind == "start":
            found = {"imported_s": IMPORTED_S, "load_s": measured.load_s, "beyond": measured.beyond}
        else:
            found = {"rate": getattr(measured, kind)(**wanted)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
