"""`joule demo --wan`: the same job where every process is a host of its own, with a distance between any two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.app.buying.report import JobReport
from node.demo.market import CLIENT, LEDGER, NODES, demo_market
from node.demo.result import DemoFindings, DemoResult, Way
from node.demo.run import DEFAULT_PROMPT, Say, ask, check
from node.demo.wan import Wan

__all__ = ["ROUND_TRIP_S", "run_wan"]

ROUND_TRIP_S = 0.025
"""Between any two hosts: a few hundred kilometres of fibre."""
WAYS: Mapping[str, Mapping[str, Any]] = {"one token a trip": {"drafts": "never"}, "guessing ahead": {"drafts": "auto"}}
"""By name: settings of the client."""


async def run_wan(prompt: str | None, *, say: Say, write: Say) -> DemoResult:
    """As `run.run_demo`. Raises ConfigurationError where this system lets us make no hosts."""
    hosts = (LEDGER, *(node.name for node in NODES), CLIENT)
    with Wan(hosts, round_trip_s=ROUND_TRIP_S) as wan, wan.here(CLIENT):
        async with demo_market(say, wan) as market:
            apart = f"{1000 * ROUND_TRIP_S:.0f} ms from any other and back"
            say(f"Starting a ledger and three nodes, each a host of its own, {apart} ...")
            await market.start(NODES, say)
            reports, bundle = list[JobReport](), None
            for name, settings in WAYS.items():
                say(f"\n{name.capitalize()}.")
                async with market.client(name, **settings) as client:
                    report, bundle = await ask(client, prompt or DEFAULT_PROMPT, say=say, write=write)
                reports.append(report)
            ways = tuple(_way(name, each, reports[0]) for name, each in zip(WAYS, reports, strict=True))
            return DemoResult(report=reports[-1], found=DemoFindings(audit=await check(bundle, say), ways=ways))


def _way(name: str, report: JobReport, first: JobReport) -> Way:
    return Way(
        name=name,
        round_trip_s=ROUND_TRIP_S,
        seconds_to_open=report.seconds_to_open,
        seconds_to_first_token=report.seconds_to_first_token,
        tokens_per_second=report.tokens_per_second,
        tokens_out=report.tokens_out,
        same_answer=report.answer == first.answer,
    )
