"""`joule energy`: what a running node uses, for which tokens, and what that costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, key_file
from node.cli.terminal.output import money, print_facts, print_json
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.json_values import plain
from node.screen import json_text
from protocol.errors import KeystoreError, LocalError

if TYPE_CHECKING:
    from node.energy.live import EnergyReport

_LATE_S = 10
"""A report that is overdue by so much is of a node that does not run any more."""


@click.command(
    epilog=examples(
        "joule energy --key berlin", "joule energy --key berlin --watch", "joule energy --key berlin --json"
    )
)
@configured(ClientConfig, only=("key", "data_dir", "log_level"))
@click.option("--watch", is_flag=True, help="Show each new report, until stopped.")
@json_option
def energy(config: ClientConfig, watch: bool, as_json: bool) -> int:
    """Show what the running node with this key uses: watts, joules and cents per token, and what a day costs.

    Figures are those of the meter that the node reads, with their source and how far it may be off. What nobody has
    measured is unknown. A node writes them every few seconds.
    """
    from node.energy.live import energy_file, read_report

    whose = key_file(config).address
    if whose is None:
        raise KeystoreError(f"the key file {config.key} does not name its address", hint="import it: joule key import")
    path = energy_file(config.data_dir, whose)

    def latest() -> EnergyReport | None:
        return read_report(path)

    if watch:
        return run_job(_follow(latest, as_json))[1]
    found = latest()
    if found is None:
        raise LocalError(f"no node with the key {config.key!r} has run here", hint="start it: joule node run")
    if as_json:
        print_json(found)
    else:
        print_facts(_facts(found))
    return 0


async def _follow(latest: Callable[[], EnergyReport | None], as_json: bool) -> None:
    """Print each report once, until cancelled."""
    shown = 0
    while True:
        found = latest()
        if found is not None and found.at != shown:
            if shown and not as_json:
                click.echo()
            shown = found.at
            if as_json:
                click.echo(json_text(plain(found)))
            else:
                print_facts(_facts(found))
        await asyncio.sleep(1)


def _facts(of: EnergyReport) -> dict[str, str]:
    """As people read it."""
    age_s = int(time.time()) - of.at
    overdue = age_s > of.next_s + _LATE_S
    facts = {"measured": f"{age_s} s ago: this node does not run" if overdue else f"{max(0, age_s)} s ago"}
    facts["source"] = f"{of.source}: {of.meter}"
    if of.fault is not None:
        facts["wrong"] = f"{of.fault}; the figures are those of before"
    if of.sharers > 1:
        facts["shared"] = f"{of.sharers} nodes read this meter; these figures are this node's part"
    facts["error"] = _error(of)
    facts["power"] = _watts(of.microwatts)
    facts["power when idle"] = _watts(of.idle_microwatts)
    facts["prompt token"] = _token(of.microjoules_in, of.price_in)
    facts["generated token"] = _token(of.microjoules_out, of.price_out)
    more = of.marginal_microjoules
    facts["one more in a pass"] = "unknown" if more is None else f"{more / 1e6:g} J"
    facts["batch"] = "unknown" if of.batch_milli is None else f"{of.batch_milli / 1000:.1f} positions a pass"
    price = f"at ${money(of.micro_per_kwh)}/kWh, PUE {of.pue_milli / 1000:g}"
    facts["a day like now"] = "unknown" if of.day_cost is None else f"${money(_cents(of.day_cost))} {price}"
    facts["counted"] = (
        f"{of.measured_millijoules / 1000:.1f} J since {time.strftime('%Y-%m-%d %H:%M', time.localtime(of.since))}: "
        f"{of.told_millijoules / 1000:.1f} J for sessions, {of.idle_millijoules / 1000:.1f} J idle, "
        f"{(of.untold_millijoules + of.carried_millijoules) / 1000:.1f} J told to nobody yet"
    )
    if of.estimated_millijoules:
        facts["estimated"] = (
            f"{of.estimated_millijoules / 1000:.1f} J of what sessions were told, while the meter failed"
        )
    return facts


def _error(of: EnergyReport) -> str:
    share = "not known: say it with meter_error" if of.error_ppm is None else f"{of.error_ppm / 10_000:g} %"
    return share if of.step_microjoules is None else f"{share}, in steps of {of.step_microjoules / 1e6:g} J"


def _watts(microwatts: int | None) -> str:
    return "unknown" if microwatts is None else f"{microwatts / 1e6:.1f} W"


def _token(microjoules: int | None, price: int | None) -> str:
    """With cents for a million of them."""
    if microjoules is None or price is None:
        return "unknown"
    return f"{microjoules / 1e6:g} J; {price / 10_000:g} cents per million"


def _cents(micro: int) -> int:
    """Rounded up to whole cents."""
    return -(-micro // 10_000) * 10_000
