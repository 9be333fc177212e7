"""`joule demo --policy`: the same question under another law, over another route.

The cheapest node for the first blocks stands in Iceland: within the EU a dearer one in Italy takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.app.buying.report import JobReport
from node.demo.market import CLIENT, LEDGER, NODES, DemoMarket, DemoNode
from node.demo.result import ByLaw, DemoFindings, DemoResult
from node.demo.run import DEFAULT_PROMPT, Say, ask, check, market_on, named

__all__ = ["POLICIES", "found_by_law", "run_by_law", "under"]

MILAN = DemoNode("milan", "0:2", "IT", "0.29", "0.60")
"""Dearer than the node in Reykjavik."""
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "eu-only": {
        "allow": ("EU",),
        "origin": "DE",
        "corridors": ("EU>EU:inference:2099-01-01",),
        "training": "forbidden",
        "max_retention_s": 0,
    },
}
"""By name, the client's settings."""


async def run_by_law(prompt: str | None, *, policy: str, say: Say, write: Say, venue: str = LEDGER) -> DemoResult:
    """As `run.run_demo`, under the policy of that name. Raises RoutingError where nobody may serve under it."""
    asked = prompt or DEFAULT_PROMPT
    async with market_on(venue, say) as market:
        say(f"Starting {named(venue)} and four nodes in four countries, each with its own key and tariff ...")
        await market.start((*NODES, MILAN), say)
        async with market.client(CLIENT, **under(policy, say)) as client:
            report, bundle = await ask(client, asked, say=say, write=write)
            law = found_by_law(policy, market, report)
            found = DemoFindings(audit=await check(bundle, say), by_law=law, transactions=market.sent(client))
            return DemoResult(report=report, found=found)


def under(policy: str, say: Say) -> Mapping[str, Any]:
    """Settings of a client under the policy of that name, which are told."""
    say(f"\nUnder the policy {policy!r}: {_told(POLICIES[policy])}")
    return POLICIES[policy]


def _told(settings: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        return ", ".join(value) if isinstance(value, tuple) else str(value)

    return "; ".join(f"{key} {text(value)}" for key, value in settings.items())


def found_by_law(policy: str, market: DemoMarket, report: JobReport) -> ByLaw:
    """Whom it let serve, and whom not."""
    return ByLaw(
        policy=policy,
        route=tuple(f"{market.name(leg.provider)} ({leg.jurisdiction})" for leg in report.legs if not leg.standby),
        left_out=tuple(
            f"{market.name(each.provider)} ({each.jurisdiction}): {each.reason}" for each in report.not_taken
        ),
    )
