"""A client: offers, jobs, balances for one key. `joule offers`, `joule run` and the demo are thin layers over this."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from node.app.choice import choose_model, covers, covers_some_model, require_answers, route_among
from node.app.clock import clock
from node.app.models import fetch_manifest, fetch_tokenizer
from node.app.prompt import Prompt
from node.app.report import JobReport, build_report
from node.config import ClientConfig
from node.durable import replace_file
from node.events import Events
from node.ledger import LedgerClient
from node.p2p.direct import DataPlane
from node.p2p.identity import peer_id_of
from node.pipeline.client import JobClient, JobResult
from node.pipeline.reclaim import OpenSession, open_sessions, reclaim
from node.pipeline.vouchers import VoucherStore
from node.ports import Proven
from protocol.bundle import Bundle, LedgerProof, Verified, dump_bundle, verify_bundle
from protocol.errors import ConfigurationError, FundsError, JoulemeshError, LocalError, PeerError
from protocol.ids import ModelManifest, checksum_address
from protocol.messages import Leg, Session, Withdraw
from protocol.metering import Plan, leg_amount
from protocol.offer import Evidence, Offer
from protocol.order import Hop, JobOrder, SamplingTerms
from protocol.policy import LatencyClass, Policy, policy_hash
from protocol.routing import Route, route
from protocol.session import Account
from protocol.signing import SigningKey, address_of_public_key
from protocol.units import format_micro

if TYPE_CHECKING:
    from node.app.network import Network

__all__ = ["Client", "open_client"]

PROMPT_CHUNK = 256
"""Prompt tokens in one prepaid chunk."""
COLLECT_S = 5.0
"""Seconds to wait for offers that cover a model."""
LISTEN_NOWHERE = "/ip4/127.0.0.1/tcp/0"
"""A client dials; nobody has to reach it."""


class Client:
    """Everything that one key does as a client. Made by `open_client`; joins the network when it first needs it."""

    def __init__(
        self,
        config: ClientConfig,
        key: SigningKey,
        ledger: LedgerClient,
        join: Callable[[], Awaitable[tuple[Network, DataPlane]]],
        events: Events,
    ) -> None:
        self.config = config
        self.key = key
        self.ledger = ledger
        self._join = join
        self._events = events
        self._cache = config.data_dir / "models"
        self._journals: dict[bytes, VoucherStore] = {}

    async def _jobs(self) -> JobClient:
        network, plane = await self._join()
        return JobClient(
            self.key,
            self.ledger,
            network.host,
            plane.connect,
            self._journal(self.key.address),
            peer_id_of=peer_id_of,
            clock=clock,
            events=self._events,
        )

    # Money

    async def balance(self, address: bytes | None = None) -> Account:
        """An account on the ledger, proven; this client's own by default."""
        return await self.ledger.account(self.key.address if address is None else address)

    async def faucet(self, amount: int) -> Proven:
        """Play money on a local network, micro-units."""
        return await self.ledger.faucet(self.key.address, amount)

    async def withdraw(self, amount: int, reference: str) -> Proven:
        """Take free money out of the ledger, micro-units."""
        return await self.ledger.submit(Withdraw(amount=amount, reference=reference), self.key)

    async def open_sessions(self, address: bytes) -> list[OpenSession]:
        """What jobs of this account, run from here, left open on the ledger."""
        rules = await self.ledger.connect()
        return await open_sessions(self.ledger, self._journal(address), grace_s=rules.grace_s, now=clock())

    async def reclaim(self) -> int:
        """Have back what expired sessions still hold; micro-units. A job does so too, before it starts."""
        rules = await self.ledger.connect()
        journal = self._journal(self.key.address)
        return await reclaim(self.ledger, journal, self.key, grace_s=rules.grace_s, now=clock())

    def _journal(self, address: bytes) -> VoucherStore:
        if address not in self._journals:  # each has a thread of its own
            self._journals[address] = VoucherStore(self.config.data_dir / "sessions" / checksum_address(address))
        return self._journals[address]

    # Offers

    async def offers(
        self, wait_s: float = COLLECT_S, *, enough: Callable[[Sequence[Offer]], bool] | None = None
    ) -> list[Offer]:
        """Offers heard so far; waits until they are `enough` (by default: cover any model), or for `wait_s`."""
        network, _ = await self._join()
        deadline = time.monotonic() + wait_s
        done = covers_some_model if enough is None else enough
        while not done(found := network.book.offers()) and (left := deadline - time.monotonic()) > 0:
            network.heard.clear()
            try:
                async with asyncio.timeout(min(left, 0.5)):
                    await network.heard.wait()
            except TimeoutError:
                await network.ask_books()
        return list(found)

    # Jobs

    async def run(
        self,
        prompt: Prompt,
        on_text: Callable[[str], None],
        *,
        model: str | None = None,
        receipt_file: Path | None = None,
    ) -> tuple[JobReport, JobResult, Bundle | None]:
        """Route, open, run, pay, settle, and keep the receipt.

        Raises:
            RoutingError: no offers, gaps, or every offer excluded; says which and why.
            FundsError: the balance does not cover the caps.
            UnreachableError, RuleError: the ledger is down or refuses.
        """
        if receipt_file is not None:
            _require_writable(receipt_file)
        jobs, rules = await self._jobs(), await self.ledger.connect()
        await self.reclaim()
        network, _ = await self._join()
        offers = await self.offers(enough=lambda found: covers(found, model))
        root = choose_model(offers, model)
        offers = [offer for offer in offers if offer.model == root]
        round_trips = await network.round_trips(offers)
        require_answers(offers, round_trips)
        holders = [peer_id_of(public_key) for public_key in round_trips]
        manifest = await fetch_manifest(network.host, holders, root, self._cache)
        text = await fetch_tokenizer(network.host, holders, manifest, self._cache)
        tokens = await asyncio.to_thread(text.prompt_ids, prompt)
        most = min(self.config.max_tokens, manifest.max_context - len(tokens))
        if not tokens or most < 1:
            raise ConfigurationError(
                f"the prompt has {len(tokens)} tokens; the model takes 1 to {manifest.max_context - 1}",
                hint="shorten the prompt" if tokens else "write something to ask",
            )
        found = self._route(offers, round_trips, manifest, (len(tokens), most))
        order = self._order(found, manifest, len(tokens), most)
        before = await self._require_funds(order.session)
        answer: list[str] = []

        def on_token(token: int) -> None:
            piece = text.piece(token)
            on_text(piece.lstrip() if not any(answer) else piece)
            answer.append(piece)

        result = await jobs.run(order, manifest, tokens, on_token)
        bundle = await self._bundle(result, manifest)
        verified = _verified(bundle)
        answered = text.decode(result.tab.tokens[len(tokens) :]).strip()
        if bundle is not None and receipt_file is not None:
            _keep_receipt(receipt_file, dump_bundle(bundle, text=(prompt.shown, answered)))
        report = build_report(
            result,
            found,
            model=manifest.name,
            text=(prompt.shown, answered),
            balances=(before, await self._balance_or_none()),
            grace_s=rules.grace_s,
            receipt_file=receipt_file if bundle is not None else None,
            verified=verified,
        )
        return report, result, bundle

    def _route(
        self, offers: Sequence[Offer], round_trips: Mapping[bytes, int], manifest: ModelManifest, job: tuple[int, int]
    ) -> Route:
        prompt, most = job  # tokens of the prompt, and of the longest answer
        find = partial(
            route,
            policy=self._policy(manifest),
            model=manifest.root,
            blocks=manifest.blocks,
            venue=self.ledger.domain.separator,
            now=clock(),
            rtt_us=round_trips,
            latency_weight=self.config.latency_weight_micro_per_ms,
            tokens_needed=prompt + most,
            prompt_milli=1000 * prompt // (prompt + most),
        )
        return route_among(offers, round_trips, find)

    def _policy(self, manifest: ModelManifest) -> Policy:
        config = self.config
        return Policy(
            latency_class=LatencyClass(config.latency_class),
            max_price_in=config.max_price_in_micro,
            max_price_out=config.max_price_out_micro,
            allow=config.allow,
            deny=config.deny,
            min_evidence=Evidence(config.min_evidence),
            min_stake=0,
            precision=manifest.precision if config.precision is None else config.precision,
        )

    def _order(self, found: Route, manifest: ModelManifest, prompt: int, most: int) -> JobOrder:
        policy = self._policy(manifest)
        plan = Plan(prompt=prompt, most=most, chunk=PROMPT_CHUNK, window=self.config.window)
        legs = tuple(
            Leg(
                provider=address_of_public_key(leg.offer.public_key),
                price_in=leg.price_in,
                price_out=leg.price_out,
                cap=0,
            )
            for leg in found.legs
        )
        now = clock()
        terms = Session(
            client=self.key.address,
            expiry=now + self.config.session_s,
            window=self.config.window,
            model=manifest.root,
            policy=policy_hash(policy),
            salt=secrets.token_bytes(32),
            legs=tuple(leg.replace(cap=leg_amount(leg, prompt, most)) for leg in legs),
        )
        hops = tuple(
            Hop(public_key=leg.offer.public_key, data_address=leg.offer.data_address, span=leg.span)
            for leg in found.legs
        )
        return JobOrder(
            venue=self.ledger.domain.separator,
            session=terms,
            leg=0,
            hops=hops,
            plan=plan,
            policy=policy,
            sampling=SamplingTerms(temperature_milli=self.config.temperature_milli, seed=self.config.seed),
            issued_at=now,
        )

    async def _require_funds(self, terms: Session) -> int:
        free = (await self.balance()).free
        needed = sum(leg.cap for leg in terms.legs)
        if free < needed:
            raise FundsError(
                f"balance too low: the job reserves up to {format_micro(needed)}, {format_micro(free)} is free, "
                f"{format_micro(needed - free)} is missing",
                hint="deposit the missing amount (`joule faucet` on a local network), or lower --max-tokens",
            )
        return free

    async def _balance_or_none(self) -> int | None:
        try:
            return (await self.ledger.account(self.key.address)).free
        except JoulemeshError:
            return None

    async def _bundle(self, result: JobResult, manifest: ModelManifest) -> Bundle | None:
        """The receipt bundle; None where nothing was settled."""
        if result.opened is None or result.settled is None or result.pay is None:
            return None
        return Bundle(
            verifier_key=(await self.ledger.connect()).verifier_key,
            manifest=manifest,
            order=result.sealed_orders[0],
            tokens=tuple(result.tab.tokens),
            windows=tuple(result.tab.windows),
            pay=result.pay,
            opened=_proof(result.opened),
            settled=_proof(result.settled),
            closed=None if result.closed is None else _proof(result.closed),
        )


