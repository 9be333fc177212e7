"""A whole market in one process: the real ledger rules, provider and client, links in memory, counting engines.

For tests of the pipeline's behaviour; everything with sockets, processes and models is tested in tests/integration and
tests/e2e with the real parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counting_engine import VOCABULARY, WIDTH, CountingEngine
from memory_links import MemoryNetwork
from node.pipeline.admission import Admission, ProviderLimits
from node.pipeline.client import JobClient
from node.pipeline.provider import Provider
from node.pipeline.redeem import Redeemer

from node.events import Event, unheard
from node.pipeline.vouchers import VoucherStore
from node.ports import Proven
from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.codec import Message, encode
from protocol.errors import JoulemeshError, LostPeerError, RefusedError, UnreachableError
from protocol.ids import BlockSpan, ModelFile, ModelManifest
from protocol.merkle import Frontier, Node, inclusion_proof, leaf_hash
from protocol.messages import Deposit, Genesis, Leg, LogEntry, Session, sign_op
from protocol.metering import Plan, leg_amount
from protocol.note import NoteKey
from protocol.offer import Evidence
from protocol.order import Hop, JobOrder, SamplingTerms
from protocol.policy import LatencyClass, Policy, policy_hash
from protocol.session import Account, Books, apply, ledger_domain, replay
from protocol.signing import SigningKey

BLOCKS = 6
MANIFEST = ModelManifest(
    name="counting",
    precision="fp32",
    blocks=BLOCKS,
    hidden_size=WIDTH,
    vocabulary=VOCABULARY,
    max_context=512,
    stop_tokens=(0,),
    files=(ModelFile(name="config.json", size=1, sha256=bytes(32)),),
)
POLICY = Policy(
    latency_class=LatencyClass.CHAT,
    max_price_in=None,
    max_price_out=None,
    allow=(),
    deny=(),
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="fp32",
)
OPERATOR = SigningKey(b"\x09" * 32)
LOG_KEY = NoteKey("memory", b"\x0a" * 32)
VERIFIER_KEY = str(LOG_KEY.verifier)
GRACE_S = 60
PRICE = 1_000_000
LIMITS = ProviderLimits(idle_s=2.0)


class MemoryLedger:
    """`node.ports.Settlement` over the real rules, in one process. `down` makes it unreachable."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.domain = ledger_domain(VERIFIER_KEY)
        self.books = Books()
        self.log: list[LogEntry] = []
        self.down = False
        self._clock = clock
        self._touched: dict[bytes, list[int]] = {}
        self._tree = Frontier()
        self._nodes: dict[Node, bytes] = {}
        self._apply(OPERATOR, Genesis(verifier_key=VERIFIER_KEY, grace_s=GRACE_S, faucet_limit=0))

    def _apply(self, key: SigningKey, action: Message) -> Proven:
        nonce = self.books.account(key.address).nonce + 1
        outcome = apply(self.books, self.domain, sign_op(self.domain, key, nonce, action), self._clock())
        self.books.record(outcome)
        self.log.append(outcome.entry)
        self._nodes |= dict(self._tree.append(leaf_hash(encode(outcome.entry))))
        if outcome.session is not None:
            self._touched.setdefault(outcome.session[0], []).append(len(self.log) - 1)
        return self._proven(len(self.log) - 1)

    def _proven(self, index: int) -> Proven:
        size = len(self.log)
        proof = inclusion_proof(index, size, lambda level, at: self._nodes[level, at])
        note = sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, size, self._tree.root), LOG_KEY)
        return Proven(entry=self.log[index], index=index, proof=proof, checkpoint=note)

    def deposit(self, key: SigningKey, amount: int) -> None:
        self._apply(OPERATOR, Deposit(account=key.address, amount=amount, reference="test"))

    def _require_up(self) -> None:
        if self.down:
            raise UnreachableError("the ledger does not answer")

    async def submit(self, action: Message, key: SigningKey) -> Proven:
        self._require_up()
        return self._apply(key, action)

    async def account(self, address: bytes) -> Account:
        self._require_up()
        return self.books.account(address)

    async def session(self, session: bytes) -> tuple[Proven, Proven] | None:
        self._require_up()
        touched = self._touched.get(session)
        return None if touched is None else (self._proven(touched[0]), self._proven(touched[-1]))

    def replayed(self) -> Books:
        books = Books()
        for entry in self.log:
            replay(books, self.domain, entry)
        return books


class KnownEnergy:
    """10 mJ a position."""

    def record(self, tokens: int, seconds: float) -> None:
        pass

    def millijoules_for(self, tokens: int) -> int | None:
        return 10 * tokens


