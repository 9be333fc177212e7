"""What is wrong with a node that runs, and why no work came today: from what it told, the book and a look from outside.

Only values come in here: `symptoms` gathers them. Each finding that is not well says what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from node.app.diagnosis.activity import Told
from node.app.diagnosis.finding import Finding
from node.app.diagnosis.troubles import held_back, last_of, troubles_of
from protocol.market.market_figures import figures_of
from protocol.market.offer import CLOCK_SKEW_S, Offer
from protocol.market.reach import Reach, endpoint_of, reach_of
from protocol.units import ceil_div

__all__ = ["Symptoms", "diagnosed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptoms:
    """What is known of one node that runs here."""

    name: str
    """Its address, checksummed."""
    process: int | None
    """Its process id."""
    told: Sequence[Told]
    """Today, oldest first."""
    ready: dict[str, Any] | None
    """What it said when it was ready last; None where it never was."""
    has_key: bool
    """Whether its key is in the keystore here."""
    book: Sequence[Offer] | None
    """Offers that others show; None where nobody could be asked."""
    own: Offer | None
    """Its own among them, the newest."""
    clock_off_s: float | None
    """How far this machine's clock is ahead of the ledger's; None where it does not say."""
    ledger_error: str
    """Why the ledger cannot be read; empty where it can."""
    free: int | None
    """Micro-units on its account."""
    bond: int | None
    """Micro-units at stake."""
    dialled: dict[str, str]
    """By each address that it announces why it cannot be reached from here; empty where it can."""


SMALL_FREE = 10_000
"""Micro-units: what some thousands of operations cost on a common ledger."""

_FIXES = {
    "full": "raise max_sessions, if the machine can serve more at once",
    "busy": "raise wait, or lower chunk: prompts wait too long here",
    "no-room": "raise kv_tokens",
    "too-long": "raise kv_tokens, or leave it: the model has a bound of its own",
    "window": "raise window and chunk to what clients ask for",
    "credit": "raise credit, if you trust new clients with so many tokens",
    "speculation": "raise draft_depth",
    "next-unreachable": "let this machine dial out: it must reach the node after it on the route",
    "unreachable": "see that the ledger can be reached from here",
    "lost-peer": "see that the ledger and the next nodes can be reached from here",
    "shutdown": "it was leaving its blocks, or ending: nothing to do",
    "jurisdiction-undeclared": "set jurisdiction (and region)",
    "jurisdiction-denied": "these clients do not want your place: nothing to do",
    "jurisdiction-not-allowed": "these clients want other places; set region, if it is not said",
    "evidence": "these clients want your place proven",
    "stake": "joule stake AMOUNT: these clients want providers with something to lose",
    "precision": "these clients want another precision",
    "price-cap": "lower margin or capital_price: these clients pay less for a block",
    "too-slow": "serve fewer blocks, or leave it: these clients want answers sooner",
    "expired": "set the clock right (NTP), here or there: orders come too old or from the future",
    "venue": "these clients pay on another ledger",
    "model": "these clients want another model",
    "ledger-forked": "the ledger signed two histories: nothing new is begun there",
    "unwitnessed": "wait for the witnesses, or ask fewer of them: min_witnesses",
}
"""What an operator can do about orders that are refused for a reason."""


def diagnosed(symptoms: Symptoms) -> list[Finding]:
    """All that can be said of a node, work last."""
    return [
        *_process(symptoms),
        *_clock(symptoms),
        *_reached(symptoms),
        *_shown(symptoms),
        *_ledger(symptoms),
        *_meter(symptoms),
        *troubles_of(symptoms.told),
        *_price(symptoms),
        *_work(symptoms),
    ]


def _count(symptoms: Symptoms, *names: str) -> int:
    return sum(each.count for each in symptoms.told if each.event in names)


def _process(symptoms: Symptoms) -> Iterator[Finding]:
    ready = symptoms.ready
    if ready is None:
        step = last_of(symptoms.told, "starting")
        doing = "" if step is None else f": {step.last.get('step', '')}"
        yield Finding("note", "node", f"{symptoms.name} is starting{doing}", "wait for it, or look at its log")
    else:
        served = f"blocks {ready['blocks']} of {ready['model']} (process {symptoms.process})"
        yield Finding("ok", "node", f"{symptoms.name} serves {served}")
    if not symptoms.has_key:
        yield Finding("note", "key", "not in this keystore", "keep a copy of the key file: earnings are paid to it")
    else:
        yield Finding("ok", "key", "in the keystore")


def _clock(symptoms: Symptoms) -> Iterator[Finding]:
    off = symptoms.clock_off_s
    if off is None:
        yield Finding("note", "clock", "not compared: the ledger did not answer", "see the ledger below")
    elif abs(off) > CLOCK_SKEW_S:
        way = "ahead of" if off > 0 else "behind"
        fix = "set the clock by NTP: others refuse offers from the future, and orders look too old or too new"
        yield Finding("fail", "clock", f"{abs(off):.0f} s {way} the ledger's", fix)
    else:
        yield Finding("ok", "clock", f"within {max(1, round(abs(off)))} s of the ledger's")


def _reached(symptoms: Symptoms) -> Iterator[Finding]:
    """Ports answer, and others can come to them."""
    far = _reach_of_ledger(symptoms)
    for address, why in symptoms.dialled.items():
        host, port = endpoint_of(address)
        what = f"port {port}"
        if why:
            fix = f"open port {port} in the firewall, and forward it here; or announce the address that others reach"
            yield Finding("fail", what, f"{address} does not answer: {why}", fix)
        elif reach_of(host) < far:
            fix = "set announce and data_announce (and listen on 0.0.0.0) to where the internet reaches this machine"
            yield Finding("fail", what, f"{host} leads nowhere from outside this {_near(host)}", fix)
        else:
            yield Finding("ok", what, f"{address} answers from here")


def _near(host: str) -> str:
    return "machine" if reach_of(host) is Reach.MACHINE else "site"


def _reach_of_ledger(symptoms: Symptoms) -> Reach:
    """How far whoever uses this ledger is expected to be."""
    url = "" if symptoms.ready is None else str(symptoms.ready.get("ledger", ""))
    host = url.partition("://")[2].partition("/")[0].rpartition(":")[0] or url.partition("://")[2].partition("/")[0]
    return reach_of(host.strip("[]")) if host else Reach.MACHINE


def _shown(symptoms: Symptoms) -> Iterator[Finding]:
    """Whether others see the offer."""
    rival = last_of(symptoms.told, "key in use elsewhere")
    if rival is not None:
        where = ", ".join(rival.last.get("addresses", ()))
        yield Finding("fail", "offer", f"another node uses this key, at {where}", "stop one of the two")
    lost = last_of(symptoms.told, "network lost", "network back")
    if lost is not None and lost.event == "network lost":
        yield Finding("fail", "network", "no peer is connected", "see that listen, peers and the firewall let it out")
    held = held_back(symptoms.told)
    if symptoms.book is None:
        yield Finding("note", "offer", "nobody could be asked for it", "see the ledger and the network")
    elif symptoms.own is None and held is not None and held.last.get("how") != "shed":
        yield Finding("note", "offer", "withdrawn while work is held back", "see held back, below")
    elif symptoms.own is None:
        fix = "wait a minute after its start; then see network, clock and ports above"
        yield Finding("fail", "offer", "no peer shows it: no jobs can come", fix)
    else:
        yield Finding("ok", "offer", f"others show it, among {len(symptoms.book)} offers")


def _ledger(symptoms: Symptoms) -> Iterator[Finding]:
    if symptoms.ledger_error:
        yield Finding("fail", "ledger", symptoms.ledger_error, "see that its URL is right and it can be reached")
        return
    free, bond = symptoms.free or 0, symptoms.bond or 0
    said = f"answers; ${free / 1e6:.6f} free, ${bond / 1e6:.6f} at stake"
    if free < SMALL_FREE and not _count(symptoms, "voucher redeemed"):
        fix = "pay a little in: redeeming a voucher costs the ledger's fee, where nobody else settles it"
        yield Finding("note", "ledger", said, fix)
    else:
        yield Finding("ok", "ledger", said)
    for name in ("ledger forked", "voucher not redeemable"):
        bad = last_of(symptoms.told, name)
        if bad is not None:
            yield Finding("fail", name, str(bad.last.get("reason", "")), "see its log, and stop it until this is clear")


_METERED = ("wall", "nvml", "amd", "apple", "rapl")


def _meter(symptoms: Symptoms) -> Iterator[Finding]:
    """What a node measures energy with."""
    source = None if symptoms.ready is None else symptoms.ready.get("energy_source")
    if source in _METERED:
        yield Finding("ok", "meter", f"joules come from {source}")
    elif source is not None:
        fix = "install the extra energy, or name a meter at the socket: then what is asked is what it costs"
        yield Finding("note", "meter", f"joules are not measured: {source}", fix)


def _rivals(symptoms: Symptoms, own: Offer) -> list[Offer]:
    """Others who serve some of the same blocks, on the same ledger."""
    return [
        each
        for each in symptoms.book or ()
        if (each.model, each.venue) == (own.model, own.venue)
        and each.public_key != own.public_key
        and each.span.start < own.span.end
        and own.span.start < each.span.end
    ]


def _by_block(offer: Offer) -> int:
    return ceil_div(offer.rates.price_out, len(offer.span))


def _is_cheaper(other: int, own: int) -> bool:
    """By more than clients would notice."""
    return other * 100 < own * 99


def _price(symptoms: Symptoms) -> Iterator[Finding]:
    own = symptoms.own
    if own is None:
        return
    rivals = _rivals(symptoms, own)
    if not rivals:
        yield Finding("ok", "price", "nobody else serves these blocks")
        return
    mine, theirs = _by_block(own), sorted(map(_by_block, rivals))
    cheaper = sum(_is_cheaper(each, mine) for each in theirs)
    said = f"${mine / 1e6:g} per million tokens and block; {cheaper} of {len(theirs)} others here ask less"
    if not cheaper:
        yield Finding("ok", "price", said)
        return
    fix = f"lower margin or capital_price: the cheapest asks ${theirs[0] / 1e6:g}"
    yield Finding("note", "price", f"{said}, ${theirs[0] / 1e6:g} the cheapest", fix)


def _work(symptoms: Symptoms) -> Iterator[Finding]:
    """How many orders came today, and why those that did not come or were not taken were not."""
    begun = _count(symptoms, "job begun")
    refused = [each for each in symptoms.told if each.event in ("order refused", "order not answered")]
    seen = begun + sum(each.count for each in refused)
    served, failed = _count(symptoms, "job served"), _count(symptoms, "job failed")
    said = f"{seen} orders came today: {begun} taken, {seen - begun} refused; {served} jobs served, {failed} failed"
    yield Finding("ok" if begun else "note", "work", said)
    held = held_back(symptoms.told)
    if held is not None:
        none = held.last.get("how") != "shed"
        fix = "wait; or raise price_ceiling or power_cap, or end the signal that asks for it"
        told = f"{'no work is' if none else 'no batch work is'} taken: {held.last.get('reason', '')}"
        yield Finding("fail" if none else "note", "held back", told, fix)
    for each in sorted(refused, key=lambda one: -one.count):
        reason = str(each.last.get("reason", ""))
        fix = _FIXES.get(each.code, "see its log")
        yield Finding("note", "refused", f"{each.count} x {each.code}: {reason}", fix)
    for each in symptoms.told:
        if each.event == "job failed":
            yield Finding("note", "failed", f"{each.count} x {each.code}: {each.last.get('reason', '')}", "see its log")
    if not seen:
        yield from _why_no_orders(symptoms)


def _why_no_orders(symptoms: Symptoms) -> Iterator[Finding]:
    """Reasons for which no client has ordered, the surest first."""
    own, found = symptoms.own, False
    if own is None:
        if held_back(symptoms.told) is None:
            yield Finding("fail", "no work", "nobody sees this node's offer", "see offer, clock and ports above")
        return
    alike = [each for each in symptoms.book or () if (each.model, each.venue) == (own.model, own.venue)]
    gaps = figures_of(alike or [own], {}).uncovered
    if gaps:
        found = True
        missing = f"{gaps[0]}:{gaps[-1] + 1}" if len(gaps) == gaps[-1] + 1 - gaps[0] else ", ".join(map(str, gaps[:16]))
        fix = "have another node serve them; with blocks = auto this one goes where it is missing"
        yield Finding("fail", "no work", f"nobody serves blocks {missing}: no answer can be made of this model", fix)
    if own.limits.sessions == 0:
        found = True
        yield Finding("fail", "no work", "its offer says that no place is free", "raise max_sessions; see busy jobs")
    if own.jurisdiction == "ZZ":
        found = True
        fix = "set jurisdiction: clients whose policy names places leave it out"
        yield Finding("note", "no work", "it does not say where it stands", fix)
    rivals = _rivals(symptoms, own)
    cheaper = [each for each in rivals if _is_cheaper(_by_block(each), _by_block(own))]
    if cheaper:
        found = True
        fix = "lower margin or capital_price, or serve blocks with fewer others (blocks = auto)"
        yield Finding("note", "no work", f"{len(cheaper)} others serve these blocks for less", fix)
    faster = [each for each in rivals if each.position_us * len(own.span) < own.position_us * len(each.span)]
    if faster and not cheaper:
        found = True
        fix = "clients that weigh time go there: serve fewer blocks, or use a faster machine"
        yield Finding("note", "no work", f"{len(faster)} others compute these blocks faster", fix)
    if not symptoms.bond:
        fix = "joule stake AMOUNT, if your clients ask for a stake"
        yield Finding("note", "no work", "nothing is at stake: clients who ask for a stake leave it out", fix)
    if not found:
        fix = "see what others ask: joule market; and why offers are left out: joule run --json"
        yield Finding("note", "no work", "nothing stands against it: no client has asked for this model", fix)
