"""What a node's settings come to on this machine, looked at before it is started for the first time."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

from node.app.diagnosis.finding import Finding
from node.app.diagnosis.symptoms import clock_off
from node.app.network.fetching import named_model
from node.app.selling.measure import meter_of
from node.app.selling.power import power_of
from node.app.settlement.venue import open_venue, shown_venue
from node.config import NodeConfig
from node.energy import probe_meter
from node.engine.device import compute_device
from node.events import unheard
from node.model_directory import model_facts
from node.settings.kinds import AUTO
from node.venue_address import is_venue
from protocol.errors import JoulemeshError
from protocol.geography.jurisdictions import UNDECLARED
from protocol.market.offer import CLOCK_SKEW_S

__all__ = ["findings_of"]

LEDGER_S = 10.0
_LISTEN = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/([0-9]{1,5})")


async def findings_of(config: NodeConfig) -> list[Finding]:
    """Model, ports, place, ledger, clock, meter and price, in this order. Nothing of it is started."""
    return [
        _model(config),
        *_ports(config),
        _place(config),
        *await _ledger(config),
        await asyncio.to_thread(_meter, config),
        await _price(config),
    ]


def _model(config: NodeConfig) -> Finding:
    try:
        named = named_model(config)
        if named is not None:
            return Finding("ok", "model", f"{config.model}: what its blocks need is fetched when the node starts")
        facts = model_facts(config.model)
    except JoulemeshError as error:
        return _failed("model", error)
    if config.blocks == AUTO:
        served = "those that the market lacks most"
    else:
        start, end = (0, facts.blocks) if config.blocks is None or isinstance(config.blocks, str) else config.blocks
        if end > facts.blocks:
            return Finding(
                "fail", "model", f"{facts.name} has {facts.blocks} blocks", f"choose within 0:{facts.blocks}"
            )
        served = f"{start}:{end} of {facts.blocks} blocks"
    return Finding("ok", "model", f"{facts.name}, {served}, in {config.precision} on the {compute_device()}")


def _ports(config: NodeConfig) -> Iterator[Finding]:
    """Whether both doors can be opened, and whether others could find them."""
    listen = _LISTEN.fullmatch(config.listen)
    if listen is None:
        yield Finding(
            "fail", "peers' port", f"{config.listen} is no address to listen at", "such as /ip4/0.0.0.0/tcp/4001"
        )
        return
    host, port = listen[1], int(listen[2])
    for what, at, number in (("peers' port", host, port), ("data port", config.data_host, config.data_port)):
        wrong = _bound(at, number)
        if wrong:
            yield Finding("fail", what, f"{at} port {number}: {wrong}", "stop what uses it, or choose another port")
        else:
            fixed = f"port {number}" if number else "any free port"
            yield Finding("ok", what, f"{fixed} of {at} can be opened")
    if not config.announce or config.data_announce is None:
        fix = "give --public HOST: the address that others reach this machine at"
        yield Finding("note", "reach", "only this machine would find the node", fix)
    else:
        fix = f"let TCP ports {port} and {config.data_port} through the firewall and the router"
        yield Finding("note", "reach", f"others dial {config.data_announce}; it cannot be tried from here", fix)


def _bound(host: str, port: int) -> str:
    """Why a port cannot be listened at; empty where it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], found[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
            probe.listen()  # two may bind with that option, and one listen
    except OSError as error:
        return "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""


def _place(config: NodeConfig) -> Finding:
    if config.jurisdiction == UNDECLARED:
        fix = "give --jurisdiction CODE: clients whose policy names countries pass by"
        return Finding("note", "place", "not declared", fix)
    return Finding("ok", "place", config.region or config.jurisdiction)


async def _ledger(config: NodeConfig) -> list[Finding]:
    at = shown_venue(config.ledger)
    try:
        async with open_venue(config) as venue, asyncio.timeout(LEDGER_S):
            await venue.rules()
    except TimeoutError:
        return [Finding("fail", "ledger", f"no answer from {at} within {LEDGER_S:g} s", "check the address")]
    except JoulemeshError as error:
        return [_failed("ledger", error)]
    off = None if is_venue(config.ledger) else await clock_off(config.ledger.split(",")[0])
    found = [Finding("ok", "ledger", f"{at} answers")]
    if off is None:
        found.append(Finding("note", "clock", "not compared: the ledger does not say what time it has"))
    elif abs(off) > CLOCK_SKEW_S:
        found.append(
            Finding("fail", "clock", f"{off:+.0f} s of the ledger's", "set the clock: install chrony, or ntpd")
        )
    else:
        found.append(Finding("ok", "clock", f"within {abs(off) + 1:.0f} s of the ledger's"))
    return found


def _meter(config: NodeConfig) -> Finding:
    try:
        read = probe_meter(meter_of(config), gpu=compute_device().is_gpu)
    except JoulemeshError as error:
        return _failed("meter", error)
    if read is None:
        return Finding("fail", "meter", "nothing here says what a token costs", "give --joules-per-token, or a meter")
    if read.is_model:
        fix = "a plug that measures is better: --meter shelly --meter-url URL"
        return Finding("note", "meter", read.text, fix)
    return Finding("ok", "meter", read.text)


async def _price(config: NodeConfig) -> Finding:
    try:
        followed = power_of(config, unheard).supply
        await followed.begin()
    except JoulemeshError as error:
        return _failed("price", error)
    price = f"${followed.supply.micro_per_kwh / 1e6:g} per kWh now, by {_source(config, followed.source)}"
    with suppress(StopIteration):
        name, why = next(iter(followed.failing.items()))
        return Finding("fail", "price", f"{price}; the feed of {name} cannot be read: {why}", "see `joule tariff show`")
    return Finding("ok", "price", price)


def _source(config: NodeConfig, source: str) -> str:
    return "the settings" if config.tariff is None else f"the tariff's {source}"


def _failed(what: str, error: JoulemeshError) -> Finding:
    return Finding("fail", what, error.message, error.hint)
