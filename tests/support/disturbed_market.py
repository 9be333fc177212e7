"""Jobs in a small market where nodes die, hang and come back, links break, standbys refuse and clients go away.

Everything is drawn from one number, so that a job that went wrong goes wrong again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from counting_engine import CountingEngine, next_token
from oracle_drafter import OracleDrafter
from rough_network import RoughNetwork
from small_market import BLOCKS, GRACE_S, MANIFEST, VERIFIER_KEY, SmallMarket, limits_of

from node.app.buying.receipts import make_bundle
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import ClientSide, Deal, JobResult
from node.pipeline.buying.reclaim import reclaim
from node.pipeline.vouchers import VoucherStore
from node.ports import StepInput, StepOutput
from node.worker import InlineWorker
from protocol.errors import UnreachableError
from protocol.identity.signing import SigningKey
from protocol.receipts.bundle import verify_bundle
from protocol.session.metering import earned, paid_limit, spans, stints

__all__ = ["DisturbedMarket", "Outcome", "StuckWorker", "Trouble", "answer", "draft", "random_spans"]

EXPIRY_S = 600


def answer(prompt: tuple[int, ...], most: int) -> list[int]:
    """What an engine with all blocks says."""
    engine = CountingEngine(0, BLOCKS, BLOCKS)
    engine.open(b"alone", max_tokens=4096)
    tokens, position, data = list[int](), 0, prompt
    while len(tokens) < most:
        item = StepInput(session=b"alone", position=position, length=len(data), data=data, draws=1)
        (output,) = engine.forward([item])
        assert isinstance(output, StepOutput)
        position, data = position + len(data), output.tokens
        tokens.extend(output.tokens)
        if 0 in output.tokens:
            break
    return tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that happens to nodes during a job."""

    kind: str
    node: int = 0
    other: int = 0
    tokens: int = 0
    """Once so many tokens have come,"""
    frames: int = 0
    """and so many frames more were sent."""


class StuckWorker(InlineWorker):
    """A worker that may stand still."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    def stand(self, *, still: bool) -> None:
        """Stand still, or go on."""
        if still:
            self.free.clear()
        else:
            self.free.set()

    async def run(self, call: Any) -> Any:
        await self.free.wait()
        return await super().run(call)


class _Mortal:
    """A ledger that its client reaches for as long as it lives."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.alive = True

    def __getattr__(self, name: str) -> Any:
        if not self.alive and name in ("open", "settle", "release", "close", "session", "evidence", "rules"):
            raise UnreachableError("it is dead")
        return getattr(self._ledger, name)


@dataclass
class Outcome:
    """How one job went."""

    deal: Deal
    result: JobResult
    tokens: list[int] = field(default_factory=list)
    died: bool = False
    left: bool = False


