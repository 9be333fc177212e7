"""The vouchers that a node here keeps: what they are worth, having them redeemed now, and handing them to a watchtower.

All of it goes on beside a node that runs: nothing is forgotten here, and nothing that the node keeps is changed. It
finds paid what was redeemed, and clears up itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from node.app.settlement.earnings import open_earnings
from node.app.settlement.venue import Venue, open_venue
from node.config import ClientConfig
from node.durable import replace_file
from node.events import Events, VoucherNotRedeemable, VoucherRedeemed
from node.pipeline.collecting import NOT_NOW, collect
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Clock, Settlement
from node.worker import ThreadWorker
from protocol.encoding.codec import encode
from protocol.errors import LocalError
from protocol.identity.ids import Address, checksum_address
from protocol.identity.signing import SigningKey
from protocol.settlement.redeeming import Redeemable, batches, worth_of

__all__ = [
    "HeldSession",
    "Settling",
    "export_vouchers",
    "held_sessions",
    "open_ledger",
    "settle_now",
    "vouchers_folder",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSession:
    """A session that a node here was ordered in, and has not done with."""

    session: bytes
    """Its id on the ledger, 32 bytes."""
    client: bytes
    """Address of who opened it."""
    leg: int
    """This node's place in the chain, from 0."""
    reserved: int
    """Micro-units that the ledger holds for this leg, the paid ones not counted."""
    promised: int
    """Micro-units that the voucher on disk promises to this leg in all."""
    settled: int
    """Micro-units of it that the ledger has paid out."""
    worth: int
    """Micro-units more that the voucher brings if it is redeemed now."""
    redeemed: bool
    """Whether it brings nothing more."""
    opened_at: int
    """When it was ordered here, Unix seconds."""
    expires_at: int
    """When the session expires, Unix seconds."""
    redeem_by: int
    """When the voucher is worth nothing any more, Unix seconds: the expiry and the ledger's grace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What was redeemed."""

    vouchers: int
    """How many were redeemed."""
    operations: int
    """The ledger's operations that it took."""
    amount: int
    """Micro-units that they brought this node."""
    fees: int
    """Micro-units that these cost."""
    held_back: int
    """Vouchers that bring something more, but too little for their fee, or more than a bond allows for now."""
    held_back_worth: int
    """Micro-units that those would bring."""


def vouchers_folder(data_dir: Path, node: Address) -> Path:
    """Where the node with this key keeps its vouchers; several nodes may share a data directory."""
    return data_dir / "vouchers" / checksum_address(node)


@asynccontextmanager
async def open_ledger(config: ClientConfig) -> AsyncIterator[Venue]:
    """The configured venue. Raises UnreachableError where it does not answer."""
    async with open_venue(config, ending=True) as ledger:
        await ledger.connect()
        yield ledger


async def held_sessions(settlement: Settlement, stored: dict[bytes, StoredVoucher]) -> list[HeldSession]:
    """What the venue says of a node's sessions, those first that expire first. Others that it does not know are left
    out: they were never opened, or are forgotten.
    """
    found, grace_s = [], (await settlement.rules()).grace_s
    for session, each in stored.items():
        if each.pay is None or each.leg is None:
            continue
        record = await settlement.session(session)
        if record is None:
            continue
        leg, amounts = each.leg, each.pay.voucher.amounts
        worth = worth_of(amounts, record.settled, record.ceilings)[leg]
        found.append(
            HeldSession(
                session=session,
                client=each.session.client,
                leg=leg,
                reserved=record.ceilings[leg] - record.settled[leg],
                promised=amounts[leg],
                settled=record.settled[leg],
                worth=worth,
                redeemed=worth == 0,
                opened_at=each.opened_at,
                expires_at=each.session.expiry,
                redeem_by=each.session.expiry + grace_s,
            )
        )
    return sorted(found, key=lambda held: (held.redeem_by, held.session))


async def read_vouchers(folder: Path) -> dict[bytes, StoredVoucher]:
    """The vouchers of a node; none where it never had any. Raises LocalError."""
    if not await asyncio.to_thread(folder.is_dir):
        return {}
    worker = ThreadWorker("vouchers")
    try:
        return await VoucherStore(folder, worker).all()
    finally:
        worker.close()


async def settle_now(
    settlement: Settlement,
    data_dir: Path,
    key: SigningKey,
    *,
    share_ppm: int,
    last: bool,
    clock: Clock,
    events: Events,
) -> Settling:
    """Redeem what the vouchers of this key's node are worth, several in one operation.

    Args:
        share_ppm: the fee may be so many millionths of what an operation brings.
        last: redeem all that brings more than it costs.
    """
    stored = await read_vouchers(vouchers_folder(data_dir, key.address))
    held = {each.session: each for each in await held_sessions(settlement, stored) if each.worth}
    vouchers = {session: pay for session in held if (pay := stored[session].pay) is not None}
    claims = [Redeemable(session=session, worth=each.worth, expiry=each.expires_at) for session, each in held.items()]
    fee, operations, fees = (await settlement.rules()).cost, 0, 0
    paid: dict[bytes, int] = {}
    if not claims:
        return Settling(vouchers=0, operations=0, amount=0, fees=0, held_back=0, held_back_worth=0)
    async with open_earnings(data_dir, key.address, events) as journal:
        for batch in batches(claims, fee=fee, share_ppm=share_ppm, now=clock(), last=last):
            found = await collect(settlement, batch, vouchers, key, fee)
            operations += len({each.entry for each in found.taken})
            for each in found.taken:
                session = each.claim.session
                after = settlement.shown(stored[session].session, each.evidence)
                promised = held[session].settled + each.claim.worth
                paid[session] = promised if after is None else after.settled[held[session].leg]
                fees += each.fee
                journal.paid(session, amount=paid[session], fee=each.fee, entry=each.entry)
                events(VoucherRedeemed(session=session, amount_micro=paid[session], entry=each.entry))
            for claim, error in found.refused:
                if error.code not in NOT_NOW:
                    events(VoucherNotRedeemable(session=claim.session, reason=error.message))
    brought = {session: amount - held[session].settled for session, amount in paid.items()}
    left = [rest for claim in claims if (rest := claim.worth - brought.get(claim.session, 0)) > 0]
    return Settling(
        vouchers=len(paid),
        operations=operations,
        amount=sum(brought.values()),
        fees=fees,
        held_back=len(left),
        held_back_worth=sum(left),
    )


def export_vouchers(stored: dict[bytes, StoredVoucher], sessions: list[HeldSession], folder: Path) -> int:
    """Write a copy of each voucher that brings something into a folder, for a watchtower; how many there are.

    Files of the same name are replaced, so that this can be repeated as vouchers grow. Raises LocalError.
    """
    worth = [each.session for each in sessions if each.worth]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for session in worth:
            replace_file(folder / f"{session.hex()}.voucher", encode(stored[session]))
    except OSError as error:
        raise LocalError(f"cannot write to {folder}: {error.strerror}", hint="choose another folder") from None
    return len(worth)
