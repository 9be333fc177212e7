"""`joule demo --hour`: three tariffs in three countries, and the route that is cheapest at an hour of the day."""

from __future__ import annotations

import time
from collections.abc import Sequence

from node.app.buying.client import Client
from node.app.buying.report import JobReport
from node.demo.by_law import found_by_law, under
from node.demo.market import CLIENT, LEDGER, DemoMarket, DemoNode
from node.demo.result import DemoFindings, DemoResult, SitePower
from node.demo.run import DEFAULT_PROMPT, Say, ask, check, market_on, named
from protocol.identity.ids import checksum_address
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.units import ceil_div

__all__ = ["SITES", "run_hour"]

DAY_S = 86_400


def by_hour(zone: str, rates: Sequence[float], hours: str, hour: int, now: int) -> str:
    """A tariff file that has the same day all year, by a clock on which it is `hour` UTC now.

    Args:
        rates: $ per kWh of each period.
        hours: for each local hour the number of its period.
    """
    ahead_s = hour * 3600 - now % DAY_S
    row = ", ".join(hours)
    table = f"[{', '.join([f'[{row}]'] * 12)}]"
    periods = ", ".join(f"[{{ rate = {rate} }}]" for rate in rates)
    return (
        f'zone = "{zone}"\nclock_ahead_s = {ahead_s}\n[price]\nkind = "table"\nenergyratestructure = [{periods}]\n'
        f"energyweekdayschedule = {table}\nenergyweekendschedule = {table}\n"
    )


SITES = (
    # Geothermal power at one price, and a long way for the traffic.
    ("reykjavik", "0:4", "IS", "Atlantic/Reykjavik", "0.07", "2", [0.055], "0" * 24),
    # Much sun: cheap at noon, dear in the evening.
    ("berlin", "2:6", "DE", "Europe/Berlin", "0.016", "2", [0.22, 0.04, 0.46], "000000000001111112222220"),
    # Cheap at night.
    ("lyon", "0:6", "FR", "Europe/Paris", "0.024", "3", [0.10, 0.20, 0.27], "000000011111111112222200"),
)
"""Name, blocks, country, zone, $ per million tokens besides energy, joules per token, $ per kWh by period, hours."""


def sites(hour: int, now: int) -> tuple[DemoNode, ...]:
    """The nodes, with tariffs by which it is `hour` UTC now."""
    return tuple(
        DemoNode(
            *(name, blocks, country, f"{rates[0]}", overhead),
            tariff=by_hour(zone, rates, hours, hour, now),
            joules_per_token=joules,
        )
        for name, blocks, country, zone, overhead, joules, rates, hours in SITES
    )


async def run_hour(
    prompt: str | None, *, say: Say, write: Say, hour: int, policy: str | None = None, venue: str = LEDGER
) -> DemoResult:
    """As `run.run_demo`, with the clocks of the tariffs at an hour of the day in UTC, and under a policy by name."""
    async with market_on(venue, say) as market:
        say(f"Starting {named(venue)} and three nodes with a tariff each, as if it were {hour:02d}:00 UTC ...")
        await market.start(sites(hour, int(time.time())), say)
        law = {} if policy is None else under(policy, say)
        # Only money counts here: the machines are all this one.
        async with market.client(CLIENT, latency_weight_micro_per_ms=0, **law) as client:
            report, bundle = await ask(client, prompt or DEFAULT_PROMPT, say=say, write=write)
            found = DemoFindings(
                audit=await check(bundle, say),
                by_law=None if policy is None else found_by_law(policy, market, report),
                transactions=market.sent(client),
                power=await _power(client, market, report),
            )
            return DemoResult(report=report, found=found)


async def _power(client: Client, market: DemoMarket, report: JobReport) -> tuple[SitePower, ...]:
    """What each site's power and blocks cost, the cheapest first, and what of it the route took."""
    used = {leg.provider: leg.blocks for leg in report.legs if not leg.standby}
    why = {each.provider: each.reason for each in report.not_taken}
    found = [_site(offer, market, used, why) for offer in await client.offers(0.0)]
    return tuple(sorted(found, key=lambda site: site.block_micro))


def _site(offer: Offer, market: DemoMarket, used: dict[str, str], why: dict[str, str]) -> SitePower:
    provider = checksum_address(address_of_public_key(offer.public_key))
    return SitePower(
        name=market.name(provider),
        jurisdiction=offer.jurisdiction,
        blocks=str(offer.span),
        micro_per_kwh=0 if offer.energy is None else offer.energy.tariff_micro_per_kwh,
        block_micro=ceil_div(offer.rates.price_out, len(offer.span)),
        taken=used.get(provider),
        reason=why.get(provider),
    )
