"""The Python rules and the contract side by side: each operation goes to both, then all that they hold is compared.

Both take the same bytes where something is signed inside an operation (sessions, vouchers, discharges, receipts,
checkpoints), for the Python machine is given the contract's domain. What has no twin is left out: the fee is nothing,
and the operator of the Python ledger deposits where an account of the contract deposits its own tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from anvil_chain import Chain, Deployed, deploy, running_chain, token_code
from contract_calls import marks_of

from node.settlement.contract import ERRORS, settlement_contract
from protocol.chain.abi import Abi
from protocol.chain.contract import Contract
from protocol.errors import PeerError, RuleError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import Address, SessionId, keccak256
from protocol.identity.signing import SigningKey
from protocol.session.messages import Session, session_id
from protocol.settlement import MAX_MONEY, Books, Rules, apply
from protocol.settlement.operations import Action, sign_op

OPERATOR, *PARTIES = (SigningKey(bytes([number]) * 32) for number in range(1, 6))
KEYS = {key.address: key for key in (OPERATOR, *PARTIES)}
GRACE_S, UNBONDING_S = 50, 80
MINTED = 2**200
UNORDERED = {"cap", "overflow", "expired"}
"""Where several of these apply, the contract may name another than the rules do."""
CLOSED = b"\1".rjust(32, b"\0")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation in the words of both twins."""

    name: str
    actor: SigningKey
    action: Callable[[Address, int], Action]
    """From the actor and the nonce. The operator acts in the place of whoever deposits."""
    call: str
    """The contract's function."""
    values: Callable[[Books], Sequence[Any]]
    """What it is given, which may depend on the state before."""
    by_operator: bool = False


@dataclass(frozen=True, slots=True)
class Venue:
    """A contract over a token of so many decimals."""

    settlement: Deployed
    token: Deployed
    scale: int
    domain: Domain


@dataclass(slots=True)
class World:
    """A chain with venues on it, which goes back to its beginning for each example."""

    chain: Chain
    venues: list[Venue]
    snapshot: str
    begin: int

    def reset(self) -> None:
        self.chain.ask("evm_revert", self.snapshot)
        self.snapshot = self.chain.ask("evm_snapshot")


@contextmanager
def twin_world(code: tuple[Abi, bytes] | None = None) -> Iterator[World]:
    """A world with the contract as it is shipped, or with another."""
    built = settlement_contract()
    abi, bytecode = code or (built.abi, built.bytecode)
    with running_chain() as chain:
        venues = []
        for decimals in (6, 18):
            token = deploy(chain, *token_code("PlainToken"), decimals)
            settlement = deploy(chain, abi, bytecode, token.address, GRACE_S, UNBONDING_S)
            for address in KEYS:
                token.send(address, "mint", address, MINTED)
                token.send(address, "approve", settlement.address, 2**256 - 1)
            domain = Contract(chain.chain_id, Address(settlement.address)).domain
            venues.append(Venue(settlement, token, 10 ** (decimals - 6), domain))
        yield World(chain, venues, chain.ask("evm_snapshot"), chain.now)


