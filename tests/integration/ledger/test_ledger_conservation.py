"""Hundreds of random operations, many of them not allowed, through the real ledger: no micro-unit is made or lost."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from ledger_world import (
    MILLION,
    OPERATOR,
    PROVIDERS,
    HandClock,
    close,
    deposit,
    ledger_settings,
    make_session,
    open_session,
    release,
    settle,
    settle_all,
    voucher_of,
    withdraw,
)

from node.ledger import LedgerClient, Rate, Rates, run_ledger, verify_database, verify_url
from protocol.errors import JoulemeshError
from protocol.identity.eip712 import sign_typed
from protocol.identity.signing import SigningKey
from protocol.session.messages import Session, session_id
from protocol.settlement import Account
from protocol.settlement.operations import Action, Deposit, Withdraw

CLIENTS = [SigningKey(bytes([64 + number]) * 32) for number in range(4)]
EVERYBODY = [*CLIENTS, *PROVIDERS]
OPERATIONS = 500
UNPACED = Rates(proven=Rate(10**6, 10**6))
"""One connection does here what many do elsewhere."""


class RandomEconomy:
    """Makes operations of which roughly half are allowed, and counts the money that goes in and out."""

    def __init__(self, client: LedgerClient, clock: HandClock, seed: int) -> None:
        self.client, self.clock = client, clock
        self.draw = random.Random(seed)
        self.sessions: list[tuple[Session, SigningKey]] = []
        self.settled: dict[bytes, tuple[int, ...]] = {}
        self.results: Counter[str] = Counter()
        self.deposited = self.withdrawn = 0

    async def step(self) -> None:
        self.clock.now += self.draw.choice((0, 0, 1, 30, 400))
        kinds = (self.deposit, self.withdraw, self.open, self.open, self.settle, self.settle, self.settle, self.release,
                 self.close)  # fmt: skip
        action, key = self.draw.choice(kinds)()
        try:
            await self.client.submit(action, key)
        except JoulemeshError as error:
            self.results[f"{action.kind} {error.code}"] += 1
            return
        self.results[f"{action.kind} taken"] += 1
        self.count(action)

    def count(self, action: Action) -> None:
        if isinstance(action, Deposit):
            self.deposited += action.amount
        if isinstance(action, Withdraw):
            self.withdrawn += action.amount

    def deposit(self) -> tuple[Action, SigningKey]:
        amount = self.draw.choice((0, 1, 3 * MILLION, 9 * MILLION))
        signer = OPERATOR if self.draw.random() < 0.8 else CLIENTS[0]
        return deposit(self.draw.choice(CLIENTS), amount), signer

    def withdraw(self) -> tuple[Action, SigningKey]:
        return withdraw(self.draw.randrange(2 * MILLION)), self.draw.choice(EVERYBODY)

    def open(self) -> tuple[Action, SigningKey]:
        if self.sessions and self.draw.random() < 0.2:
            session, key = self.draw.choice(self.sessions)
            return open_session(session), key
        key = self.draw.choice(CLIENTS)
        lifetime = self.draw.choice((-1, 60, 600, 3000))
        cap = self.draw.choice((1000, MILLION, 10 * MILLION))
        session = make_session(key, salt=len(self.sessions), cap=cap, expiry=self.clock.now + lifetime)
        self.sessions.append((session, key))
        if self.draw.random() < 0.3:  # through somebody else, with the client's signature or another's
            signer = key if self.draw.random() < 0.7 else PROVIDERS[0]
            return open_session(session, sign_typed(self.client.domain, session, signer)), self.draw.choice(PROVIDERS)
        return open_session(session), key

    def a_session(self) -> tuple[Session, SigningKey]:
        return self.draw.choice(self.sessions) if self.sessions else (make_session(CLIENTS[0]), CLIENTS[0])

    def settle(self) -> tuple[Action, SigningKey]:
        session, key = self.a_session()
        before = self.settled.get(session_id(session), (0, 0, 0))
        # Mostly a little more than before for some; sometimes less for all, sometimes beyond the cap, sometimes forged.
        amounts = tuple(max(0, amount + self.draw.randrange(-60, 200)) for amount in before)
        if self.draw.random() < 0.1:
            amounts = (amounts[0] + 20 * MILLION, *amounts[1:])
        elif self.draw.random() < 0.2:
            amounts = before
        else:
            self.settled[session_id(session)] = tuple(map(max, zip(amounts, before, strict=True)))
        signer = key if self.draw.random() < 0.9 else PROVIDERS[0]
        action = settle(self.client.domain, session, *amounts, key=signer)
        if self.draw.random() < 0.2:  # together with another session's: both are taken, or neither
            other, other_key = self.a_session()
            more = voucher_of(self.client.domain, other, 900, 900, 900, key=other_key)
            action = settle_all(*action.vouchers, more)
        return action, self.draw.choice(EVERYBODY)

    def release(self) -> tuple[Action, SigningKey]:
        session, _ = self.a_session()
        settled = self.settled.get(session_id(session), (0, 0, 0))
        amounts = [amount + self.draw.choice((0, 0, 5, 10 * MILLION)) for amount in settled]
        return release(self.client.domain, session, amounts), self.draw.choice(EVERYBODY)

    def close(self) -> tuple[Action, SigningKey]:
        return close(self.a_session()[0]), self.draw.choice(EVERYBODY)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_money_in_is_money_out(tmp_path: Path, seed: int) -> None:
    clock = HandClock()
    settings = ledger_settings(tmp_path / "ledger", faucet_limit=0, rates=UNPACED)
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.connect()
        economy = RandomEconomy(client, clock, seed)
        for _ in range(OPERATIONS):
            await economy.step()
        balances = {key.address: (await client.account(key.address)).free for key in (OPERATOR, *EVERYBODY)}
        over_http = await verify_url(ledger.url)
    stored = await verify_database(settings.folder / "ledger.sqlite3")

    # To the unit: what went in is what went out, is free, or is held.
    assert stored.fault is None
    assert over_http.fault is None
    assert (stored.deposited, stored.withdrawn) == (economy.deposited, economy.withdrawn)
    assert economy.deposited - economy.withdrawn == stored.held == stored.books.total()
    held = sum(record.reserved for record in stored.books.sessions.values())
    assert sum(balances.values()) + held == stored.held
    assert stored.books == over_http.books
    for address, free in balances.items():
        assert stored.books.accounts.get(address, Account()).free == free
    # And the run has seen what it is meant to see.
    taken = {kind for kind, count in economy.results.items() if kind.endswith(" taken") and count}
    assert taken == {f"{kind}/2 taken" for kind in ("deposit", "withdraw", "open", "settle", "release", "close")}
    refusals = {kind.split()[1] for kind in economy.results} - {"taken"}
    assert refusals >= {"balance", "settled", "cap", "bad-signature", "early", "released", "not-operator"}
    free_of_charge = economy.results["deposit/2 taken"]
    assert stored.fees == balances[OPERATOR.address] == sum(
        count for kind, count in economy.results.items() if kind.endswith(" taken")
    ) - free_of_charge  # fmt: skip
    assert len(stored.opened) > len(stored.books.sessions), "none was over, and forgotten"
    assert any(record.reserved for record in stored.books.sessions.values())