def _proof(proven: Proven) -> LedgerProof:
    return LedgerProof(proven.entry, proven.index, proven.proof, proven.checkpoint)


def _verified(bundle: Bundle | None) -> Verified | None:
    try:
        return None if bundle is None else verify_bundle(bundle)
    except PeerError:
        return None


def _require_writable(path: Path) -> None:
    """Raises LocalError for a place where no file can be made: before the job is paid, not after."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise LocalError(f"cannot write {path}: no such folder, or not yours", hint="give --receipt another place")


def _keep_receipt(path: Path, text: str) -> None:
    """Raises LocalError."""
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}", hint="give --receipt another place") from None


@asynccontextmanager
async def open_client(config: ClientConfig, key: SigningKey | None, events: Events) -> AsyncIterator[Client]:
    """A client of the configured ledger; without a key it can only look.

    Raises:
        UnreachableError: the ledger does not answer.
    """
    own = SigningKey(secrets.token_bytes(32)) if key is None else key
    remembered = config.data_dir / "ledgers" / f"{quote(config.ledger, safe='')}.json"
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(LedgerClient(config.ledger, remembered=remembered))
        joining = asyncio.Lock()
        joined: list[tuple[Network, DataPlane]] = []

        async def join() -> tuple[Network, DataPlane]:
            from node.app.network import open_network  # libp2p takes a second to load, and a balance needs none

            async with joining:
                if not joined:
                    info = await ledger.info()
                    # A passing name on libp2p: commands of one key may run at once, and peers learn no client's key.
                    passing = SigningKey(secrets.token_bytes(32))
                    network = await stack.enter_async_context(open_network(passing, LISTEN_NOWHERE, events))
                    await network.join((*info.peers, *config.peers))
                    plane = DataPlane(own.secret)
                    stack.push_async_callback(plane.close)
                    joined.append((network, plane))
                return joined[0]

        yield Client(config, own, ledger, join, events)