@dataclass(slots=True)
class Twins:
    """Both machines in one state."""

    world: World
    venue: Venue
    now: int
    counts: Counter[str]
    books: Books = field(default_factory=Books)
    nonces: Counter[Address] = field(default_factory=Counter)
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    """All that were tried to be opened."""
    net: Counter[bytes] = field(default_factory=Counter)
    """Micro-units that each has put in, less those taken out."""

    def __post_init__(self) -> None:
        self.books.rules = Rules(
            operator=OPERATOR.address,
            verifier_key="",
            grace_s=GRACE_S,
            unbonding_s=UNBONDING_S,
            notice_s=0,
            faucet_limit=0,
            fee=0,
            bond_multiple=0,
        )

    def block(self, steps: Sequence[Step], at: int) -> list[str]:
        """Have all of them done in one block; the codes with which they were refused, empty for those taken."""
        self.now = at
        chain, settlement = self.world.chain, self.venue.settlement
        expected, data = [], []
        for step in steps:
            data.append(settlement.abi.call(step.call, *step.values(self.books)))
            expected.append(self._by_the_rules(step))
        taken = self._on_chain([(step.actor.address, each) for step, each in zip(steps, data, strict=True)])
        for step, code, found in zip(steps, expected, taken, strict=True):
            self.counts[f"{step.name} {code or 'taken'}"] += 1
            agreed = found == code or {found, code} <= UNORDERED
            assert agreed, f"{step.name} at {at}: the rules say {code or 'yes'}, the contract {found or 'yes'}"
        self.compare()
        assert chain.now == at
        return taken

    def refused_by_contract(self, step: Step, at: int, code: str) -> None:
        """Have something done that only the contract can refuse."""
        self.now = at
        data = self.venue.settlement.abi.call(step.call, *step.values(self.books))
        assert self._on_chain([(step.actor.address, data)]) == [code]
        self.counts[f"{step.name} {code}"] += 1
        self.compare()

    def _by_the_rules(self, step: Step) -> str:
        key = OPERATOR if step.by_operator else step.actor
        self.nonces[key.address] += 1
        action = step.action(key.address, self.nonces[key.address])
        before = self.books.total() + self.books.burned
        try:
            outcome = apply(self.books, self.venue.domain, sign_op(self.venue.domain, key, action), self.now)
        except (RuleError, PeerError) as error:
            return error.code
        self.books.record(outcome)
        self.net[step.actor.address] += self.books.total() + self.books.burned - before
        return ""

    def _on_chain(self, transactions: Sequence[tuple[bytes, bytes]]) -> list[str]:
        chain, address = self.world.chain, self.venue.settlement.address
        chain.at(self.now)
        if len(transactions) == 1:
            hashes = [chain.submit(*_to(address, each)) for each in transactions]
        else:
            chain.ask("evm_setAutomine", False)
            hashes = [chain.submit(*_to(address, each)) for each in transactions]
            chain.ask("evm_mine")
            chain.ask("evm_setAutomine", True)
        receipts = [chain.receipt(each) for each in hashes]
        assert [int(each["transactionIndex"], 16) for each in receipts] == list(range(len(receipts)))
        return [
            "" if receipt["status"] == "0x1" else self._reason(each)
            for receipt, each in zip(receipts, hashes, strict=True)
        ]

    def _reason(self, transaction: str) -> str:
        trace = self.world.chain.ask("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        data = bytes.fromhex(trace.get("output", "0x").removeprefix("0x"))
        return ERRORS.get(self.venue.settlement.abi.error(data), f"a revert without a name: {data.hex()}")

    def compare(self) -> None:
        """All accounts, sessions, burned money, tokens, and that no money is made or lost."""
        settlement, token = self.venue.settlement, self.venue.token
        questions = [(settlement, "accounts", address) for address in KEYS]
        questions += [(settlement, "sessions", identity) for identity in self.sessions]
        questions += [(token, "balanceOf", address) for address in (*KEYS, settlement.address)]
        answers = iter(_ask_all(self.world.chain, [*questions, (settlement, "burned")]))
        for address in KEYS:
            account = self.books.account(address)
            expected = (account.free, account.bond, account.unbonding, account.unlock_at)
            assert next(answers) == expected, f"account {address.hex()}"
            assert max(expected) <= MAX_MONEY
        for identity in self.sessions:
            slot = next(answers)[0]
            assert slot in self._slots(identity), f"session {identity.hex()}: {slot.hex()}"
        for address in KEYS:
            assert next(answers)[0] == MINTED - self.net[address] * self.venue.scale
        inside = sum(self.net.values())
        assert next(answers)[0] == inside * self.venue.scale
        assert next(answers)[0] == self.books.burned
        assert self.books.total() + self.books.burned == inside

    def _slots(self, identity: SessionId) -> tuple[bytes, ...]:
        record = self.books.session(identity)
        ended = self.now > self.sessions[identity].expiry + GRACE_S
        if record is None or record.closed:
            return (bytes(32), CLOSED) if ended else (bytes(32),) if record is None else (CLOSED,)
        marks = marks_of(record.session, record.settled, record.ceilings)
        return (keccak256(marks),)

    def marks(self, session: Session) -> bytes:
        """A session's marks as the Python rules have it; those of its beginning where they do not."""
        record = self.books.session(session_id(session))
        return marks_of(session) if record is None else marks_of(session, record.settled, record.ceilings)


def _to(address: bytes, transaction: tuple[bytes, bytes]) -> tuple[bytes, bytes, bytes, int]:
    return transaction[0], address, transaction[1], 5_000_000


def _ask_all(chain: Chain, questions: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The answers of several contracts, by one request."""
    batch = []
    for number, (contract, name, *values) in enumerate(questions):
        call = {"to": "0x" + contract.address.hex(), "data": "0x" + contract.abi.call(name, *values).hex()}
        batch.append({"jsonrpc": "2.0", "id": number, "method": "eth_call", "params": [call, "latest"]})
    chain.connection.request("POST", "/", json.dumps(batch), {"Content-Type": "application/json"})
    answers = json.loads(chain.connection.getresponse().read())
    return [
        contract.abi.result(name, bytes.fromhex(answer["result"][2:]))
        for (contract, name, *_), answer in zip(questions, sorted(answers, key=lambda each: each["id"]), strict=True)
    ]
