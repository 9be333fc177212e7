"""The demo, top to bottom: keys, ledger, three providers, one client, the report, the end of everything."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.audit import BUNDLED_MODEL, AuditReport, audit_bundle
from node.app.client import Client, open_client
from node.app.report import JobReport
from node.config import ClientConfig
from node.demo.processes import JouleProcess
from node.keystore import LIGHT, Keystore, generate
from protocol.audit import Verdict
from protocol.bundle import Bundle
from protocol.offer import Offer
from protocol.signing import SigningKey
from protocol.units import MICRO

__all__ = ["DEFAULT_PROMPT", "run_demo"]

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


class _Screen:
    """Progress on stderr, unless everything is to be JSON."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress for people

    def write(self, piece: str) -> None:
        if not self._quiet:
            sys.stdout.write(piece)
            sys.stdout.flush()

    def note(self, _name: str, _details: Mapping[str, Any]) -> None:
        """Events of the client are told by the report."""


async def run_demo(prompt: str | None, *, as_json: bool) -> int:
    """Run it in a folder of its own, which is removed with all that ran in it, whatever happens. Returns the status."""
    screen = _Screen(quiet=as_json)
    home = Path(tempfile.mkdtemp(prefix="joulemesh-demo-"))
    try:
        async with AsyncExitStack() as stack:
            report, audit = await _run(prompt or DEFAULT_PROMPT, home, stack, screen)
            screen.say("\nStopping the ledger and the nodes ...")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    _print(report, audit, as_json=as_json)
    passed = report.error is None and report.verified and audit is not None and audit.verdict is Verdict.MATCH
    return 0 if passed else 1


async def _run(prompt: str, home: Path, stack: AsyncExitStack, screen: _Screen) -> tuple[JobReport, AuditReport | None]:
    passphrase = secrets.token_urlsafe(16)
    screen.say("Starting a ledger and three nodes, each a process with its own key, tariff and country ...")
    _make_key(home / "ledger", passphrase)
    arguments = ["ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", "5"]
    ledger = await _start("ledger", arguments, home, passphrase, stack)
    ready = await ledger.event("ledger ready")
    for node in NODES:
        _make_key(home / node.name, passphrase)
    nodes = await asyncio.gather(*(_start_node(node, ready["url"], home, passphrase, stack) for node in NODES))
    key = generate()
    config = ClientConfig(ledger=ready["url"], data_dir=home / "client", max_tokens=MAX_TOKENS)
    async with open_client(config, key, screen.note) as client:
        for node, process in zip(NODES, nodes, strict=True):
            serving = await process.event("node ready")
            screen.say(
                f"  {node.name:<10} blocks {node.blocks}  {node.jurisdiction}  "
                f"${node.energy_price}/kWh  ready in {serving['start_s']:.1f} s"
            )
        await client.faucet(PLAY_MONEY)
        await client.offers(30.0, enough=_all_here)
        return await _ask(client, prompt, screen)


async def _ask(client: Client, prompt: str, screen: _Screen) -> tuple[JobReport, AuditReport | None]:
    screen.say(f"\nAsking: {prompt}\n")
    report, _, bundle = await client.run(prompt, screen.write)
    screen.write("\n")
    audit = None
    if isinstance(bundle, Bundle):
        screen.say("\nSpot check: executing one drawn window of one leg again ...")
        audit = await asyncio.to_thread(audit_bundle, bundle, BUNDLED_MODEL)
    return report, audit


def _all_here(offers: Any) -> bool:
    heard: list[Offer] = list(offers)
    return len({offer.public_key for offer in heard}) >= len(NODES)


def _make_key(folder: Path, passphrase: str) -> SigningKey:
    key = generate()
    Keystore(folder / "keys").create("default", key, passphrase, work_factor=LIGHT)
    return key


async def _start_node(node: DemoNode, url: str, home: Path, passphrase: str, stack: AsyncExitStack) -> JouleProcess:
    arguments = ["node", "run", "--model", str(BUNDLED_MODEL), "--blocks", node.blocks, "--ledger", url]
    arguments += ["--jurisdiction", node.jurisdiction, "--energy-price", node.energy_price, "--kv-tokens", "4096"]
    arguments += ["--overhead-price", node.overhead_price]
    return await _start(node.name, arguments, home, passphrase, stack)


async def _start(name: str, arguments: list[str], home: Path, passphrase: str, stack: AsyncExitStack) -> JouleProcess:
    environment = {"JOULE_HOME": str(home / name), "JOULE_PASSPHRASE": passphrase, "OMP_NUM_THREADS": "1"}
    process = await JouleProcess.start(name, arguments, environment)
    stack.push_async_callback(process.stop)
    return process


def _print(report: JobReport, audit: AuditReport | None, *, as_json: bool) -> None:
    if as_json:
        from node.cli.output import print_json

        print_json({**report.to_json(), "audit": None if audit is None else audit.to_json()})
        return
    from node.cli.report import print_report

    print_report(report, audit=None if audit is None else _audit_line(audit))


def _audit_line(audit: AuditReport) -> str:
    return (
        f"spot check: window {audit.window + 1} of {audit.windows}, leg {audit.leg} (blocks {audit.blocks}), positions "
        f"{audit.positions} executed again: {audit.verdict} ({audit.distance_ppm} ppm apart, "
        f"{audit.tolerance_ppm} allowed)"
    )
