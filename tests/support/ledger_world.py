"""Parties, terms and a clock for tests of the ledger, and a ledger in between that lies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from node.ledger import LedgerSettings
from protocol.eip712 import Domain, sign_typed
from protocol.messages import Close, Discharge, Leg, Open, Session, Settle, Voucher, session_id
from protocol.signing import SigningKey

OPERATOR = SigningKey(b"\x01" * 32)
CLIENT = SigningKey(b"\x02" * 32)
STRANGER = SigningKey(b"\x03" * 32)
PROVIDERS = tuple(SigningKey(bytes([16 + number]) * 32) for number in range(3))
NOW = 1_800_000_000
MILLION = 10**6


@dataclass(slots=True)
class HandClock:
    """A clock that a test moves."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


def ledger_settings(folder: Path, **changes: Any) -> LedgerSettings:
    """A ledger in `folder` on a free port, with an open-handed faucet and an hour of grace."""
    return LedgerSettings(**{"folder": folder, "port": 0, "grace_s": 3600, "faucet_limit": 10**15, **changes})


def make_terms(client: SigningKey = CLIENT, *, salt: int = 0, cap: int = MILLION, expiry: int = NOW + 600) -> Session:
    """A route over all `PROVIDERS`: one micro-unit a prompt token and two a generated one, each."""
    return Session(
        client=client.address,
        expiry=expiry,
        window=8,
        model=b"\x11" * 32,
        policy=b"\x22" * 32,
        salt=salt.to_bytes(32, "big"),
        legs=tuple(Leg(provider=key.address, price_in=MILLION, price_out=2 * MILLION, cap=cap) for key in PROVIDERS),
    )


def open_session(terms: Session) -> Open:
    """The operation that opens it."""
    return Open(session=terms)


def settle(domain: Domain, terms: Session, tokens_in: int, tokens_out: int, key: SigningKey = CLIENT) -> Settle:
    """The operation that redeems a voucher for these counts, signed by `key`."""
    voucher = Voucher(session=session_id(terms), tokens_in=tokens_in, tokens_out=tokens_out, receipts=bytes(32))
    return Settle(voucher=voucher, signature=sign_typed(domain, voucher, key))


def close(domain: Domain, terms: Session, tokens_in: int, tokens_out: int) -> Close:
    """The operation that closes a session early, with every provider's discharge for these counts."""
    discharge = Discharge(session=session_id(terms), tokens_in=tokens_in, tokens_out=tokens_out)
    return Close(session=session_id(terms), discharges=tuple(sign_typed(domain, discharge, key) for key in PROVIDERS))


Change = Callable[[bytes], bytes]


@asynccontextmanager
async def lying_ledger(real: str, lies: Mapping[str, Change]) -> AsyncIterator[str]:
    """The address of a server that passes everything on to the ledger at `real`, and changes some answers.

    `lies` maps the beginning of a path to what becomes of its answers; it may be filled later.
    """

    async def relay(request: web.Request) -> web.Response:
        async with session.request(request.method, real + request.path_qs, data=await request.read()) as answer:
            body, status = await answer.read(), answer.status
        for beginning, change in lies.items():
            if request.path.startswith(beginning):
                body, status = change(body), 200
        return web.Response(body=body, status=status)

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
