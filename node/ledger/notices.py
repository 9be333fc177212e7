"""Where the rules in force stand in the log: in the genesis entry or a notice, and a notice of what is to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.settlement import Rules, announced, rules_of
from protocol.settlement.operations import Action, Genesis, Notice

__all__ = ["Noted", "places_of", "rules_in"]


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry that announces other rules."""

    index: int
    time: int
    """Of the entry, Unix seconds."""
    effective: int
    """Unix seconds from which they hold."""


def places_of(notices: Sequence[Noted], now: int) -> tuple[int, int | None]:
    """The entry that the rules in force at `now` stand in, and the one of those that are to come.

    Args:
        notices: all, in order.
    """
    in_force, coming = 0, None
    for each in notices:
        if coming is not None and coming.effective <= each.time:
            in_force = coming.index
        coming = each
    if coming is not None and coming.effective <= now:
        return coming.index, None
    return in_force, None if coming is None else coming.index


def rules_in(genesis: Genesis, in_force: Action, coming: Action | None) -> Rules | None:
    """The rules that these entries make; None where one is no notice by the ledger's operator."""
    rules = rules_of(genesis)
    if in_force != genesis:
        if not isinstance(in_force, Notice) or in_force.actor != genesis.actor:
            return None
        rules = announced(rules, in_force).at(in_force.effective)
    if coming is None:
        return rules
    if not isinstance(coming, Notice) or coming.actor != genesis.actor:
        return None
    return announced(rules, coming)
