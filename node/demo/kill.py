"""`joule demo --kill`: a node dies in the middle of an answer, and the answer goes on.

The question is asked twice with one seed, of the same nodes: first nobody dies, and there is something to compare with;
then the node in the middle of the route is killed when half of these tokens are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.app.buying.report import JobReport
from node.demo.market import LEDGER, NODES, STANDBY, DemoMarket
from node.demo.result import DemoFindings, DemoResult, Killed
from node.demo.run import DEFAULT_PROMPT, Say, ask, check, market_on, named
from protocol.errors import ConfigurationError

__all__ = ["run_kill"]

SETTINGS: Mapping[str, Any] = {"standbys": 1, "temperature_milli": 700, "seed": 7}
"""Of both clients: the seed fixes what is drawn."""
SHORTEST = 16
"""Tokens without which an answer has no middle."""


async def run_kill(prompt: str | None, *, say: Say, write: Say, venue: str = LEDGER) -> DemoResult:
    """As `run.run_demo`. Raises ConfigurationError where the answer is too short to have a middle."""
    asked = prompt or DEFAULT_PROMPT
    async with market_on(venue, say) as market:
        say(f"Starting {named(venue)}, three nodes, and a dearer one that stands by for all blocks ...")
        await market.start((*NODES, STANDBY), say)
        say("\nFirst nobody dies, for comparison.")
        async with market.client("first client", **SETTINGS) as client:
            whole, _ = await ask(client, asked, say=say, write=write)
        if whole.tokens_out < SHORTEST:
            hint = "ask something that takes longer to answer"
            problem = f"the answer has {whole.tokens_out} tokens, and no middle to kill a node in"
            raise ConfigurationError(problem, code="short-answer", hint=hint)
        say("\nNow a node dies in the middle of the same answer.")
        victim = _Victim(market, whole, say, write)
        async with market.client("second client", **SETTINGS) as client:
            report, bundle = await ask(client, asked, say=say, write=victim.write)
            killed = victim.killed(report)
            found = DemoFindings(audit=await check(bundle, say), killed=killed, transactions=market.sent(client))
            return DemoResult(report=report, found=found)


class _Victim:
    """The node in the middle of a route, which dies while its answer is written."""

    def __init__(self, market: DemoMarket, whole: JobReport, say: Say, write: Say) -> None:
        route = [leg for leg in whole.legs if not leg.standby]
        self._leg = len(route) // 2
        self._name = market.name(route[self._leg].provider)
        self._at = whole.tokens_out // 2
        self._whole = whole
        self._tokens = 0
        self._market = market
        self._say = say
        self._write = write

    def write(self, piece: str) -> None:
        """A token's text is there: pass it on."""
        self._write(piece)
        self._tokens += 1
        if self._tokens == self._at:
            self._market.kill(self._name)
            self._say(f"  [{self._name}, leg {self._leg}, was killed: SIGKILL, after {self._at} tokens]")

    def killed(self, report: JobReport) -> Killed:
        """By the report of the answer."""
        return Killed(
            leg=self._leg,
            name=self._name,
            tokens=self._at,
            replaced=any(self._leg in healed.gone for healed in report.healed),
            same_answer=report.answer == self._whole.answer,
        )
