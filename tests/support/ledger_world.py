"""Parties, sessions and a clock for tests of the ledger, and a ledger in between that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from node.ledger import LedgerSettings
from protocol.identity.eip712 import Domain, sign_typed, struct_hash
from protocol.identity.ids import MAX_TOKENS
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint, TypedCheckpoint
from protocol.market.offer import Provenance
from protocol.session.messages import (
    UNMEASURED,
    Discharge,
    Leg,
    Receipt,
    Session,
    SignedDischarge,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.settlement.operations import (
    Close,
    Deposit,
    Equivocation,
    Genesis,
    Notice,
    Open,
    Release,
    Settle,
    Slash,
    Stake,
    Unbond,
    Unstake,
    Withdraw,
)

OPERATOR = SigningKey(b"\x01" * 32)
CLIENT = SigningKey(b"\x02" * 32)
STRANGER = SigningKey(b"\x03" * 32)
PROVIDERS = tuple(SigningKey(bytes([16 + number]) * 32) for number in range(3))
NOW = 1_800_000_000
MILLION = 10**6
FEE = 1
"""Of `ledger_settings`, in micro-units."""


@dataclass(slots=True)
class HandClock:
    """A clock that a test moves."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


def ledger_settings(folder: Path, **changes: Any) -> LedgerSettings:
    """A ledger in `folder` on a free port, with an open-handed faucet and an hour of grace."""
    return LedgerSettings(**{"folder": folder, "port": 0, "grace_s": 3600, "faucet_limit": 10**15, **changes})


def make_session(client: SigningKey = CLIENT, *, salt: int = 0, cap: int = MILLION, expiry: int = NOW + 600) -> Session:
    """A route over all `PROVIDERS`, each with the same cap."""
    return Session(
        client=client.address,
        expiry=expiry,
        terms=b"\x11" * 32,
        salt=salt.to_bytes(32, "big"),
        legs=tuple(Leg(provider=key.address, cap=cap) for key in PROVIDERS),
    )


def voucher_of(domain: Domain, session: Session, *amounts: int, key: SigningKey = CLIENT) -> SignedVoucher:
    """A voucher for these amounts, signed by `key`."""
    voucher = Voucher(
        session=session_id(session),
        amounts=tuple(amounts),
        tokens_in=min(max(amounts), MAX_TOKENS),
        tokens_out=1,
        receipts=bytes(32),
    )
    return sign_voucher(domain, voucher, key)


def discharge_of(
    domain: Domain, session: Session, leg: int, amount: int, *, key: SigningKey | None = None
) -> SignedDischarge:
    """A leg's word that it claims `amount` and no more; signed by its provider unless `key` is given."""
    discharge = Discharge(session=session_id(session), leg=leg, amount=amount)
    return sign_discharge(domain, discharge, PROVIDERS[leg % len(PROVIDERS)] if key is None else key)


# Operations without actor and nonce, which whoever submits them fills in.


def open_session(session: Session, signature: bytes = b"") -> Open:
    """The operation that opens it."""
    return Open(actor=bytes(20), nonce=0, session=session, signature=signature)


def settle(domain: Domain, session: Session, *amounts: int, key: SigningKey = CLIENT) -> Settle:
    """The operation that redeems a voucher for these amounts, signed by `key`."""
    return settle_all(voucher_of(domain, session, *amounts, key=key))


def settle_all(*vouchers: SignedVoucher) -> Settle:
    """The operation that redeems them together."""
    return Settle(actor=bytes(20), nonce=0, vouchers=vouchers)


def release(domain: Domain, session: Session, amounts: Sequence[int]) -> Release:
    """The operation that returns what no leg claims: each has discharged all beyond its amount."""
    return release_all(*(discharge_of(domain, session, leg, amount) for leg, amount in enumerate(amounts)))


def release_all(*discharges: SignedDischarge) -> Release:
    """The operation that submits them together."""
    return Release(actor=bytes(20), nonce=0, discharges=discharges)


def close(session: Session) -> Close:
    """The operation that closes it after its grace."""
    return Close(actor=bytes(20), nonce=0, session=session_id(session))


