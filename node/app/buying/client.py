"""A client: offers, jobs, balances for one key. Commands, the demo and gateways are layers over this.

A job is three steps: `plan` decides, `execute` hands out tokens and sees to the money, `keep` writes the receipt. They
speak of token ids; `asking` is the way from text to text. What was learnt on the way, manifests, tokenizers and round
trips, stays for the next job.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from node.app.buying.accusing import keep_double
from node.app.buying.another_try import look_again, plan_again, worth_another_try
from node.app.buying.busy import BusyNodes
from node.app.buying.execution import Execution
from node.app.buying.grammars import covers_held, require_readable
from node.app.buying.law import covers_trusted
from node.app.buying.looking import look
from node.app.buying.planning import JobPlan, Market
from node.app.buying.receipts import Kept, keep_bundle, make_bundle
from node.app.buying.request import Request
from node.app.buying.requirements import LEAST_CAP, OPERATIONS, require_funds, require_routable, require_tokens
from node.app.buying.stakes import stakes_by
from node.app.models.obtaining import Text
from node.app.network.known_names import KnownNames
from node.app.network.meant_models import MeantModels
from node.app.network.peers import open_peers
from node.app.network.shunned import address_of, shunned
from node.app.process.clock import clock
from node.app.process.traced import open_traces
from node.app.settlement.bonded import require_operator_bond
from node.app.settlement.venue import (
    Moved,
    Venue,
    deposit,
    of_entry,
    open_venue,
    require_log,
    stake,
    told,
    unbond,
    unstake,
    whole,
    withdraw,
)
from node.config import ClientConfig
from node.events import Events
from node.file_limit import raise_file_limit
from node.peers import StoredMemory
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import ClientSide, JobResult
from node.pipeline.buying.reclaim import OpenSession, open_sessions, reclaim
from node.pipeline.vouchers import VoucherStore
from node.ports import Randomness, VenueRules, Worker
from node.worker import ThreadWorker
from protocol.errors import JoulemeshError, LocalError
from protocol.identity.ids import ModelManifest, checksum_address
from protocol.identity.signing import SigningKey
from protocol.market.offer import Offer
from protocol.routing.choice import covers, covers_some_model, covers_twice
from protocol.routing.routes import NoRouteError, Route
from protocol.session.metering import reserved_caps
from protocol.settlement import Account

if TYPE_CHECKING:
    from node.app.network.membership import Network
    from node.app.network.roads import Roads
    from node.ledger import LedgerClient

__all__ = ["Client", "open_client"]

COLLECT_S = 5.0
"""Seconds to wait for offers that cover a model."""
STANDBYS_S = 1.0
"""More, for offers of nodes that could stand by."""
ASK_AGAIN_S = 0.5
"""Seconds without an offer after which peers are asked for their books."""
BOND_EVERY_S = 60.0
"""Seconds in which a client with many jobs looks once at the bond of the ledger's operator: leaving takes longer."""
RECLAIM_EVERY_S = 5.0
"""Seconds in which a client with many jobs looks once at what earlier ones left open."""