class DisturbedMarket(SmallMarket):
    """See above. Use as an async context manager on a virtual clock."""

    def __init__(
        self,
        folder: Path,
        chance: Random,
        *,
        clients: int = 0,
        room: int = 1_000_000,
        overcommit: int = 100,
        **changes: Any,
    ) -> None:
        self.rough = RoughNetwork(chance, chance.choice((0.0, 0.5, 5.0, 40.0)))
        super().__init__(folder, network=self.rough, **changes)
        for node in self.nodes:
            node.limits = limits_of(idle_s=30.0, overcommit=overcommit)
            node.limits.warm_s = 100.0
            node.engine.fill(room)
            node.engine.grain = 2.0**-10
        self.room = room
        self.clients = clients
        for key in self.keys[1:]:
            self.ledger.deposit(key, 10**9)
        self.money = self.ledger.books.total()
        self.outcomes: list[Outcome] = []

    # One job

    async def disturbed(self, deal: Deal, troubles: Iterable[Trouble], *, key: SigningKey | None = None) -> Outcome:
        """Run a job; what happens meanwhile."""
        key = key or self.client_key
        mortal = _Mortal(self.ledger)
        side = replace_side(self.side_of(key, self.journal_of(key)), mortal)
        job = JobClient(side).start(deal)
        outcome = Outcome(deal, job.result)
        self.outcomes.append(outcome)
        done = asyncio.Event()
        waiting, since = list(troubles), 0

        def look() -> None:
            nonlocal since
            if not waiting or done.is_set() or len(outcome.tokens) < waiting[0].tokens:
                return
            since += 1
            if since > waiting[0].frames:
                trouble, since = waiting.pop(0), 0
                if trouble.kind in ("die", "leave"):
                    outcome.died, outcome.left = trouble.kind == "die", True
                    reading.cancel()
                    if outcome.died:
                        mortal.alive = False
                        self.rough.drop(key.public_key)
                else:
                    self.tasks.append(asyncio.create_task(self.trouble(trouble)))

        async def read() -> None:
            async with job:
                async for token in job:
                    outcome.tokens.append(token)

        self.watchers.append(look)
        reading = asyncio.create_task(read(), name="reader")
        try:
            await asyncio.wait([reading])
            if not reading.cancelled() and (error := reading.exception()) is not None and not outcome.died:
                raise error
        finally:
            done.set()
            self.watchers.remove(look)
        return outcome

    async def trouble(self, trouble: Trouble) -> None:
        """Let it happen."""
        number = trouble.node
        node, key = self.nodes[number], self.nodes[number].key.public_key
        match trouble.kind:
            case "kill" if node.alive:
                await self.kill(number)
            case "revive" if not node.alive:
                self.workers[number].stand(still=False)
                await self.revive(number)
                self._make_stuckable(number)
            case "mute":
                self.rough.muted.add(key)
            case "unmute":
                self.rough.unmute(key)
            case "stick" | "unstick":
                self.workers[number].stand(still=trouble.kind == "stick")
            case "cut" | "apart":
                self._part(key, self.nodes[trouble.other].key.public_key, for_good=trouble.kind == "apart")
            case "full":
                node.engine.fill()
            case "no place":
                node.limits.max_sessions = 0

    def _part(self, left: bytes, right: bytes, *, for_good: bool) -> None:
        if for_good:
            self.rough.apart.add(frozenset((left, right)))
        self.rough.cut(left, right)

    # The market

    async def __aenter__(self) -> DisturbedMarket:
        self.tasks: list[asyncio.Task[None]] = []
        self.watchers: list[Any] = []
        self.workers: dict[int, StuckWorker] = {}
        self.journals: dict[bytes, VoucherStore] = {}
        self.rough.on_frame = lambda: [look() for look in list(self.watchers)]  # type: ignore[func-returns-value,assignment,misc]
        for number, node in enumerate(self.nodes):
            await node.start()
            self._make_stuckable(number)
        return self

    def _make_stuckable(self, number: int) -> None:
        self.workers[number] = self.nodes[number].provider._compute._worker = StuckWorker()

    def journal_of(self, key: SigningKey) -> VoucherStore:
        """One for each client."""
        if key.address not in self.journals:
            self.journals[key.address] = VoucherStore(self.folder / f"client {key.address.hex()}", InlineWorker())
        return self.journals[key.address]

    async def calm(self) -> None:
        """All troubles end, and everybody has the time to settle: until after every session's grace."""
        self.rough.apart.clear()
        for number in range(len(self.nodes)):
            await self.mend(number)
        await asyncio.sleep(120)
        for node in self.nodes:
            await node.redeemer.redeem_all()
        await asyncio.sleep(EXPIRY_S)
        for node in self.nodes:
            await node.redeemer.redeem_all()
        await asyncio.sleep(GRACE_S + 10)
        for outcome in self.outcomes:
            key = next(k for k in self.keys if k.address == outcome.deal.session.client)
            await reclaim(self.ledger, self.journal_of(key), key, now=self.now)
        await asyncio.sleep(60)
        await asyncio.gather(*self.tasks)

    async def mend(self, number: int) -> None:
        """A node is as it should be again."""
        for kind in ("revive", "unstick", "unmute"):
            await self.trouble(Trouble(kind=kind, node=number))
        node = self.nodes[number]
        node.limits.max_sessions, node.refuse_all = 64, None
        node.engine.fill(self.room)

    @property
    def keys(self) -> list[SigningKey]:
        return [self.client_key, *(SigningKey(bytes([0x80 + number]) * 32) for number in range(self.clients))]

    # What must hold

    def check_zero(self) -> None:
        """Nothing is left of any job, at any node."""
        for number, node in enumerate(self.nodes):
            provider = node.provider
            left = {
                "kv": node.engine.sessions,
                "places": len(provider._places.all),
                "beginning": len(provider._places._beginning),
                "trails": len(node.admission.trails),
                "trail bytes": node.admission.trails.size,
                "parts": len(provider._parts._sessions) + len(provider._parts._rows),
                "ready": len(provider._compute._jobs) + len(provider._compute._poked),
                "paged": len(provider._rooms._pages) + len(provider._compute._short),
                "live": len(node.redeemer._live),
                "promised": len(node.redeemer._promised),
                "ending": len(provider._ends._under_way),
                "dialling": len(provider._neighbours._dialling),
            }
            assert not any(left.values()), (number, left)

    def check_money(self) -> None:
        """Nothing is lost, nothing is made, nothing is held, and no leg has more or less than it may."""
        books = self.ledger.replayed()
        assert books.accounts == self.ledger.books.accounts
        assert self.ledger.books.total() == self.money
        for outcome in self.outcomes:
            session = outcome.result.tab.id
            record = self.ledger.books.session(session)
            if record is None:
                continue
            assert record.closed or record.reserved <= 1, record.reserved
            tab, terms = outcome.result.tab, outcome.deal.terms
            found = stints(terms, tab.reroutes, [each.start for each in tab.joinings], base=tab.book.base)
            parts = spans(tab.reroutes)
            limit = paid_limit(terms.plan, tab.proven)
            for leg, paid in enumerate(record.settled):
                if leg not in outcome.result.acceptances:
                    continue
                owing = earned(terms, outcome.deal.session, leg, found[leg], tab.proven, span=parts.get(leg))
                if not outcome.died:
                    assert paid >= owing, (leg, paid, owing)
                # A leg that was left may have been paid for what came after it, which nobody has signed for.
                stint = replace(found[leg], left=None) if found[leg].left is not None else found[leg]
                most = earned(terms, outcome.deal.session, leg, stint, limit, span=parts.get(leg))
                assert paid <= most, (leg, paid, most)

    def check_bundle(self, outcome: Outcome) -> None:
        """All receipts, of legs that were left and of those that came, are proof together."""
        result = outcome.result
        bundle = make_bundle(result, MANIFEST, verifier_key=VERIFIER_KEY, key=self.client_key)
        if bundle is not None:
            proven = verify_bundle(bundle)
            assert proven.windows == tuple(result.tab.book.windows)


def following(tokens: Sequence[int]) -> int:
    return next_token(tokens[-1], len(tokens) - 1)


def random_spans(chance: Random) -> tuple[tuple[int, int], ...]:
    """A route of one to four legs."""
    cuts = sorted(chance.sample(range(1, BLOCKS), chance.randint(0, 3)))
    ends = (0, *cuts, BLOCKS)
    return tuple(pairwise(ends))


def draft(market: SmallMarket, chance: Random) -> None:
    """Half of the markets guess ahead, rightly more often or less, whoever has the first blocks."""
    depth, right = chance.choice((0, 0, 0, 1, 4, 15)), chance.choice((0.0, 0.5, 0.9, 1.0))
    for node in market.nodes:
        node.draft_depth = depth
        if node.span.start == 0 and depth:
            node.drafter = OracleDrafter(following, right, instant=chance.random() < 0.5)


def replace_side(side: ClientSide, ledger: Any) -> ClientSide:
    """The same client, with another way to the ledger."""
    return replace(side, settlement=ledger)
