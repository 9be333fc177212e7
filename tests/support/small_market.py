"""A whole market in one process: the real ledger rules, provider and client, links in memory, counting engines.

For tests of the pipeline's behaviour, on a virtual clock and without threads; everything with sockets, processes and
models is tested in tests/integration and tests/e2e with the real parts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from counting_engine import VOCABULARY, WIDTH, CountingEngine
from memory_links import MemoryNetwork

from node.app.buying.continuing import Earlier
from node.earnings import JournalTables, StoredJournal, Work
from node.events import Event, Events, unheard
from node.peers import Deeds
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import ClientSide, Deal, JobResult, make_deal
from node.pipeline.serving.admission import Admission
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.meter import Meter
from node.pipeline.serving.pace import Pace
from node.pipeline.serving.provider import Provider
from node.pipeline.serving.redeem import Redeemer
from node.pipeline.serving.seen import SeenSessions
from node.pipeline.vouchers import VoucherStore
from node.ports import Drafter, EnergyAccount, Link, T, Taken, VenueRules, Worker
from node.tasks import owned_tasks
from node.worker import InlineWorker
from protocol.encoding.codec import decode, encode
from protocol.energy.energy_shares import Worked
from protocol.errors import JoulemeshError, LostPeerError, RefusedError, UnreachableError
from protocol.identity.ids import BlockSpan, ModelFile, ModelManifest
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, seal
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import Frontier, Node, inclusion_proof, leaf_hash
from protocol.log.note import NoteKey
from protocol.market.offer import Hardware, HardwareKind, Limits, Offer, Provenance
from protocol.market.rates import Rates, share
from protocol.models.activations import ActivationType
from protocol.policy.policy import Evidence, LatencyClass, Policy
from protocol.reputation.standing import Deed, Standing
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, Paid, paid_nobody
from protocol.session.messages import Session, SignedDischarge, SignedVoucher
from protocol.session.order import JobOrder
from protocol.session.shaping import Shaping
from protocol.session.terms import Plan, SamplingTerms
from protocol.settlement import Account, Books, SessionRecord, apply, ledger_domain, replay
from protocol.settlement.evidence import LogProof, check_opened
from protocol.settlement.operations import Action, Close, Deposit, Genesis, LogEntry, Open, Release, Settle, sign_op

BLOCKS = 6
CONTEXT = 2048
MANIFEST = ModelManifest(
    name="counting",
    license="",
    precision="fp32",
    blocks=BLOCKS,
    hidden_size=WIDTH,
    vocabulary=VOCABULARY,
    max_context=CONTEXT,
    stop_tokens=(0,),
    files=(ModelFile(name="config.json", size=1, sha256=bytes(32), chunks=bytes(32)),),
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
FEE = 1
PRICE = 1_000_000
RATES = Rates(
    opening=2,
    price_in=PRICE,
    price_out=2 * PRICE,
    price_cached=PRICE // 10,
    price_rejected=0,
    late_discount_ppm=0,
)


def limits_of(idle_s: float = 2.0, max_sessions: int = 64, credit: int = 0, overcommit: int = 100) -> ProviderLimits:
    return ProviderLimits(
        lapse_s=idle_s, idle_s=idle_s, max_sessions=max_sessions, credit=credit, overcommit=overcommit
    )


class MemoryLedger:
    """`node.ports.Settlement` over the real rules, in one process. `down` makes it unreachable."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.domain = ledger_domain(VERIFIER_KEY)
        self.books = Books()
        self.log: list[LogEntry] = []
        self.down = False
        self.gas = 0
        """Micro-units that an operation costs beside the fee."""
        self.bond_multiple = 0
        self.asked: list[str] = []
        """What was asked or submitted, in order."""
        self._clock = clock
        self._touched: dict[bytes, int] = {}
        self._tree = Frontier()
        self._nodes: dict[Node, bytes] = {}
        genesis = Genesis(
            actor=OPERATOR.address,
            nonce=1,
            verifier_key=VERIFIER_KEY,
            grace=GRACE_S,
            faucet_limit=0,
            fee=FEE,
            unbonding=604_800,
            notice=604_800,
            bond_multiple=0,
        )
        self.apply(OPERATOR, genesis)

    def nonce(self, key: SigningKey) -> int:
        return self.books.account(key.address).nonce + 1

    def apply(self, key: SigningKey, action: Action) -> bytes:
        outcome = apply(self.books, self.domain, sign_op(self.domain, key, action), self._clock())
        self.books.record(outcome)
        self.log.append(outcome.entry)
        self._nodes |= dict(self._tree.append(leaf_hash(encode(outcome.entry))))
        for session in outcome.sessions:
            self._touched[session] = len(self.log) - 1
        return self._evidence(len(self.log) - 1)

    def _evidence(self, index: int) -> bytes:
        size = len(self.log)
        proof = inclusion_proof(index, size, lambda level, at: self._nodes[level, at])
        note = sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, size, self._tree.root), LOG_KEY)
        return encode(LogProof(entry=encode(self.log[index]), index=index, proof=proof, checkpoint=note))

    def deposit(self, key: SigningKey, amount: int) -> None:
        nonce = self.nonce(OPERATOR)
        deposit = Deposit(actor=OPERATOR.address, nonce=nonce, account=key.address, amount=amount, reference="test")
        self.apply(OPERATOR, deposit)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise UnreachableError("the ledger does not answer")

    async def rules(self) -> VenueRules:
        return VenueRules(grace_s=GRACE_S, fee=FEE, gas=self.gas, bond_multiple=self.bond_multiple)

    async def open(self, session: Session, key: SigningKey) -> bytes:
        self._ask("open")
        return self.apply(key, Open(actor=key.address, nonce=self.nonce(key), session=session, signature=b""))

    def shown(self, _session: Session, _evidence: bytes) -> SessionRecord | None:
        return None

    async def check_opened(self, session: Session, evidence: bytes) -> None:
        check_opened(evidence, session, LOG_KEY.verifier)

    async def settle(self, vouchers: Sequence[SignedVoucher], key: SigningKey) -> bytes:
        self._ask("settle")
        return self.apply(key, Settle(actor=key.address, nonce=self.nonce(key), vouchers=tuple(vouchers)))

    async def release(self, discharges: Sequence[SignedDischarge], key: SigningKey) -> bytes:
        self._ask("release")
        return self.apply(key, Release(actor=key.address, nonce=self.nonce(key), discharges=tuple(discharges)))

    async def close(self, session: bytes, key: SigningKey) -> bytes:
        self._ask("close")
        return self.apply(key, Close(actor=key.address, nonce=self.nonce(key), session=session))

    async def account(self, address: bytes) -> Account:
        self._ask("account")
        return self.books.account(address)

    async def session(self, session: bytes) -> SessionRecord | None:
        self._ask("session")
        return self.books.session(session)

    async def latest(self, session: bytes) -> tuple[SessionRecord, Taken] | None:
        record = await self.session(session)
        return None if record is None else (record, self.taken(self._evidence(self._touched[session])))

    def taken(self, evidence: bytes) -> Taken:
        proof = decode(evidence, LogProof)
        entry = decode(proof.entry, LogEntry)
        sessions = tuple(effect.session for effect in entry.sessions)
        return Taken(place=str(proof.index), actor=entry.op.read().actor, sessions=sessions)

    async def evidence(self, session: bytes) -> bytes:
        self._ask("evidence")
        return self._evidence(self._touched[session])

    def replayed(self) -> Books:
        books = Books()
        for entry in self.log:
            replay(books, self.domain, entry)
        return books