def deposit(account: SigningKey, amount: int, reference: str = "bank transfer 17") -> Deposit:
    """The operator's operation that credits an account."""
    return Deposit(actor=bytes(20), nonce=0, account=account.address, amount=amount, reference=reference)


def genesis(verifier_key: str, **changes: Any) -> Genesis:
    """The first operation, under rules that are easy to reckon with."""
    rules = {"grace": 50, "faucet_limit": 0, "fee": 3, "unbonding": 500, "notice": 200, "bond_multiple": 0}
    return Genesis(actor=bytes(20), nonce=0, verifier_key=verifier_key, **{**rules, **changes})


def stake(amount: int) -> Stake:
    """The operation that puts money at stake."""
    return Stake(actor=bytes(20), nonce=0, amount=amount)


def unstake(amount: int) -> Unstake:
    """The operation that begins to take it back."""
    return Unstake(actor=bytes(20), nonce=0, amount=amount)


def unbond() -> Unbond:
    """The operation that ends that."""
    return Unbond(actor=bytes(20), nonce=0)


def receipt_of(
    domain: Domain, session: Session, leg: int = 0, *, key: SigningKey | None = None, **changes: Any
) -> SignedReceipt:
    """A leg's receipt for a window, signed by its provider unless `key` is given."""
    fields = {"window": 3, "tokens_in": 9, "tokens_out": 4, "rows": 13, "nonce": b"\x66" * 32, "tokens": bytes(32)}
    hashes = {"input": b"\x44" * 32, "output": b"\x55" * 32, "sketches": bytes(32)}
    energy = {"millijoules": UNMEASURED, "source": Provenance.UNKNOWN, "pue_milli": 1_000}
    times = {"p50_us": 0, "p95_us": 0, "late": 0}
    said = {**fields, **hashes, **energy, **times, **changes}
    receipt = Receipt(session=session_id(session), leg=leg, **said)
    signer = PROVIDERS[leg % len(PROVIDERS)] if key is None else key
    return SignedReceipt(receipt=receipt, signature=sign_typed(domain, receipt, signer))


def slash(*receipts: SignedReceipt) -> Slash:
    """The operation that shows two receipts, in order."""
    first, second = sorted(receipts, key=lambda each: struct_hash(each.receipt))
    return Slash(actor=bytes(20), nonce=0, first=first, second=second)


def checkpoint_of(domain: Domain, key: SigningKey, **changes: Any) -> SignedCheckpoint:
    """An operator's word for a checkpoint."""
    typed = TypedCheckpoint(**{"origin": b"\x77" * 32, "size": 5, "root": b"\x88" * 32, **changes})
    return SignedCheckpoint(checkpoint=typed, signature=sign_typed(domain, typed, key))


def equivocation(ledger: Domain, *checkpoints: SignedCheckpoint) -> Equivocation:
    """The operation that shows two checkpoints of a ledger's log, in order."""
    first, second = sorted(checkpoints, key=lambda each: struct_hash(each.checkpoint))
    return Equivocation(actor=bytes(20), nonce=0, ledger=ledger.verifying_contract, first=first, second=second)


def notice(effective: int, **changes: int) -> Notice:
    """The operation that announces other rules."""
    return Notice(
        actor=bytes(20), nonce=0, effective=effective, **{"faucet_limit": 0, "fee": 3, "bond_multiple": 0, **changes}
    )


def withdraw(amount: int, reference: str = "") -> Withdraw:
    """The operation that takes money out."""
    return Withdraw(actor=bytes(20), nonce=0, amount=amount, reference=reference)


Change = Callable[[bytes], bytes]


@asynccontextmanager
async def lying_ledger(real: str, lies: Mapping[str, Change], *, status: int = 200) -> AsyncIterator[str]:
    """The address of a server that passes everything on to the ledger at `real`, and changes some answers.

    `lies` maps the beginning of a path to what becomes of its answers; it may be filled later.
    """

    async def relay(request: web.Request) -> web.Response:
        async with session.request(request.method, real + request.path_qs, data=await request.read()) as answer:
            body, found = await answer.read(), answer.status
        for beginning, change in lies.items():
            if request.path.startswith(beginning):
                body, found = change(body), status
        return web.Response(body=body, status=found)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", relay)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
