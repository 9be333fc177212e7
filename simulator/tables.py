"""The tables of a scenario file: every key with its unit, its bounds, and the equation that it enters.

Numbers are integers in the unit that a docstring names; `simulator.settings` reads them from the decimals in the file.
A mark like (X4) is a number in docs/explanation/equations.md; docs/reference/scenario.md is written from here.
"""

from __future__ import annotations

import dataclasses

from protocol.units import MICRO
from simulator.settings import choice, decimal, flag, text, whole, words

__all__ = [
    "LATENCY_CLASSES",
    "MILLI",
    "QUARTERS",
    "Agents",
    "Audit",
    "Demand",
    "Entry",
    "Event",
    "Market",
    "Region",
    "Run",
    "Series",
    "Token",
]

MILLI = 1000
QUARTERS = 4
"""Of an hour: no zone of time is finer."""
LATENCY_CLASSES = ("batch", "chat", "voice", "metro")
EVIDENCE = ("claimed", "rtt_consistent", "rtt_proven", "attested")
MOST_PROVIDERS = 100_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How much is simulated."""

    providers: int = whole(0, MOST_PROVIDERS, 0)
    """Sites that are shared out among regions by their `share`, present or not (X1)."""
    hours: int = whole(1, 8760 * 5, 8760)
    """Hours of market time after the burn-in; hour 0 is a Monday, 1 January, 00:00 UTC."""
    epoch_minutes: int = whole(5, 60, 60)
    """Minutes for which asks, demand and use hold; divides 60."""
    burn_in_days: int = whole(0, 3650, 0)
    """Days before hour 0 in which entry, exit and use settle; they are in no figure."""
    fidelity: str = choice(("fluid", "event", "replay"), "fluid")
    """fluid: each epoch is cleared as a whole; event: requests arrive, wait and are served one by one (X24); replay:
    those of `trace` are served by whom they were served (X25)."""
    trace: str = text("")
    """A .csv file of sessions, relative to the scenario, as `joule sim trace` writes it: what its classes ask for, in
    every engine (X25)."""
    ledger: bool = flag(False)
    """With `fidelity = "event"`: whether each request is a session on a ledger by the shipped rules (X24)."""
    signatures: str = choice(("names", "keys"), "names")
    """Who signs on that ledger: names alone, which costs least, or real keys, as nodes do (X24)."""
    window: int = whole(1, 1_000_000, 256)
    """Tokens of a prompt, or of an answer, that one receipt and one voucher are for on that ledger (X24)."""
    blocks: int = whole(1, 1000, 1)
    """Blocks of the model; sites may hold some of them (X21)."""
    seed: int = whole(0, 2**63 - 1, 1)
    """What the random draws follow from; `--seed` replaces it. Stands beside the hash, not in it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """How prices form."""

    price_rule: str = choice(("posted", "pay-as-ask", "uniform"), "posted")
    """posted: clients pay the ask, which moves by its own rule; pay-as-ask: the same, and asks are bids that end at the
    cap when supply is short; uniform: all who are served in a zone pay the price at which it clears (X8)."""
    clearing: str = choice(("joint", "in-turn"), "joint")
    """Of classes that see the same quotes, with one price and with bids. joint: all at once, so that what is served is
    worth most, whatever sites each may use; in-turn: one after another, as clients do, and as with posted prices and
    pipelines always (X7, X28)."""
    value_of_lost_load: int = decimal(MICRO, "0", "10000", "0")
    """Micro-units per million tokens that a short epoch costs at most (uniform, pay-as-ask); 0: no limit (X8)."""
    strategy: str = text("rule")
    """rule: asks by the node's kernels; best-response: each site's best ask against all others; cournot: sites choose
    quantities (uniform only); or a plug-in, `module:Class` (X15, X16)."""
    leader: str = text("")
    """With cournot, the [site.NAME], one alone, that chooses its quantity first, by what all others then do (X16)."""
    tick: int = decimal(MICRO, "0.000001", "1", "0.000001")
    """Micro-units per million tokens by which best responses undercut (X15)."""
    margin_policy: str = choice(("fixed", "utilisation", "book"), "fixed")
    """As a node's: what an ask adds to its floor (X3)."""
    undercut: int = decimal(MICRO, "0", "1", "0")
    """Millionths by which to stay below the median ask, with `margin_policy = "book"` (X3)."""
    energy_scale: int = decimal(MILLI, "0", "100", "1")
    """Thousandths: multiplies every tariff (X2)."""
    overhead: int = decimal(MICRO, "0", "1000", "0")
    """Micro-units per million tokens that a provider spends besides energy (X3)."""
    margin: int = decimal(MICRO, "0", "4", "0.1")
    """Millionths that an ask adds to its floor (X3)."""
    target_use: int = decimal(MICRO, "0.05", "1", "0.6")
    """Millionths of its time for which a machine's hourly cost has to be paid by work (X4)."""
    memory_days: int = whole(1, 365, 7)
    """Days over which a site averages its use; asks carry capital cost in proportion to it (X10)."""
    carbon_price: int = decimal(MICRO, "0", "10000", "0")
    """Micro-units for a tonne of CO2, paid with each kWh by who uses it (X2)."""
    delay_cost: int = decimal(MICRO, "0", "10", "0")
    """Micro-units per million tokens by which a client ranks a site lower for each millisecond of round trip (X14)."""
    stretch: int = decimal(MILLI, "1", "5", "1.6")
    """Thousandths: the length of a fibre over that of the great circle (X14)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who comes and goes; once a day."""

    rule: str = choice(("npv", "habit", "none"), "npv")
    """npv: present values decide, with sunk capital (X12); habit: losses drive out, profits attract (X11), which is
    what version 1 has; none."""
    present: int = decimal(MICRO, "0", "1", "0.8")
    """Millionths of the sites that are there at the start (X11)."""
    patience_days: int = whole(1, 3650, 14)
    """Days in a row with a loss after which a site leaves (X11, X12)."""
    join: int = decimal(MICRO, "0", "1", "0.02")
    """Millionths: the daily chance that an absent site looks at joining (X11, X12)."""
    leave: int = decimal(MICRO, "0", "1", "0.001")
    """Millionths: the daily chance that a site leaves for reasons of its own (X11); not with npv."""
    discount: int = decimal(MICRO, "0", "1", "0.08")
    """Millionths a year at which money to come is worth less (X12)."""
    credit_days: int = whole(0, 3650, 90)
    """Days of its running cost that a site may lose in all before it has to stop (X12)."""
    memory_days: int = whole(1, 365, 28)
    """Days over which margins are averaged before anybody builds or scraps by them (X12)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where sites are, what law holds there, and what energy costs."""

    share: int = whole(0, 1_000_000, 0)
    """Weight by which `run.providers` are shared out (X1)."""
    sites: int = whole(0, MOST_PROVIDERS, 0)
    """Exactly so many sites, apart from those by share (X1)."""
    jurisdiction: str = text()
    """A country or a part of one by its ISO 3166 code, or ZZ where it is not said: what policies go by (X23)."""
    energy_price: int = decimal(MICRO, "0", "25", "0")
    """Micro-units per kWh, mean of the tariff; not needed with `tariff` (X2)."""
    tariff: str = text("")
    """A [series.NAME] of dollars per kWh instead of a shape (X2)."""
    demand_charge: int = decimal(MICRO, "0", "1000", "0")
    """Micro-units for each kW of a site's highest draw over an epoch, each 30 days, besides each kWh (X27)."""
    ceiling: int = decimal(MICRO, "0", "25", "0")
    """Micro-units per kWh above which its sites take nothing new, as a node with a `ceiling`; 0: never (X30)."""
    shape: str = choice(("flat", "time-of-use", "solar", "spot"), "flat")
    """flat; time-of-use (dear 16-21 h, cheap at night); solar (a dip around noon); spot (two humps; may go below 0)."""
    swing: int = decimal(MICRO, "0", "2", "0")
    """Millionths of the mean by which the shape moves the price (X2)."""
    noise: int = decimal(MICRO, "0", "2", "0")
    """Millionths: standard deviation of a slowly changing random part (X2)."""
    carbon: int = whole(0, 10_000, 0)
    """Grams of CO2 per kWh of the supply (X2, X23)."""
    carbon_series: str = text("")
    """A [series.NAME] of grams of CO2 per kWh instead of `carbon` (X2)."""
    utc_offset: int = decimal(QUARTERS, "-12", "14", "0")
    """Quarters of an hour that local time is ahead of UTC; 5.5 in India."""
    pue: int = decimal(MILLI, "1", "5", "1.2")
    """Thousandths: lowest energy at the meter per energy at the machine (X2)."""
    pue_spread: int = decimal(MILLI, "0", "4", "0.2")
    """Thousandths: a drawn site's PUE lies evenly from `pue` to `pue + pue_spread` (X2)."""
    latitude: int = decimal(MICRO, "-90", "90", "0")
    """Millionths of a degree north (X14)."""
    longitude: int = decimal(MICRO, "-180", "180", "0")
    """Millionths of a degree east (X14)."""
    evidence: str = choice(EVIDENCE, "claimed")
    """How far clients find the places of its machines to be backed (X23)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Requests of one kind from one place."""

    requests_per_hour: int = whole(0, 1_000_000_000, 0)
    """Mean at hour 0; not needed with `series` (X5)."""
    series: str = text("")
    """A [series.NAME] of requests per hour instead (X5)."""
    tokens_in: int = whole(0, 1_000_000)
    """Prompt tokens of a request (X7)."""
    tokens_out: int = whole(1, 1_000_000)
    """Generated tokens of a request (X7)."""
    price_cap: int = decimal(MICRO, "0", "10000")
    """Micro-units per million tokens, prompt and output together, above which a request goes unserved (X7)."""
    allow: tuple[str, ...] = words()
    """Countries, their parts, or blocs (EU, EEA) where it may be served; empty: anywhere (X23)."""
    deny: tuple[str, ...] = words()
    """Where it may not (X23)."""
    origin: str = text("")
    """Where its data come from: they leave that country by `corridors` only; empty: they may go anywhere (X23)."""
    corridors: tuple[str, ...] = words()
    """Ways for data, each "FROM>TO" (X23)."""
    deny_hardware: tuple[str, ...] = words()
    """Categories of hardware that may not serve it (X23)."""
    max_carbon: int = whole(0, 10_000, 0)
    """Grams of CO2 per kWh of a site's supply, at most; 0: nobody asks (X23)."""
    min_evidence: str = choice(EVIDENCE, "claimed")
    """Least backing of a site's place (X23)."""
    latency_class: str = choice(LATENCY_CLASSES, "batch")
    """As in a client's policy (X23)."""
    latitude: int = decimal(MICRO, "-90", "90", "0")
    """Millionths of a degree north, where its clients are (X14)."""
    longitude: int = decimal(MICRO, "-180", "180", "0")
    """Millionths of a degree east (X14)."""
    max_round_trip_ms: int = whole(0, 10_000, 0)
    """Milliseconds to a site and back, at most; 0: anywhere (X14)."""
    max_wait_ms: int = whole(0, 86_400_000, 0)
    """Milliseconds of waiting above which its service level is missed; 0: none is set (X13)."""
    patience_ms: int = whole(0, 86_400_000, 0)
    """Milliseconds of waiting after which a request is withdrawn, in the event engine; 0: ten times `max_wait_ms` where
    that is set, else never (X24)."""
    patience: str = choice(("fixed", "exponential"), "fixed")
    """How that varies from request to request; `patience_ms` is its mean (X24)."""
    service: str = choice(("fixed", "exponential", "gamma"), "fixed")
    """How the time that a request takes varies, in the event engine and in waits (X13, X24)."""
    service_cv: int = decimal(MICRO, "0.01", "10", "1")
    """Millionths: with `gamma`, its standard deviation over its mean (X13, X24)."""
    defer_hours: int = whole(0, 168, 0)
    """Hours for which a request may wait for a cheaper one, or for room (X19)."""
    utc_offset: int = decimal(QUARTERS, "-12", "14", "0")
    """Quarters of an hour that local time is ahead of UTC (X5)."""
    peak_hour: int = whole(0, 23, 15)
    """Local hour with the most requests (X5)."""
    swing: int = decimal(MICRO, "0", "1", "0")
    """Millionths of the mean by which the day moves demand (X5)."""
    weekend: int = decimal(MICRO, "0", "10", "1")
    """Millionths: multiplies demand on Saturdays and Sundays (X5)."""
    noise: int = decimal(MICRO, "0", "1", "0")
    """Millionths: standard deviation of each epoch's random part (X5)."""
    growth: int = decimal(MICRO, "-0.9", "20", "0")
    """Millionths by which demand grows in a year (X5)."""
    elasticity: int = decimal(MICRO, "0", "10", "0")
    """Millionths: relative fall of demand for a relative rise of the price over `reference_price` (X6)."""
    reference_price: int = decimal(MICRO, "0", "10000", "0")
    """Micro-units per million tokens; needed with `elasticity` (X6)."""

    @property
    def service_variation(self) -> float:
        """The squared coefficient of variation of service times."""
        return {"fixed": 0.0, "exponential": 1.0}.get(self.service, (self.service_cv / MICRO) ** 2)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Numbers over time from a file beside the scenario; what it says is in the hash, not its name."""

    file: str = text()
    """A .csv (with a header) or .parquet file, relative to the scenario."""
    column: str = text()
    """The column with the numbers."""
    step_minutes: int = whole(5, 1440, 60)
    """Minutes that each row holds; the first is of hour 0. After the last it begins again."""
    factor: int = decimal(MICRO, "0.000001", "1000000", "1")
    """Millionths: multiplies each number, as 0.001 does to make dollars per kWh of dollars per MWh."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens ([[event]]); several at once multiply (X20)."""

    at: int = whole(0, 8760 * 5)
    """Hour in which it begins."""
    hours: int = whole(1, 8760 * 5, 24)
    """For how long; `for` is another name of it."""
    what: str = choice(("demand", "tariff", "supply", "carbon", "token-price", "shed", "drain"))
    """What is multiplied; supply: the time that sites have to give, token-price: by `factor` for these hours; or what
    the grid asks of sites: to shed (take nothing new of latency class batch) or to drain (take nothing new) (X30)."""
    where: tuple[str, ...] = words()
    """Names of regions (tariff, supply, carbon, shed, drain) or of demand classes; empty: all."""
    factor: int = decimal(MICRO, "0", "1000", "1")
    """Millionths: by how much; not with shed and drain."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """What sets some sites apart."""

    ignore_energy: int = decimal(MICRO, "0", "1", "0")
    """Millionths of the sites whose asks leave out what energy costs; they pay for it all the same (X3)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A network's own token (X17)."""

    emission_per_day: int = decimal(MICRO, "0", "1000000000", "0")
    """Millionths of a token that are minted in a day at first."""
    halving_days: int = whole(0, 36_500, 0)
    """Days after which emission halves; 0: never."""
    supply: int = decimal(MICRO, "0", "1000000000000", "0")
    """Millionths of a token that exist at the start."""
    fee: int = decimal(MICRO, "0", "1", "0")
    """Millionths of what clients pay that goes to the network."""
    burn_share: int = decimal(MICRO, "0", "1", "1")
    """Millionths of this fee that buy tokens and burn them; the rest stays in the treasury."""
    price: int = decimal(MICRO, "0", "1000000", "0")
    """Micro-units for a token with `closure = "given"`."""
    price_series: str = text("")
    """A [series.NAME] of dollars for a token with `closure = "given"`."""
    closure: str = choice(("given", "burn-equals-mint", "equation-of-exchange"), "given")
    """Where the token's price comes from: given; the price at which a day burns what it mints; or that at which what is
    held for `holding_days` of burning is all the supply."""
    holding_days: int = decimal(MICRO, "0.000001", "36500", "30")
    """Millionths of a day that a token is held before it is burned."""
    reward: str = choice(("work", "presence"), "work")
    """Who gets what is minted: sites by what they earned, or by the machines that they keep present."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Checks, and who cheats (X18)."""

    rate: int = decimal(MICRO, "0", "1", "0")
    """Millionths of requests that are checked."""
    power: int = decimal(MICRO, "0", "1", "1")
    """Millionths: the chance that a check of a cheated request finds it out."""
    stake: int = decimal(MICRO, "0", "100000000", "0")
    """Micro-units that a site loses when it is found out; it then leaves."""
    gain: int = decimal(MICRO, "0", "1", "0")
    """Millionths of its revenue that cheating saves."""
    cheats: str = choice(("never", "always", "if-it-pays"), "never")
    """never; always, those of `share`; if-it-pays: those of them whose gain is above what they expect to lose."""
    share: int = decimal(MICRO, "0", "1", "1")
    """Millionths of the sites that would cheat."""
    knowledge: int = decimal(MICRO, "0", "1", "1")
    """Millionths of the true rate that a site believes in at first; what happens to others teaches it the rest."""
