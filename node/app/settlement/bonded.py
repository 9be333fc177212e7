"""What a ledger's operator has at stake, as a venue shows it: asked for before a session is opened on the ledger.

Its bond answers for two contradicting checkpoints, wherever it lies (docs/spec/settlement.md, L17).
"""

from __future__ import annotations

from dataclasses import replace

from node.app.settlement.venue import Venue, open_venue, require_log, shown_venue
from node.config import ClientConfig
from node.venue_address import is_venue
from protocol.errors import UnbondedError
from protocol.identity.ids import checksum_address
from protocol.units import format_micro

__all__ = ["require_operator_bond"]


async def require_operator_bond(config: ClientConfig, venue: Venue) -> None:
    """That the operator of the ledger has at stake what the client asks for, where it asks for that; what is on its way
    out does not count.

    Raises:
        UnbondedError: it has less.
        ConfigurationError: the ledger is a contract, which has no operator.
        UnreachableError, PeerError: where the stake is to lie nobody answers, or what is shown does not hold.
    """
    least = config.min_operator_bond_micro
    if not least:
        return
    ledger = require_log(venue, "min_operator_bond")
    operator = (await ledger.connect()).operator
    place = config.operator_bond_at
    if place is None:
        bond = (await ledger.account(operator)).bond
    else:
        witnesses = 0 if is_venue(place) else config.min_witnesses
        async with open_venue(replace(config, ledger=place, min_witnesses=witnesses)) as elsewhere:
            bond = (await elsewhere.account(operator)).bond
    if bond < least:
        shown = "the ledger itself" if place is None else shown_venue(place)
        raise UnbondedError(
            f"the ledger's operator {checksum_address(operator)} has {format_micro(bond)} at stake at {shown}, and you "
            f"ask for {format_micro(least)}",
            hint="use another ledger, or lower min_operator_bond; operator_bond_at says where the stake has to lie",
        )