class KnownEnergy:
    """10 mJ a prompt position, 20 a generated one, through however many blocks."""

    source = Provenance.WALL

    def __init__(self) -> None:
        self._spent: Counter[bytes] = Counter()

    def begin(self) -> None:
        pass

    def record(self, worked: Sequence[Worked]) -> None:
        for each in worked:
            self._spent[each.session] += 10 * each.prompt + 20 * each.generated

    def spent(self, session: bytes) -> int | None:
        return self._spent[session]

    def end(self, session: bytes) -> int | None:
        return self._spent.pop(session, 0)


class RememberedPeers:
    """`node.ports.PeerMemory` that is gone with the test."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.deeds = Deeds()
        self.noted: list[tuple[bytes, Deed, int]] = []
        """Address, deed and amount, in order."""
        self._clock = clock

    def standing(self, address: bytes) -> Standing:
        return self.deeds.standing(address, self._clock())

    def note(self, address: bytes, deed: Deed, *, count: int = 1, amount: int = 0, about: str = "") -> None:
        self.noted.append((address, deed, amount))
        self.deeds.take(address, deed, at=self._clock(), count=count, amount=amount, about=about)


class Chance:
    """`node.ports.Randomness` that is the same in every run."""

    def __init__(self, name: str) -> None:
        self._state = name.encode()

    def __call__(self, size: int) -> bytes:
        self._state = hashlib.sha256(self._state).digest()
        return (self._state * (size // 32 + 1))[:size]


class SlowWorker:
    """`node.ports.Worker` whose calls each take so long on the loop's clock."""

    def __init__(self, call_s: float) -> None:
        self._call_s = call_s

    async def run(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(self._call_s)
        return call()

    def close(self) -> None:
        pass


class SmallNode:
    """One provider and the tasks that run it."""

    def __init__(self, market: SmallMarket, number: int, start: int, end: int, limits: ProviderLimits) -> None:
        self._market = market
        self.key = SigningKey(bytes([number + 1]) * 32)
        self.address = f"/ip4/127.0.0.1/tcp/{number + 1}/tls"
        self.span = BlockSpan(start=start, end=end)
        self.limits = limits
        self.rates = RATES
        self.engine = CountingEngine(start, end, BLOCKS)
        self.energy: EnergyAccount = KnownEnergy()
        self.compute: Worker | None = None
        """Where passes run, if they are to take another time than the market's."""
        self.drafter: Drafter | None = None
        self.draft_depth = 0
        """Drafted tokens that one pass verifies at most."""
        self.events: list[Event] = []
        self.store = VoucherStore(market.folder / f"node{number}", InlineWorker())
        self.refuse_all: RefusedError | None = None
        self.seen = SeenSessions(market.folder / f"node{number}" / "seen", InlineWorker(), market.clock)
        self.tables = JournalTables(market.folder / f"node{number}" / "journal.sqlite")
        self.journal = StoredJournal(self.tables, InlineWorker(), market.clock, self.events.append)
        self.journal.serve(
            Work(model=MANIFEST.root, model_name=MANIFEST.name, blocks=str(self.span), power=lambda: (100_000, 1_100))
        )
        self.redeemer = Redeemer(
            market.ledger,
            self.store,
            self.seen,
            self.key,
            market.clock,
            self.events.append,
            journal=self.journal,
            fee_share_ppm=market.fee_share_ppm,
            patience_s=0.0,
        )
        self.peers = RememberedPeers(market.clock)
        self.stack = AsyncExitStack()
        self.alive = False

    async def start(self) -> None:
        market = self._market
        tasks = await self.stack.enter_async_context(owned_tasks())
        self.provider = Provider(
            MANIFEST,
            engine=self.engine,
            energy=self.energy,
            redeemer=self.redeemer,
            connect=market.network.connect_as(self.key.public_key),
            clock=market.clock,
            events=self.events.append,
            limits=self.limits,
            memory=self.peers,
            spawn=tasks.spawn,
            compute=self.compute or SlowWorker(market.pass_s),
            sketching=InlineWorker(),
            pace=Pace(self.limits, row_us=10, step_us=100),
            drafter=self.drafter,
            drafting=InlineWorker(),
        )
        self.admission = Admission(
            key=self.key,
            manifest=MANIFEST,
            settlement=market.ledger,
            redeemer=self.redeemer,
            meter=lambda: Meter(account=self.energy, pue_milli=1100),
            suits=self._suits,
            memory=self.peers,
            trails=self.provider.trails,
            begin=self.provider.begin,
            clock=market.clock,
            randomness=Chance(f"node {self.address}"),
            events=self.events.append,
            spawn=tasks.spawn,
        )
        market.network.listen(self.address, self.key.public_key, self.provider.on_link, self.provider.allowance)
        tasks.spawn(self.provider.run(), "provider")
        self.tasks = tasks
        self.alive = True

    def _suits(self, order: JobOrder, offer: Offer) -> None:
        if self.refuse_all is not None:
            raise self.refuse_all

    def offer(self, **changes: object) -> Offer:
        market = self._market
        offer = Offer(
            public_key=self.key.public_key,
            sequence=1,
            issued_at=market.now,
            expires_at=market.now + 600,
            venue=market.ledger.domain.separator,
            model=MANIFEST.root,
            model_name=MANIFEST.name,
            license="",
            span=self.span,
            blocks=BLOCKS,
            precision="fp32",
            activations=(ActivationType.FP32,),
            hardware=Hardware(device=HardwareKind.CPU, name="", count=1, memory_mib=1, category=""),
            limits=Limits(
                window=self.limits.max_window,
                chunk=self.limits.max_chunk,
                context=CONTEXT,
                sessions=self.limits.max_sessions,
                draft_depth=self.draft_depth,
                credit=self.limits.credit,
            ),
            rates=self.rates,
            forecast=(),
            prompt_us=10,
            position_us=100,
            late_us=50_000,
            energy=None,
            jurisdiction="DE",
            region="",
            addresses=(f"/ip4/127.0.0.1/tcp/1/p2p/{peer_id_of(self.key.public_key)}",),
            data_addresses=(self.address,),
            statements=(),
        )
        return offer.replace(**changes)

    def events_of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def stop(self) -> None:
        if self.alive:
            self.alive = False
            await self.provider.stop()
        await self.stack.aclose()
        await self.journal.close()


class SmallMarket:
    """Providers with thirds of a model, and one client with money. Use as an async context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        spans: tuple[tuple[int, int], ...] = ((0, 2), (2, 4), (4, 6)),
        limits: ProviderLimits | None = None,
        spares: tuple[tuple[int, int], ...] = (),
        money: int = 1_000_000,
        network: MemoryNetwork | None = None,
    ) -> None:
        self.folder = folder
        self._began: float | None = None
        self.skipped_s = 0
        """Seconds by which the wall clock was moved besides the loop's."""
        self.fee_share_ppm = 1_000_000
        """Of a claim, that its fee may be as long as there is time."""
        self.pass_s = 0.0
        """That a forward pass takes."""
        self.ledger = MemoryLedger(self.clock)
        self.network = network or MemoryNetwork()
        self._closing: set[asyncio.Task[None]] = set()
        self._limits = limits
        held = enumerate((*spans, *spares))
        self.nodes = [SmallNode(self, number, *span, self._limits or limits_of()) for number, span in held]
        self.on_route = len(spans)
        """So many of the nodes are on the route; those after them stand by."""
        self.client_key = SigningKey(b"\x77" * 32)
        self.peers = RememberedPeers(self.clock)
        self.journal = VoucherStore(folder / "client", InlineWorker())
        self.side = self.side_of(self.client_key, self.journal)
        self.client = JobClient(self.side)
        self.ledger.deposit(self.client_key, money)
        self._chance = Chance("client")

    async def __aenter__(self) -> SmallMarket:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.network.close()
        for node in self.nodes:
            await node.stop()

    @property
    def now(self) -> int:
        """Unix seconds: they pass with the loop's time."""
        try:
            loop_s = asyncio.get_running_loop().time()
        except RuntimeError:
            loop_s = self._began or 0.0
        if self._began is None:
            self._began = loop_s
        return 1_000_000 + int(loop_s - self._began) + self.skipped_s

    def clock(self) -> int:
        return self.now

    def side_of(self, key: SigningKey, journal: VoucherStore, events: Events = unheard) -> ClientSide:
        return ClientSide(
            key=key,
            settlement=self.ledger,
            order=partial(self._order, key.public_key),
            connect=self.network.connect_as(key.public_key),
            keep=self._keep,
            journal=journal,
            clock=self.clock,
            events=events,
            peers=self.peers,
        )

    def deal(
        self,
        prompt: Sequence[int] = (1, 2, 3, 4, 5),
        most: int = 10,
        *,
        window: int = 4,
        chunk: int = 8,
        spans: tuple[tuple[int, int], ...] | None = None,
        client: SigningKey | None = None,
        expiry_s: int = 600,
        temperature_milli: int = 0,
        shaping: Shaping | None = None,
        logprobs: int | None = None,
        ahead: int = 1,
        paid: Paid = paid_nobody,
        drafts: bool = True,
        earlier: Earlier | None = None,
        policy: Policy = POLICY,
    ) -> Deal:
        """A deal over all nodes, whole spans unless other `spans` are given for the route."""
        used = [node.span for node in self.nodes]
        if spans is not None:
            used[: self.on_route] = [BlockSpan(start=start, end=end) for start, end in spans]
        route = []
        for node, span in zip(self.nodes, used, strict=True):
            offer = node.offer()
            rates = share(offer.rates, len(span), len(offer.span))
            leg = RouteLeg(offer, span, price_in=rates.price_in, price_out=rates.price_out)
            route.append(Chosen(leg, seal(offer, node.key)))
        return make_deal(
            route[: self.on_route],
            standbys=route[self.on_route :],
            manifest=MANIFEST,
            venue=self.ledger.domain.separator,
            policy=policy,
            plan=Plan(prompt=len(prompt), most=most, chunk=chunk, window=window, ahead=ahead),
            sampling=SamplingTerms(temperature_milli=temperature_milli, seed=0, shaping=shaping, logprobs=logprobs),
            prompt=prompt,
            client=(client or self.client_key).address,
            expiry=self.now + expiry_s,
            randomness=self._chance,
            paid=paid,
            drafts=drafts,
            continues=None if earlier is None else earlier.continued_by(prompt),
        )

    async def run(self, deal: Deal, client: JobClient | None = None) -> tuple[list[int], JobResult]:
        """One job to its end: the tokens, and what is left of it."""
        tokens = []
        async with (client or self.client).start(deal) as job:
            async for token in job:
                tokens.append(token)
        return tokens, job.result

    async def kill(self, number: int) -> None:
        """A provider's process dies: nothing is said, every link breaks."""
        node = self.nodes[number]
        node.alive = False
        self.network.kill(node.address)
        await node.tasks.end()

    async def revive(self, number: int) -> None:
        """Start a killed node again, with the key and the vouchers that it had."""
        before = self.nodes[number]
        node = self.nodes[number] = SmallNode(self, number, before.span.start, before.span.end, before.limits)
        node.drafter, node.draft_depth = before.drafter, before.draft_depth
        await node.start()

    def free(self, key: SigningKey) -> int:
        return self.ledger.books.account(key.address).free

    async def _order(self, own_key: bytes, _address: str, public_key: bytes, _session: bytes, sealed: bytes) -> bytes:
        for node in self.nodes:
            if node.key.public_key == public_key:
                if not node.alive:
                    raise LostPeerError("the peer has gone")
                if {own_key, public_key} & self.network.muted:
                    await asyncio.sleep(5.0)
                    raise LostPeerError("the peer does not answer")
                try:
                    return await node.admission.answer(own_key, sealed)
                except JoulemeshError as error:
                    raise RefusedError(error.message, code=error.code) from error
        raise UnreachableError("no such peer")

    def _keep(self, link: Link) -> None:
        """Links are for one job each here; it ends as if it were closed."""
        self._closing.add(task := asyncio.get_running_loop().create_task(link.close()))
        task.add_done_callback(self._closing.discard)
