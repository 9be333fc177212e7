"""The demo, top to bottom: keys, ledger, three providers, one client, the report, the end of everything."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node.app.asking import Question
from node.app.audit import BUNDLED_MODEL, AuditReport, audit_bundle
from node.app.client import Client, open_client
from node.app.prompt import Prompt
from node.app.report import JobReport
from node.config import ClientConfig
from node.demo.processes import JouleProcess, ProcessGroup
from node.events import unheard
from node.keystore import LIGHT, Keystore, generate
from protocol.audit import Verdict
from protocol.offer import Offer
from protocol.units import MICRO

__all__ = ["DEFAULT_PROMPT", "DemoResult", "run_demo"]

DEFAULT_PROMPT = "Write a story about Mia and a red kite in the park."
MAX_TOKENS = 96
PLAY_MONEY = 5 * MICRO


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One of the three providers."""

    name: str
    blocks: str
    jurisdiction: str
    energy_price: str
    """$ per kWh."""
    overhead_price: str
    """$ per million tokens that the node costs besides energy."""


NODES = (
    DemoNode("reykjavik", "0:2", "IS", "0.05", "0.30"),
    DemoNode("berlin", "2:4", "DE", "0.31", "0.45"),
    DemoNode("lyon", "4:6", "FR", "0.18", "0.40"),
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo has to show for itself."""

    report: JobReport
    audit: AuditReport | None
    """None where nothing was settled, so that there is nothing to check."""

    @property
    def passed(self) -> bool:
        """Whether the answer came whole, its receipt holds, and the spot check agrees."""
        checked = self.audit is not None and self.audit.verdict is Verdict.MATCH
        return checked and self.report.error is None and self.report.verified


async def run_demo(prompt: str | None, *, say: Callable[[str], None], write: Callable[[str], None]) -> DemoResult:
    """Run it in a folder of its own, which is removed with all that ran in it, whatever happens.

    Args:
        prompt: `DEFAULT_PROMPT` where None.
        say: told a line of progress.
        write: given the answer as it comes.

    Raises:
        LocalError: a process did not start; says what it complained about.
    """
    home = Path(tempfile.mkdtemp(prefix="joulemesh-demo-"))
    try:
        async with ProcessGroup() as ledgers, ProcessGroup() as nodes:
            result = await _run(prompt or DEFAULT_PROMPT, _Home(home, ledgers, nodes), say, write)
            say("\nStopping the ledger and the nodes ...")
            return result
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass(slots=True)
class _Home:
    """Where everything of one demo is, and what runs in it; the nodes end before the ledger."""

    folder: Path
    ledgers: ProcessGroup
    nodes: ProcessGroup
    passphrase: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    async def start_ledger(self) -> JouleProcess:
        arguments = ["ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", "5"]
        return await self.ledgers.start("ledger", arguments, self._environment("ledger"))

    async def start_node(self, node: DemoNode, url: str) -> JouleProcess:
        arguments = ["node", "run", "--model", str(BUNDLED_MODEL), "--blocks", node.blocks, "--ledger", url]
        arguments += ["--jurisdiction", node.jurisdiction, "--energy-price", node.energy_price, "--kv-tokens", "4096"]
        arguments += ["--overhead-price", node.overhead_price]
        return await self.nodes.start(node.name, arguments, self._environment(node.name))

    def _environment(self, name: str) -> dict[str, str]:
        """A key of its own, and what finds it."""
        keys = Keystore(self.folder / name / "keys")
        keys.create("default", generate(), self.passphrase, work_factor=LIGHT)
        home = str(self.folder / name)
        return {"JOULE_HOME": home, "JOULE_PASSPHRASE": self.passphrase, "OMP_NUM_THREADS": "1"}


async def _run(prompt: str, home: _Home, say: Callable[[str], None], write: Callable[[str], None]) -> DemoResult:
    say("Starting a ledger and three nodes, each a process with its own key, tariff and country ...")
    ledger = await home.start_ledger()
    url = (await ledger.event("ledger ready"))["url"]
    processes = await asyncio.gather(*(home.start_node(node, url) for node in NODES))
    config = ClientConfig(ledger=url, data_dir=home.folder / "client", max_tokens=MAX_TOKENS)
    async with open_client(config, generate(), unheard) as client:
        for node, process in zip(NODES, processes, strict=True):
            serving = await process.event("node ready")
            say(
                f"  {node.name:<10} blocks {node.blocks}  {node.jurisdiction}  "
                f"${node.energy_price}/kWh  ready in {serving['start_s']:.1f} s"
            )
        await client.faucet(PLAY_MONEY)
        await client.offers(30.0, enough=_all_here)
        return await _ask(client, prompt, say, write)


async def _ask(client: Client, prompt: str, say: Callable[[str], None], write: Callable[[str], None]) -> DemoResult:
    say(f"\nAsking: {prompt}\n")
    question = await Question.plan(client, Prompt.question(prompt))
    await question.answer(write)
    write("\n")
    report, bundle = await question.report()
    if bundle is None:
        return DemoResult(report, None)
    say("\nSpot check: executing a drawn part of it again ...")
    return DemoResult(report, await asyncio.to_thread(audit_bundle, bundle, BUNDLED_MODEL))


def _all_here(offers: Sequence[Offer]) -> bool:
    return len({offer.public_key for offer in offers}) >= len(NODES)