class SmallNode:
    """One provider and the tasks that run it."""

    def __init__(self, market: SmallMarket, number: int, start: int, end: int, limits: ProviderLimits) -> None:
        self.key = SigningKey(bytes([number + 1]) * 32)
        self.address = f"memory/{number}"
        self.span = BlockSpan(start=start, end=end)
        self.engine = CountingEngine(start, end, BLOCKS)
        self.events: list[Event] = []
        self.store = VoucherStore(market.folder / f"node{number}")
        connect = market.network.connect_as(self.key.public_key)
        note = self.events.append
        self.redeemer = Redeemer(market.ledger, self.store, self.key, market.clock, note, patience_s=0.0)
        self.provider = Provider(
            self.key,
            MANIFEST,
            self.span,
            engine=self.engine,
            energy=KnownEnergy(),
            settlement=market.ledger,
            redeemer=self.redeemer,
            connect=connect,
            clock=market.clock,
            events=note,
            limits=limits,
        )
        self.refuse_all: RefusedError | None = None
        self.admission = Admission(
            key=self.key,
            manifest=MANIFEST,
            span=self.span,
            settlement=market.ledger,
            redeemer=self.redeemer,
            suits=self._suits,
            begin=self.provider.begin,
            limits=limits,
            clock=market.clock,
            events=note,
        )
        market.network.listen(self.address, self.key.public_key, self.provider.on_link)
        self.task = asyncio.create_task(self.provider.run(), name=f"node {number}")

    def _suits(self, order: JobOrder) -> None:
        if self.refuse_all is not None:
            raise self.refuse_all


class SmallMarket:
    """Providers with thirds of a model, and one client with money."""

    def __init__(
        self,
        folder: Path,
        *,
        spans: tuple[tuple[int, int], ...] = ((0, 2), (2, 4), (4, 6)),
        limits: ProviderLimits = LIMITS,
    ) -> None:
        self.folder = folder
        self.now = 1_000_000
        self.clock = lambda: self.now
        self.ledger = MemoryLedger(self.clock)
        self.network = MemoryNetwork()
        self.limits = limits
        self.nodes = [SmallNode(self, number, *span, self.limits) for number, span in enumerate(spans)]
        self.client_key = SigningKey(b"\x77" * 32)
        self.journal = VoucherStore(folder / "client")
        self.client = self.client_of(self.client_key, self.journal)
        self.ledger.deposit(self.client_key, 1_000_000)
        self._salt = 0

    def client_of(self, key: SigningKey, journal: VoucherStore) -> JobClient:
        return JobClient(
            key,
            self.ledger,
            _Requests(self, key.public_key),
            self.network.connect_as(key.public_key),
            journal,
            peer_id_of=lambda public_key: public_key.hex(),
            clock=self.clock,
            events=unheard,
        )

    def order(
        self,
        prompt: int,
        most: int,
        *,
        window: int = 4,
        chunk: int = 8,
        spans: tuple[tuple[int, int], ...] | None = None,
        **changes: Any,
    ) -> JobOrder:
        """An order over all nodes, whole spans unless other `spans` are given."""
        used = [node.span for node in self.nodes]
        if spans is not None:
            used = [BlockSpan(start=start, end=end) for start, end in spans]
        self._salt += 1
        plan = Plan(prompt=prompt, most=most, chunk=chunk, window=window)
        legs = [Leg(provider=node.key.address, price_in=PRICE, price_out=2 * PRICE, cap=0) for node in self.nodes]
        terms = Session(
            client=self.client_key.address,
            expiry=self.now + 600,
            window=window,
            model=MANIFEST.root,
            policy=policy_hash(POLICY),
            salt=self._salt.to_bytes(32, "big"),
            legs=tuple(leg.replace(cap=leg_amount(leg, prompt, most)) for leg in legs),
        )
        values: dict[str, Any] = {
            "venue": self.ledger.domain.separator,
            "session": terms,
            "leg": 0,
            "hops": tuple(
                Hop(public_key=node.key.public_key, data_address=node.address, span=span)
                for node, span in zip(self.nodes, used, strict=True)
            ),
            "plan": plan,
            "policy": POLICY,
            "sampling": SamplingTerms(temperature_milli=0, seed=0),
            "issued_at": self.now,
        }
        return JobOrder(**{**values, **changes})

    def kill(self, number: int) -> None:
        node = self.nodes[number]
        self.network.kill(node.address)
        node.task.cancel()

    def revive(self, number: int) -> None:
        """Start a killed node again, with the key and the vouchers that it had."""
        span = self.nodes[number].span
        self.nodes[number] = SmallNode(self, number, span.start, span.end, self.limits)

    def free(self, key: SigningKey) -> int:
        return self.ledger.books.account(key.address).free

    async def close(self) -> None:
        await self.network.close()
        for node in self.nodes:
            node.task.cancel()
        await asyncio.gather(*(node.task for node in self.nodes), return_exceptions=True)
        for node in self.nodes:
            await node.provider.stop()


class _Requests:
    """Order requests by public key, in memory."""

    def __init__(self, market: SmallMarket, own_key: bytes) -> None:
        self._market = market
        self._own_key = own_key

    async def request(
        self, peer: str, protocol: str, data: bytes, *, timeout_s: float = 5.0, max_reply: int = 0
    ) -> bytes:
        for node in self._market.nodes:
            if node.key.public_key.hex() == peer:
                if node.task.done():
                    raise LostPeerError("the peer has gone")
                try:
                    return await node.admission.answer(self._own_key, data)
                except JoulemeshError as error:
                    raise RefusedError(error.message, code=error.code) from error
        raise UnreachableError("no such peer")
