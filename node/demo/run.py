"""The demo, top to bottom: a ledger, three providers, one client, the report, the end of everything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from node.app.buying.asking import Question
from node.app.buying.audit import BUNDLED_MODEL, AuditReport, audit_bundle
from node.app.buying.client import Client
from node.app.buying.report import JobReport
from node.app.models.prompt import Prompt
from node.demo.forked import call_forked
from node.demo.market import CLIENT, LEDGER, NODES, DemoMarket, demo_market
from node.demo.result import DemoFindings, DemoResult
from protocol.receipts.bundle import Bundle

__all__ = ["DEFAULT_PROMPT", "VENUES", "Say", "ask", "check", "market_on", "named", "run_demo"]

DEFAULT_PROMPT = "Write a story about Mia and a red kite in the park."

VENUES = (LEDGER, "evm")

Say = Callable[[str], None]


async def run_demo(prompt: str | None, *, say: Say, write: Say, venue: str = LEDGER) -> DemoResult:
    """Run it in a folder of its own, which is removed with all that ran in it, whatever happens.

    Args:
        prompt: `DEFAULT_PROMPT` where None.
        venue: where jobs are settled: one of `VENUES`.
        say: told a line of progress.
        write: given the answer as it comes.

    Raises:
        LocalError: a process did not start; says what it complained about. Its code is ``no-anvil`` where there is no
            test chain on this machine.
    """
    async with market_on(venue, say) as market:
        say(f"Starting {named(venue)} and three nodes, each a process with its own key, tariff and country ...")
        await market.start(NODES, say)
        async with market.client(CLIENT) as client:
            report, bundle = await ask(client, prompt or DEFAULT_PROMPT, say=say, write=write)
            found = DemoFindings(audit=await check(bundle, say), transactions=market.sent(client))
            return DemoResult(report=report, found=found)


def market_on(venue: str, say: Say) -> AbstractAsyncContextManager[DemoMarket]:
    """An empty market that settles there."""
    if venue == LEDGER:
        return demo_market(say)
    from node.demo.on_chain import ChainMarket

    return demo_market(say, kind=ChainMarket)


def named(venue: str) -> str:
    """What settles, for people."""
    return "a ledger" if venue == LEDGER else "a test chain with a token and the contract"


async def ask(client: Client, prompt: str, *, say: Say, write: Say) -> tuple[JobReport, Bundle | None]:
    """One question, and what came of it."""
    say(f"\nAsking: {prompt}\n")
    question = await Question.plan(client, Prompt.question(prompt))
    await question.answer(write)
    write("\n")
    return await question.report()


async def check(bundle: Bundle | None, say: Say) -> AuditReport | None:
    """A spot check of what was settled; None where nothing was."""
    if bundle is None:
        return None
    say("\nSpot check: executing a drawn part of it again ...")
    return await call_forked(audit_bundle, bundle, BUNDLED_MODEL)
