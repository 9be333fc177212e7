"""`joule policy`: what a client's settings mean."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_facts, print_json
from node.config import ClientConfig
from protocol.geography.blocs import BLOCS, BLOCS_NOW


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBloc:
    """A bloc that a policy names."""

    name: str
    """As settings write it."""
    table: str
    """The day whose law it states."""
    members: tuple[str, ...]
    """Countries."""
    source: str
    """What makes them members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObeyedList:
    """A signed list that is in force."""

    name: str
    """That its signer gave it."""
    issuer: bytes
    """Address of its signer."""
    entries: int
    """Lines in it."""
    expires_at: int
    """Unix seconds."""
    hash: bytes
    """What receipts name it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMeaning:
    """What a policy asks of every provider and every hop."""

    asks: tuple[str, ...]
    """In sentences."""
    blocs: tuple[NamedBloc, ...]
    """Those that it names."""
    lists: tuple[ObeyedList, ...]
    """Those that are in force."""
    trust: bytes | None
    """What receipts name the anchors and attestors by; null where nobody is believed."""


@click.group(epilog=examples("joule policy show --allow EU"))
def policy() -> None:
    """What your settings ask of providers."""


@policy.command(
    epilog=examples("joule policy show --allow EU --min-evidence rtt_consistent", "joule policy show --json")
)
@configured(ClientConfig)
@json_option
def show(config: ClientConfig, as_json: bool) -> None:
    """Print what your policy means: blocs with their members, lists with their signers, and what each setting asks."""
    from node.app.buying.law import law_of

    law = law_of(config, int(time.time()))
    named = [
        *config.allow,
        *config.deny,
        *(area for each in config.corridors for area in each.split(":")[0].split(">")),
    ]
    table = BLOCS[BLOCS_NOW]
    meaning = PolicyMeaning(
        asks=tuple(_asks(config)),
        blocs=tuple(
            NamedBloc(name=each, table=BLOCS_NOW, members=tuple(sorted(table[each].members)), source=table[each].source)
            for each in dict.fromkeys(named)
            if each in table
        ),
        lists=tuple(
            ObeyedList(
                name=each.denials.name,
                issuer=each.issuer,
                entries=len(each.denials.entries),
                expires_at=each.denials.expires_at,
                hash=each.hash,
            )
            for each in law.lists
        ),
        trust=law.trust_hash,
    )
    if as_json:
        print_json(meaning)
        return
    for sentence in meaning.asks:
        click.echo(f"- {sentence}")
    print_facts({f"{each.name} ({each.table})": f"{' '.join(each.members)}: {each.source}" for each in meaning.blocs})
    print_facts({f"list {each.name!r}": f"{each.entries} lines, in force" for each in meaning.lists})


def _asks(config: ClientConfig) -> list[str]:
    price = [
        f"{word} tokens cost at most ${money(cap)} per million on the whole route"
        for word, cap in (("prompt", config.max_price_in_micro), ("generated", config.max_price_out_micro))
        if cap is not None
    ]
    return [*_places(config), *_conduct(config), *price]


def _places(config: ClientConfig) -> list[str]:
    found = [f"machines stand in {' or '.join(config.allow)}" if config.allow else "machines may stand anywhere"]
    if config.deny:
        found.append(f"none stands in {' or '.join(config.deny)}, nor where that cannot be excluded")
    if config.origin is None:
        found.append("data may go to wherever machines may stand")
    else:
        ways = ", ".join(config.corridors) or "none"
        found.append(f"data come from {config.origin} and leave it by corridors for {config.purpose} only: {ways}")
    if config.trusted_ends:
        count = "block" if config.end_blocks == 1 else f"{config.end_blocks} blocks"
        found.append(f"only {' or '.join(config.trusted_ends)} serves the first {count} and the last {count}")
    found.append(f"a place is backed by {config.min_evidence} at least")
    if config.min_evidence != "claimed":
        found.append(
            f"{len(config.anchors)} anchors are believed, of whom {config.lying_anchors} may lie, and "
            f"{len(config.attestors)} attestors; own round trips count "
            + (f"from {config.stands_at}" if config.stands_at else "for nothing, since stands_at is not set")
        )
    return found


def _conduct(config: ClientConfig) -> list[str]:
    found = []
    if config.max_retention_s is not None:
        found.append(f"what is sent is kept for {config.max_retention_s} s at most")
    if config.training == "forbidden":
        found.append("no model is trained on it")
    if config.deny_hardware:
        found.append(f"hardware is not of the category {' or '.join(config.deny_hardware)}, and says its category")
    if config.max_carbon_g_per_kwh is not None:
        found.append(f"power emits at most {config.max_carbon_g_per_kwh} g of CO2 per kWh, and its source is said")
    if config.licenses:
        found.append(f"the model is under {' or '.join(config.licenses)}")
    if config.min_stake_micro:
        found.append(f"each provider has ${money(config.min_stake_micro)} at stake")
    return found