class Client:
    """Everything that one key does as a client. Made by `open_client`; joins the network when it first needs it."""

    def __init__(
        self,
        config: ClientConfig,
        key: SigningKey,
        ledger: Venue,
        join: Callable[[], Awaitable[tuple[Network, Roads]]],
        events: Events,
        *,
        worker: Worker,
        peers: StoredMemory,
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        self.config = config
        self.key = key
        self.ledger = ledger
        self.peers = peers
        """What this machine's clients remember of providers."""
        self.join = self._join = join  # public for those who follow the network itself
        self._events = events
        self._worker = worker
        self._randomness = randomness
        self._names = KnownNames(config.data_dir / "models" / "names.json")
        self._journals: dict[bytes, VoucherStore] = {}
        self._models = MeantModels(join, config.data_dir / "models", events)
        self._busy = BusyNodes(clock, events)
        self._reclaimed_s = -RECLAIM_EVERY_S
        self._bonded_s = -BOND_EVERY_S

    def log(self, what: str) -> LedgerClient:
        """The ledger with its log, for what only that has. Raises ConfigurationError for another venue."""
        return require_log(self.ledger, what)

    # Money

    async def balance(self, address: bytes | None = None) -> Account:
        """An account on the ledger, proven; this client's own by default."""
        return await self.ledger.account(self.key.address if address is None else address)

    async def faucet(self, amount_micro: int) -> Moved:
        """Play money on a local network."""
        return of_entry(await require_log(self.ledger, "faucet").faucet(self.key.address, amount_micro))

    async def deposit(self, amount_micro: int) -> Moved:
        """Pay own tokens in, on a chain."""
        return await deposit(self.ledger, amount_micro, self.key)

    async def withdraw(self, amount_micro: int, reference: str) -> Moved:
        """Take free money out of the ledger."""
        return await withdraw(self.ledger, amount_micro, reference, self.key)

    async def stake(self, amount_micro: int) -> Moved:
        """Put free money at stake."""
        return await stake(self.ledger, amount_micro, self.key)

    async def unstake(self, amount_micro: int) -> Moved:
        """Begin to take money out of the stake."""
        return await unstake(self.ledger, amount_micro, self.key)

    async def unbond(self) -> Moved:
        """Free what has left the stake."""
        return await unbond(self.ledger, self.key)

    def told(self, moved: Moved) -> None:
        """Whoever asked for money to be moved knows what became of it. Until then the same call, in whatever process,
        finishes or finds what this one has asked for. Raises LocalError.
        """
        told(self.ledger, moved, self.key)

    async def open_sessions(self, address: bytes) -> list[OpenSession]:
        """What jobs of this account, run from here, left open on the ledger."""
        return await open_sessions(self.ledger, self._journal(address), now=clock())

    async def reclaim(self) -> int:
        """Have back what unfinished sessions hold and can be had now; micro-units. A plan does so too, before all."""
        return await reclaim(self.ledger, self._journal(self.key.address), self.key, now=clock())

    def _journal(self, address: bytes) -> VoucherStore:
        if address not in self._journals:
            folder = self.config.data_dir / "sessions" / checksum_address(address)
            self._journals[address] = VoucherStore(folder, self._worker)
        return self._journals[address]

    # What is on offer

    async def offers(
        self, wait_s: float = COLLECT_S, *, enough: Callable[[Sequence[Offer]], bool] = covers_some_model
    ) -> list[Offer]:
        """Offers heard so far; waits until they are `enough` (by default: cover any model), or for `wait_s`."""
        network, _ = await self._join()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not enough(found := network.book.offers()) and (left := deadline - loop.time()) > 0:
            network.heard.clear()
            try:
                async with asyncio.timeout(min(left, ASK_AGAIN_S)):
                    await network.heard.wait()
            except TimeoutError:
                await asyncio.gather(network.ask_books(), network.ask_ledger(self.ledger))
        return found

    def left_out(self, offers: Sequence[Offer]) -> dict[bytes, str]:
        """By public key: why routes do without some providers for now, where there is another way; for people."""
        remembered = {each.public_key: self.peers.standing(address_of(each.public_key)) for each in offers}
        return {node: reason.sentence for node, (reason, _) in shunned(remembered, clock()).items()}

    async def model(self, name: str | None) -> ModelManifest:
        """The model that is meant by a name or the beginning of a root; by None, the only one that can be served.

        Raises as `MeantModels.model`.
        """
        used = self._names.roots()
        offers = await self.offers(enough=lambda found: covers(found, name, used=used))
        return await self._models.model(name, offers, used)

    async def text(self, manifest: ModelManifest) -> Text:
        """A model's tokenizer, for one prompt and its answer. Raises DishonestError, ModelError, UnreachableError."""
        return await self._models.text(manifest)

    # Jobs

    async def require_ready(self) -> tuple[VenueRules, int]:
        """The ledger's rules, and the free micro-units, after having back what earlier jobs held.

        Raises ConfigurationError, FundsError: no job at all can be done, whatever is on offer. ForkedError: the ledger
        has provably signed two histories. UnwitnessedError: it shows no checkpoint with the cosignatures asked for.
        UnbondedError: its operator has less at stake than is asked for.
        """
        require_routable(self.config)
        await self.ledger.connect()
        self.ledger.forks.require_none()
        now_s = asyncio.get_running_loop().time()
        if is_new := now_s - self._reclaimed_s >= RECLAIM_EVERY_S:
            self._reclaimed_s = now_s
            await self.reclaim()
        await self.ledger.require_witnessed()
        await self._require_bonded()
        rules, seen = await self.ledger.rules(), self.ledger.last_seen(self.key.address)
        free = seen.free if seen is not None else 0
        if free < LEAST_CAP + OPERATIONS * rules.fee:  # somebody may have paid in since
            if not is_new:
                await self.reclaim()
            free = (await self.balance()).free
        require_funds(LEAST_CAP, rules, free)
        return rules, free

    async def _require_bonded(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._bonded_s >= BOND_EVERY_S:
            await require_operator_bond(self.config, self.ledger)
            self._bonded_s = now_s

    async def plan(self, request: Request) -> JobPlan:
        """What a request comes to on the offers of now: route, terms, session. Nothing is reserved yet.

        Where there is no way round a node that said when to come back, it waits until then, for a minute at most.

        Raises:
            RoutingError: no offers, gaps, or every offer excluded; says which and why. With code ``busy``: nodes that
                there is no way round take no orders for so long.
            ConfigurationError: the prompt does not fit the model, several models are meant, or the grammar that the
                answer is to be held to takes too many steps.
            FundsError: the balance does not cover the caps and the ledger's fees.
            UnreachableError: the ledger or the network does not answer.
        """
        require_tokens(request)
        await asyncio.to_thread(require_readable, request.grammar)
        return await self._busy.planned(partial(self._plan, request))

    async def _plan(self, request: Request) -> JobPlan:
        ready = asyncio.create_task(self.require_ready(), name="ready")
        looking = asyncio.create_task(self._look_for_route(request), name="route")
        try:
            await asyncio.wait((ready, looking), return_when=asyncio.FIRST_EXCEPTION)
            rules, free = await ready  # what stands against any job is said first
            manifest, market, route = await looking
        finally:
            ready.cancel()
            looking.cancel()
            await asyncio.gather(ready, looking, return_exceptions=True)
        deal = market.deal(route, client=self.key.address, randomness=self._randomness)
        if free < reserved_caps(deal.session) + OPERATIONS * rules.fee:
            free = (await self.balance()).free
        require_funds(reserved_caps(deal.session), rules, free)
        return JobPlan(request=request, manifest=manifest, route=route, deal=deal, rules=rules, free_micro=free)

    async def route(self, request: Request) -> tuple[ModelManifest, Route, dict[bytes, int]]:
        """As `plan`, without money: the best route, and the round trips that were measured for it, by public key."""
        require_routable(self.config)
        require_tokens(request)
        manifest, market, found = await self._look_for_route(request)
        return manifest, found, market.round_trips

    async def _look_for_route(self, request: Request) -> tuple[ModelManifest, Market, Route]:
        manifest = await self.model(request.model)
        if self.config.trusted_ends or request.trusted_ends:  # whoever else is heard first may not do
            await self.offers(enough=lambda found: covers_trusted(self.config, found, manifest, request))
        if self.config.standbys:
            await self.offers(STANDBYS_S, enough=lambda found: covers_twice(found, manifest.root))
        if request.grammar:
            await self.offers(enough=partial(covers_held, manifest=manifest, text=request.grammar))
        network, roads = await self._join()
        offers = [(each.offer, each.sealed) for each in network.book.verified(manifest.root)]
        columns = network.book.columns.copy()
        await self.peers.refresh()  # with what other processes have seen since
        await self.ledger.connect()
        market = Market(
            request,
            self.config,
            manifest,
            offers,
            venue=self.ledger.domain.separator,
            clock=clock,
            standing=self.peers.standing,
            merit=network.merits.of,
            busy=self._busy.until,
            columns=columns,
        )
        return manifest, market, await self._route(market, roads)

    async def _route(self, market: Market, roads: Roads) -> Route:
        """The best route over nodes that answer; with those that are shunned only where there is none without them."""
        while True:
            await look(market, roads, stakes_by(self.ledger.account))
            try:
                return market.route()
            except NoRouteError:
                if not market.readmit():
                    raise

    async def execute(self, plan: JobPlan) -> Execution:
        """The answer to a plan's request, to be entered with ``async with`` and read with ``async for``."""
        _, roads = await self._join()
        side = ClientSide(
            key=self.key,
            settlement=self.ledger,
            order=roads.links.order,
            connect=roads.links.connect,
            keep=roads.links.keep,
            journal=self._journal(self.key.address),
            clock=clock,
            events=self._events,
            peers=self.peers,
        )
        with suppress(LocalError, OSError):  # it is kept for comfort
            self._names.remember(plan.manifest.name, plan.manifest.root)
        return Execution(plan, JobClient(side), self._elsewhere, self._events, self._keep_proof)

    def places(self, result: JobResult) -> list[str]:
        """Where the venue's books have what was done for a session: its opening, settlement and release."""
        shown = (result.opened, result.settled, result.released)
        return [self.ledger.taken(each).place for each in shown if each is not None]

    async def keep(
        self,
        result: JobResult,
        manifest: ModelManifest,
        *,
        text: tuple[str, str] | None = None,
        file: Path | None = None,
    ) -> Kept:
        """The receipt of what was served in a session, with prompt and answer for people unless the settings withhold
        them; written to a file that does not exist yet. Raises LocalError.
        """
        verifier_key = self.ledger.verifier_key
        for each in ("opened", "settled", "released"):
            setattr(result, each, await whole(self.ledger, getattr(result, each)))
        bundle = make_bundle(result, manifest, verifier_key=verifier_key, key=self.key, text=text)
        return keep_bundle(bundle, file, text=self.config.receipt_text)

    def _keep_proof(self, result: JobResult) -> None:
        venue, folder = self.ledger.verifier_key, self.config.data_dir / "proofs"
        keep_double(result, venue=venue, folder=folder, events=self._events)

    async def _elsewhere(self, plan: JobPlan, results: Sequence[JobResult]) -> JobPlan | JoulemeshError | None:
        """Another plan for what is left of a job that a provider failed, or why there is none; None where it would not
        help.
        """
        if not worth_another_try(results):
            return None
        network, roads = await self._join()
        self._busy.note(results[-1])
        await look_again(plan, results[-1], network, roads)
        return await plan_again(plan, results[-1], network.book, self.offers, self.plan)


@asynccontextmanager
async def open_client(config: ClientConfig, key: SigningKey | None, events: Events) -> AsyncIterator[Client]:
    """A client of the configured ledger; without a key it can only look. Raises UnreachableError."""
    raise_file_limit()
    own = SigningKey(secrets.token_bytes(32)) if key is None else key
    async with AsyncExitStack() as stack:
        worker = ThreadWorker("journal")
        stack.callback(worker.close)
        events = await stack.enter_async_context(open_traces(config, events))
        peers = await stack.enter_async_context(open_peers(config.data_dir, None, events))
        ledger = await stack.enter_async_context(open_venue(config))
        joining = asyncio.Lock()
        joined: list[tuple[Network, Roads]] = []

        async def join() -> tuple[Network, Roads]:
            from node.app.network.joining import join_market  # libp2p takes a second to load, and a balance needs none

            async with joining:
                if not joined:
                    joined.append(await join_market(stack, config, own, ledger, peers, events))
                return joined[0]

        yield Client(config, own, ledger, join, events, worker=worker, peers=peers)
