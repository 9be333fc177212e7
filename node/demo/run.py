"""The demo, top to bottom: a ledger, three providers, one client, the report, the end of everything."""

from __future__ import annotations

from collections.abc import Callable

from node.app.asking import Question
from node.app.audit import BUNDLED_MODEL, AuditReport, audit_bundle
from node.app.client import Client
from node.app.prompt import Prompt
from node.app.report import JobReport
from node.demo.forked import call_forked
from node.demo.market import CLIENT, NODES, demo_market
from node.demo.result import DemoFindings, DemoResult
from protocol.bundle import Bundle

__all__ = ["DEFAULT_PROMPT", "Say", "ask", "check", "run_demo"]

DEFAULT_PROMPT = "Write a story about Mia and a red kite in the park."

Say = Callable[[str], None]


async def run_demo(prompt: str | None, *, say: Say, write: Say) -> DemoResult:
    """Run it in a folder of its own, which is removed with all that ran in it, whatever happens.

    Args:
        prompt: `DEFAULT_PROMPT` where None.
        say: told a line of progress.
        write: given the answer as it comes.

    Raises:
        LocalError: a process did not start; says what it complained about.
    """
    async with demo_market(say) as market:
        say("Starting a ledger and three nodes, each a process with its own key, tariff and country ...")
        await market.start(NODES, say)
        async with market.client(CLIENT) as client:
            report, bundle = await ask(client, prompt or DEFAULT_PROMPT, say=say, write=write)
            return DemoResult(report=report, found=DemoFindings(audit=await check(bundle, say)))


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
