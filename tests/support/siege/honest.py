"""An honest client that lives long: one small job after another, told line by line.

    python -m siege.honest LEDGER HOME MODEL_NAME MODEL_ROOT TOKENS

A process of its own, so that what an attack does to a client shows in a memory and a clock that are nobody else's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from node.app.buying.client import Client, open_client
from node.app.buying.request import Request
from node.config import ClientConfig
from node.events import unheard
from node.keystore import generate
from protocol.errors import JoulemeshError
from protocol.market.offer import Offer
from siege.attack import say

PROMPT = (5, 6, 7, 8, 9, 10, 11, 12)
JOB_S = 90.0
"""A job that takes longer has failed."""
PAUSE_S = 0.2
"""More after a failure."""
MONEY = 4_000_000
"""Micro-units of play money."""


async def main(ledger: str, home: Path, model: str, root: str, tokens: int, rest_s: float) -> None:
    config = ClientConfig(ledger=ledger, data_dir=home, max_tokens=tokens)
    async with open_client(config, generate(), unheard) as client:
        await client.faucet(MONEY)

        def all_blocks(offers: list[Offer]) -> bool:
            served = {block for offer in offers for block in range(offer.span.start, min(offer.span.end, 4096))}
            return bool(offers) and served >= set(range(offers[0].blocks))

        await client.offers(30.0, enough=all_blocks)
        say("ready")
        while True:
            await one_job(client, root)
            await asyncio.sleep(rest_s)


async def one_job(client: Client, root: str) -> None:
    began, first, code, cost, needed = time.monotonic(), None, "", 0, 0
    try:
        async with asyncio.timeout(JOB_S):
            plan = await client.plan(Request(prompt=PROMPT, model=root))
            needed = plan.reserved_micro + 3 * plan.rules.fee
            execution = await client.execute(plan)
            async with execution as answer:
                async for _ in answer:
                    first = first or time.monotonic()
        result = execution.result
        for error in () if result is None else (result.error, result.settle_error):
            code = code or ("" if error is None else error.code)
        if result is not None and result.record is not None:
            cost = sum(result.record.settled) + execution.fees_micro
    except JoulemeshError as error:
        code = error.code
    except TimeoutError:
        code = "harness-timeout"
    ended = time.monotonic()
    say("job", began=began, ended=ended, first_s=None if first is None else first - began, code=code,
        cost=cost, needed=needed)  # fmt: skip
    if code:
        await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    ledger, home, model, root, tokens, rest_s = sys.argv[1:]
    asyncio.run(main(ledger, Path(home), model, root, int(tokens), float(rest_s)))
