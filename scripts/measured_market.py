"""A market to measure: a random model, and a ledger, nodes and clients with money; all is real, and on this machine.

What measures another checkout, too, runs in a process for each (`asked` and `answer`), where `node` is the checkout's.
So what these measure through, `market` above all, may need nothing that earlier commits lack.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.client import Client, open_client
from node.app.buying.request import Request
from node.config import ClientConfig
from node.demo.processes import JouleProcess
from node.events import unheard
from node.keystore import LIGHT, Keystore, generate
from node.pipeline.buying.job import JobResult

ROOT = Path(__file__).resolve().parent.parent
MONEY = 50
"""Dollars of play money that each client has."""
_PR_SET_PDEATHSIG = 1
COLLECT_S = 30.0
"""Seconds to wait for the offers of all nodes."""

Command = Callable[[str, Sequence[str]], Sequence[str]]
"""What is run, by the name of the process (``ledger``, ``node0`` ..) and the arguments of `joule`."""
Ask = Callable[..., dict[str, Any]]
"""Asks a process that was started by `asked` for a measurement."""


class Shape(NamedTuple):
    """A model of random weights."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    """Positions."""

    def spans(self, legs: int) -> tuple[str, ...]:
        """The blocks of each of so many legs."""
        cuts = [self.layers * leg // legs for leg in range(legs + 1)]
        return tuple(f"{start}:{end}" for start, end in pairwise(cuts))


LARGE = Shape(1024, 2688, 8, 16, 4, 4096, 4096)
SMALL = Shape(192, 512, 6, 6, 3, 506, 4096)
"""As the demo's model is."""
LONG = LARGE._replace(intermediate=2816, vocabulary=SMALL.vocabulary)
"""For long prompts; its context is as long as they need."""


def make_model(directory: Path, shape: Shape) -> None:
    """A checkpoint that never ends an answer by itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # nobody asks in text, but nodes want to be asked
        shutil.copy(BUNDLED_MODEL / name, directory)


# Ledger, nodes and clients


def joule(_name: str, arguments: Sequence[str]) -> Sequence[str]:
    """The `Command` of the code that runs here."""
    return [sys.executable, "-m", "node", *arguments]


def _end_with_parent() -> None:
    """In the child, before it runs: lead a group, which `JouleProcess.stop` ends, and end when the parent does."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Market:
    """Made by `market`."""

    home: Path
    """Of all that runs in it; removed at its end."""
    url: str
    processes: Sequence[JouleProcess]
    """The ledger, and the nodes in the order of their spans."""

    @asynccontextmanager
    async def client(self, name: str = "client", **settings: Any) -> AsyncIterator[Client]:
        """A new client with money that has heard of all nodes; it takes its time unless the settings say otherwise."""
        given = {"latency_class": "batch", **settings}
        config = ClientConfig(ledger=self.url, data_dir=self.home / name, **given)
        async with open_client(config, generate(), unheard) as client:
            await client.faucet(MONEY * 1_000_000)
            nodes = len(self.processes) - 1
            await client.offers(COLLECT_S, enough=lambda found: len({each.public_key for each in found}) >= nodes)
            yield client


@asynccontextmanager
async def market(model: Path, spans: Sequence[str], *arguments: str, command: Command = joule) -> AsyncIterator[Market]:
    """A ledger and a node for each span, with these arguments; all end with the block, the nodes before the ledger."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joulemesh-bench-")))

        async def start(name: str, *said: str) -> JouleProcess:
            Keystore(home / name / "keys").create("default", generate(), "bench", work_factor=LIGHT)
            own = {"JOULE_HOME": str(home / name), "JOULE_PASSPHRASE": "bench", "OMP_NUM_THREADS": "1"}
            process = await asyncio.create_subprocess_exec(
                *command(name, [*said, "--json"]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **own},
                preexec_fn=_end_with_parent,
            )
            started = JouleProcess(name, process)
            stack.push_async_callback(started.stop)
            return started

        ledger = await start("ledger", "ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", str(MONEY))
        url: str = (await ledger.event("ledger ready"))["url"]
        common = ("node", "run", "--model", str(model), "--ledger", url, *arguments)
        nodes = [await start(f"node{number}", *common, "--blocks", span) for number, span in enumerate(spans)]
        for node in nodes:
            await node.event("node ready", timeout_s=120.0)
        yield Market(home, url, [ledger, *nodes])


async def served(client: Client, request: Request) -> JobResult:
    """A job at its end, which it came to in one session. Raises RuntimeError where it did not."""
    async with await client.execute(await client.plan(request)) as tokens:
        async for _ in tokens:
            pass
    result = tokens.result
    if result is None or result.error is not None or len(tokens.results) > 1:
        why = next((each.error for each in tokens.results if each.error is not None), None)
        raise RuntimeError("a job was not served in one session") from why
    return result


# Processes of any checkout


@contextmanager
def asked(checkout: Path, *command: str) -> Iterator[Ask]:
    """A process with a checkout's code that will `answer`; it ends with the block, however that ends."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def said() -> dict[str, Any]:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError("a market has ended; what it complained about is above")
            found: dict[str, Any] = json.loads(line)
            return found

        def ask(**wanted: Any) -> dict[str, Any]:
            print(json.dumps(wanted), file=process.stdin, flush=True)
            return said()

        said()
        yield ask


async def answer(measure: Callable[..., Awaitable[dict[str, Any]]]) -> None:
    """Say that this process is ready; then what is measured with what each line asks for, until there are no more."""
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await measure(**json.loads(line))), flush=True)
