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
    ledger_settings,
    make_terms,
    open_session,
    settle,
)

from node.ledger import LedgerClient, run_ledger, verify_database, verify_url
from protocol.codec import Message
from protocol.errors import JoulemeshError
from protocol.messages import Close, Deposit, Session, Withdraw, session_id
from protocol.session import Account
from protocol.signing import SigningKey

CLIENTS = [SigningKey(bytes([64 + number]) * 32) for number in range(4)]
EVERYBODY = [*CLIENTS, *PROVIDERS]
OPERATIONS = 500


class RandomEconomy:
    """Makes operations of which roughly half are allowed, and counts the money that goes in and out."""

    def __init__(self, client: LedgerClient, clock: HandClock, seed: int) -> None:
        self.client, self.clock = client, clock
        self.draw = random.Random(seed)
        self.sessions: list[tuple[Session, SigningKey]] = []
        self.settled: dict[bytes, tuple[int, int]] = {}
        self.results: Counter[str] = Counter()
        self.deposited = self.withdrawn = 0

    async def step(self) -> None:
        self.clock.now += self.draw.choice((0, 0, 1, 30, 400))
        kinds = (self.deposit, self.withdraw, self.open, self.settle, self.settle, self.settle, self.close)
        action, key = self.draw.choice(kinds)()
        try:
            await self.client.submit(action, key)
        except JoulemeshError as error:
            self.results[f"{action.kind} {error.code}"] += 1
            return
        self.results[f"{action.kind} taken"] += 1
        self.count(action)

    def count(self, action: Message) -> None:
        if isinstance(action, Deposit):
            self.deposited += action.amount
        if isinstance(action, Withdraw):
            self.withdrawn += action.amount

    def deposit(self) -> tuple[Message, SigningKey]:
        amount = self.draw.choice((0, 1, 3 * MILLION, 9 * MILLION))
        signer = OPERATOR if self.draw.random() < 0.8 else CLIENTS[0]
        return Deposit(account=self.draw.choice(CLIENTS).address, amount=amount, reference="random"), signer

    def withdraw(self) -> tuple[Message, SigningKey]:
        return Withdraw(amount=self.draw.randrange(2 * MILLION), reference="random"), self.draw.choice(EVERYBODY)

    def open(self) -> tuple[Message, SigningKey]:
        if self.sessions and self.draw.random() < 0.2:
            terms, key = self.draw.choice(self.sessions)
            return open_session(terms), key
        key = self.draw.choice(CLIENTS)
        lifetime = self.draw.choice((-1, 60, 600, 3000))
        cap = self.draw.choice((1000, MILLION, 10 * MILLION))
        terms = make_terms(key, salt=len(self.sessions), cap=cap, expiry=self.clock.now + lifetime)
        self.sessions.append((terms, key))
        return open_session(terms), key

    def settle(self) -> tuple[Message, SigningKey]:
        terms, key = self.draw.choice(self.sessions) if self.sessions else (make_terms(CLIENTS[0]), CLIENTS[0])
        before_in, before_out = self.settled.get(session_id(terms), (0, 0))
        # Mostly a little more than before; sometimes less, sometimes beyond the cap, sometimes forged.
        counts = (max(0, before_in + self.draw.randrange(-20, 200)), max(0, before_out + self.draw.randrange(-20, 200)))
        if self.draw.random() < 0.1:
            counts = (counts[0] + 20 * MILLION, counts[1])
        else:
            self.settled[session_id(terms)] = counts
        signer = key if self.draw.random() < 0.9 else PROVIDERS[0]
        return settle(self.client.domain, terms, *counts, signer), self.draw.choice(EVERYBODY)

    def close(self) -> tuple[Message, SigningKey]:
        terms, _ = self.draw.choice(self.sessions) if self.sessions else (make_terms(CLIENTS[0]), CLIENTS[0])
        counts = self.settled.get(session_id(terms), (0, 0))
        if self.draw.random() < 0.5:
            return close(self.client.domain, terms, *counts), self.draw.choice(EVERYBODY)
        return Close(session=session_id(terms), discharges=()), self.draw.choice(EVERYBODY)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [1, 2])
async def test_money_in_is_money_out(tmp_path: Path, seed: int) -> None:
    clock = HandClock()
    settings = ledger_settings(tmp_path / "ledger", faucet_limit=0)
    async with run_ledger(settings, OPERATOR, clock) as ledger, LedgerClient(ledger.url) as client:
        await client.connect()
        economy = RandomEconomy(client, clock, seed)
        for _ in range(OPERATIONS):
            await economy.step()
        balances = {key.address: (await client.account(key.address)).free for key in EVERYBODY}
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
    assert taken == {f"{kind}/1 taken" for kind in ("deposit", "withdraw", "open", "settle", "close")}
    refusals = {kind.split()[1] for kind in economy.results} - {"taken"}
    assert refusals >= {"balance", "stale", "cap", "bad-signature", "closed", "early", "discharge", "not-operator"}
    assert any(record.closed for record in stored.books.sessions.values())
    assert any(record.reserved for record in stored.books.sessions.values())
