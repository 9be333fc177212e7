"""What every process on the network shares: one libp2p host, the offer book behind it, and the data plane."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from node.app.network.merits import Merits
from node.app.network.presence import Presence
from node.app.network.round_trips import FRESH_S, Enough, RoundTrips
from node.app.process.clock import clock
from node.app.settlement.checkpoints import Checkpoints
from node.app.settlement.venue import Venue, peers_of
from node.events import Events, OfferRefused, PeerUnreached
from node.ledger_address import addresses_of
from node.market import EXCHANGE_S, Exchange, OfferBook, OfferGate, VerifiedOffer, picked
from node.p2p.address import check_peer_address
from node.p2p.dials import DialBudget, reach_of_url
from node.p2p.gossip import Subscription
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from node.ports import DialMemory
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, JoulemeshError, PeerError
from protocol.identity.peer_id import peer_id_of, public_key_of
from protocol.identity.signing import SigningKey
from protocol.market.catalog import MAX_LACKING, LackingRequest, OfferList, OffersRequest
from protocol.market.offer import MAX_SEALED_OFFER, Offer
from protocol.names import BOOK_PROTOCOL, LACKING_PROTOCOL, OFFERS_TOPIC
from protocol.reputation.merit import Merit
from protocol.routing.ways import UNKNOWN_RTT_US

__all__ = ["Network", "dials_beside", "open_network"]

MAX_BOOK_BYTES = 16 * 1024 * 1024
MAX_QUESTION_BYTES = 1024
MAX_MARKED_BYTES = 20 * 1024
"""Of a question with as many marks as there may be."""
MAX_LACKING_BYTES = MAX_LACKING * (MAX_SEALED_OFFER + 8)
JOIN_S = 10.0
REJOIN_S = 10.0
SOON_S = 1.5
"""Peers have so long to hand over their books before the ledger is asked for its own."""
ASK_LEDGER_S = 2.0
"""The ledger is not asked for offers more often."""
ANSWER_S = 8.0
"""Seconds that a node has to answer a first ping; one that takes longer counts as silent."""
REGULARS_S = 5.0
"""Between looks at who in the book has merit."""
MERITS_S = 180.0
"""Between questions to the ledger about who was paid."""
PING_ATTEMPTS = 3
NEWCOMERS = 4096
"""Offers of keys without merit in a book, as long as it hands them on to others."""
MOST_BOOKS = 16
"""Peers that are asked for their books at once."""
OFFERS_AT_ONCE = 32
"""Offers of a book that are checked before others have their turn."""
LOOKOUT_PEERS = 4
"""Peers that are asked at once whether they see an offer."""
FEW = 8
"""Other nodes; as long as there are no more, the bootstrap peers pass all that is said on to all."""
NEIGHBOURS = 6
"""Connections to have, where there are more nodes than that."""


class Network:
    """A host that has joined the gossip, and the offers that it has heard; made by `open_network`."""

    def __init__(
        self,
        host: P2PHost,
        events: Events,
        checkpoints: Checkpoints,
        *,
        merits: Merits,
        dials: DialBudget,
        newcomers: int = NEWCOMERS,
        exchange_s: float = EXCHANGE_S,
    ) -> None:
        self.host = host
        self.checkpoints = checkpoints
        self.merits = merits
        self.dials = dials
        """For whatever is dialled because an offer says so."""
        self.book = OfferBook(clock, merit=merits.of, most_guests=newcomers)
        self.heard = asyncio.Event()
        """Set whenever an offer came in; whoever waits clears it."""
        self._regulars = frozenset({host.public_key})
        """Keys whose offers are never thinned out; replaced as a whole, since another thread reads it."""
        self._events = events
        self._round_trips = RoundTrips(self._measure)
        self._exchange = Exchange(self.book, host.peers, self._ask_lacking, self._take_all, seconds=exchange_s)
        self._asked = 0
        """Peers that were asked for this node's own offers, so that each has its turn."""
        self._joining: set[asyncio.Task[None]] = set()
        self._ledger_asked: float | None = None
        self._ended = asyncio.Event()
        self._failure: Exception | None = None

    def is_known(self, public_key: bytes) -> bool:
        """Whether offers by this key are always looked at; called in the network's thread, too."""
        return public_key in self._regulars or self.merits.is_paid(public_key)

    async def join(self, peers: Sequence[str], ledger: Venue | None = None) -> None:
        """Connect to peers and take over their books. Those that do not answer are reported, not fatal.

        Where no book is here soon, the ledger's offers will do: peers that are slow to answer go on being joined.
        """
        joining = {asyncio.create_task(self._join(peer), name=f"join {peer}") for peer in peers}
        self._joining |= joining
        for task in joining:
            task.add_done_callback(self._joining.discard)
        try:
            late = (await asyncio.wait(joining, timeout=SOON_S))[1] if joining and ledger is not None else joining
            if ledger is not None and not self.book.offers():
                await self.ask_ledger(ledger)
            if late and not self.book.offers():
                await asyncio.wait(late)
        except asyncio.CancelledError:
            for task in joining:
                task.cancel()
            raise

    async def ask_ledger(self, ledger: Venue) -> None:
        """Take over the offers that the ledger shows; each is checked like one from gossip."""
        now = time.monotonic()
        if self._ledger_asked is not None and now - self._ledger_asked < ASK_LEDGER_S:
            return
        self._ledger_asked = now
        try:
            await self._take_all(await ledger.offers())
        except JoulemeshError as error:
            self._events(PeerUnreached(peer=ledger.url, reason=error.message))

    async def stay_joined(self, ledger: Venue, peers: Sequence[str]) -> None:
        """Join again, until cancelled, whatever bootstrap peer was lost: a restarted ledger may have a new address."""
        presence = Presence(ledger.url, self._events, time.monotonic)
        wanted: tuple[str, ...] = tuple(peers)
        while True:
            await asyncio.sleep(REJOIN_S)
            try:
                wanted = (*await peers_of(ledger), *peers)
                presence.ledger_answered()
            except JoulemeshError as error:  # silent, or what it says does not hold: asked again at the next turn
                presence.ledger_silent(error.message)
            connected = await self.host.peers()
            presence.peers(len(connected))
            if not connected:
                await self.ask_ledger(ledger)
            await self.join([peer for peer in wanted if peer.rpartition("/p2p/")[2] not in connected])
            await self.widen()

    async def widen(self) -> None:
        """Where there are many nodes, connect to some by chance besides the bootstrap peers, which pass on what is said
        to a few at a time. Those that do not answer are left alone: others are tried at the next turn.
        """
        connected = set(await self.host.peers())
        missing = NEIGHBOURS - len(connected)
        if missing <= 0:
            return
        others = {peer_id_of(each.public_key): each for each in self.book.offers()}
        others.pop(self.host.peer_id, None)
        if len(others) <= FEW:
            return
        strangers = [offer for peer_id, offer in sorted(others.items()) if peer_id not in connected]
        for offer in random.SystemRandom().sample(strangers, min(missing, len(strangers))):
            with contextlib.suppress(JoulemeshError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self.connect(offer.addresses[0])

    async def _join(self, peer: str) -> None:
        try:
            async with asyncio.timeout(JOIN_S):
                await self.fetch_book(await self.host.connect(peer))
        except TimeoutError:
            self._events(PeerUnreached(peer=peer, reason=f"no answer within {JOIN_S:.0f} s"))
        except JoulemeshError as error:
            self._events(PeerUnreached(peer=peer, reason=error.message))

    async def fetch_book(self, peer_id: str) -> None:
        """Ask one peer for all offers that it knows; each is checked like one from gossip."""
        self._require_alive()
        await self._take_all(await self._ask_book(peer_id, OffersRequest(model=None, node=None)))

    async def _take_all(self, book: Sequence[bytes]) -> None:
        for place, sealed in enumerate(picked(book, self.is_known), 1):
            self._take(partial(self.book.add, sealed))
            if place % OFFERS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def ask_node(self, offer: Offer) -> None:
        """Ask the node behind an offer for all offers that it knows, its own newest among them. Raises JoulemeshError
        where it does not answer.
        """
        async with asyncio.timeout(ANSWER_S):
            await self.fetch_book(await self.connect(offer.addresses[0]))

    async def offers_by(self, public_key: bytes) -> list[tuple[bytes, ...]]:
        """What a few connected peers, others at each call, show of a node's offers: one item for each that answers."""
        peers = sorted(await self.host.peers())
        chosen = [peers[(self._asked + turn) % len(peers)] for turn in range(min(LOOKOUT_PEERS, len(peers)))]
        self._asked += len(chosen)
        question = OffersRequest(model=None, node=public_key)
        answers = await asyncio.gather(*(self._ask_book(peer, question) for peer in chosen), return_exceptions=True)
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def _ask_book(self, peer_id: str, question: OffersRequest) -> tuple[bytes, ...]:
        reply = await self.host.request(
            peer_id, BOOK_PROTOCOL, encode(question), timeout_s=JOIN_S, max_reply=MAX_BOOK_BYTES
        )
        return decode(reply, OfferList, limit=MAX_BOOK_BYTES).sealed

    async def _ask_lacking(self, peer_id: str, question: LackingRequest) -> OfferList:
        data = encode(question)
        reply = await self.host.request(
            peer_id, LACKING_PROTOCOL, data, timeout_s=ANSWER_S, max_reply=MAX_LACKING_BYTES
        )
        return decode(reply, OfferList, limit=MAX_LACKING_BYTES)

    async def ask_books(self) -> None:
        """Ask every connected peer for its book; those that do not answer are reported."""
        peers = (await self.host.peers())[:MOST_BOOKS]
        for peer, result in zip(
            peers, await asyncio.gather(*map(self.fetch_book, peers), return_exceptions=True), strict=True
        ):
            if isinstance(result, JoulemeshError):
                self._events(PeerUnreached(peer=peer, reason=result.message))
            elif isinstance(result, BaseException):
                raise result

    async def round_trips(
        self,
        offers: Sequence[Offer],
        *,
        fresh_s: float = FRESH_S,
        patience_s: float | None = None,
        enough: Enough | None = None,
    ) -> dict[bytes, int]:
        """Round trips to the nodes behind these offers: microseconds by public key, without the silent.

        What was measured within `fresh_s` is reused; a node that was silent is tried again much sooner. Hand over a
        shortlist: each node that is not known costs a connection. For the rest see `RoundTrips.to`.
        """
        self._require_alive()
        return await self._round_trips.to(offers, fresh_s=fresh_s, patience_s=patience_s, enough=enough)

    async def _measure(self, offer: Offer) -> int | None:
        """To the node behind an offer, in microseconds; None where nobody proves its key in time."""
        for address in offer.addresses:
            try:
                async with asyncio.timeout(ANSWER_S):
                    us = await self._ping(await self.connect(address))
                    self.merits.answered(offer.public_key)
                    return us
            except (JoulemeshError, TimeoutError) as error:
                self._events(PeerUnreached(peer=address, reason=str(error) or "no answer in time"))
        self.merits.silent(offer.public_key)
        return None

    async def connect(self, address: str) -> str:
        """To where an offer says that its node is; its peer id."""
        async with self.dials.dial(address, public_key_of(check_peer_address(address))) as located:
            return await self.host.connect(located)

    async def _ping(self, peer: str) -> int:
        """A connected peer refuses pings beyond two at once by one key: then its round trip counts as unknown."""
        for _ in range(PING_ATTEMPTS):
            with contextlib.suppress(PeerError):
                return await self.host.ping(peer)
        return UNKNOWN_RTT_US

    async def follow_merits(self) -> None:
        """Ask the ledger every few minutes who was paid, until cancelled."""
        while True:
            await self.merits.refresh()
            await asyncio.sleep(MERITS_S)

    async def watch(self) -> None:
        """Until the network ends. Raises LocalError when the host died, and whatever else ended it."""
        await self._ended.wait()
        self._require_alive()

    def serve_books(self) -> None:
        """Answer whoever asks for offers."""
        few = partial(self.host.serve, at_once=8, at_once_of_peer=2)
        few(BOOK_PROTOCOL, self._show_book, max_request=MAX_QUESTION_BYTES)
        few(LACKING_PROTOCOL, self._show_lacking, max_request=MAX_MARKED_BYTES, rate=2.0, burst=20)

    async def _show_book(self, _peer: bytes, data: bytes) -> bytes:
        wanted = decode(data, OffersRequest)
        return encode(OfferList(sealed=tuple(self.book.sealed(wanted.model, wanted.node))[:4096]))

    async def _show_lacking(self, _peer: bytes, data: bytes) -> bytes:
        return encode(self._exchange.answer(decode(data, LackingRequest)))

    @asynccontextmanager
    async def following(self, offers: Subscription[VerifiedOffer]) -> AsyncIterator[None]:
        """Take in offers from gossip, and measure round trips, while the block runs."""
        async with self._round_trips:
            followers = [
                asyncio.create_task(self._follow(offers), name="offers"),
                asyncio.create_task(self._follow_regulars(), name="regulars"),
                asyncio.create_task(self._exchange.run(), name="exchange"),
            ]
            try:
                yield
            finally:
                for task in (*followers, *self._joining):
                    task.cancel()
                await asyncio.gather(*followers, *self._joining, return_exceptions=True)

    async def _follow_regulars(self) -> None:
        while True:
            await asyncio.sleep(REGULARS_S)
            keys = {offer.public_key for offer in self.book.offers()}
            known = {key for key in keys if self.merits.of(key) > Merit.NEWCOMER}
            self._regulars = frozenset({self.host.public_key, *known})

    async def _follow(self, offers: Subscription[VerifiedOffer]) -> None:
        try:
            async for verified in offers:
                self._take(partial(self.book.take, verified))
        except Exception as error:  # noqa: BLE001 - the task's owner is `watch`, which raises it
            self._failure = error
        finally:
            self._ended.set()

    def _require_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _take(self, take: Callable[[], bool]) -> None:
        """Let `take` put an offer in the book; tell those who wait, or why it was refused."""
        try:
            if take():
                self.heard.set()
        except PeerError as error:
            self._events(OfferRefused(code=error.code, reason=error.message))


async def dials_beside(ledger: str, memory: DialMemory) -> DialBudget:
    """For whoever settles on the ledger at these addresses: what is further in than the nearest is not dialled."""
    return DialBudget(min([await reach_of_url(each) for each in addresses_of(ledger)]), memory=memory)


@asynccontextmanager
async def open_network(
    key: SigningKey,
    listen: str,
    events: Events,
    *,
    announce: Sequence[str] = (),
    merits: Merits | None = None,
    dials: DialBudget | None = None,
    newcomers: int = NEWCOMERS,
) -> AsyncIterator[Network]:
    """A running host that follows offers and serves its book, closed when the block ends.

    Args:
        merits: whose offers are kept; by default nothing is known of anybody.
        dials: for what offers name; by default one that dials any address.
        newcomers: offers of keys without merit that are kept.

    Raises:
        ListenError: the address is taken or malformed.
        ConfigurationError: it listens everywhere, and nothing says where others reach it.
    """
    if not announce and any(everywhere in listen for everywhere in ("/0.0.0.0/", "/::/")):
        raise ConfigurationError(
            f"listening on {listen} does not say where others reach this machine",
            hint="add --announce /ip4/ADDRESS/tcp/PORT",
        )
    async with (
        TrioRuntime.open() as runtime,
        P2PHost.open(runtime, key.secret, listen, announce=announce) as host,
    ):
        network = Network(
            host,
            events,
            await Checkpoints.hear(host, events),
            merits=Merits(clock) if merits is None else merits,
            dials=DialBudget() if dials is None else dials,
            newcomers=newcomers,
        )
        gate = OfferGate(clock, network.is_known, time.monotonic)
        offers = await host.subscribe(OFFERS_TOPIC, gate.verify, admit=gate.admit)
        network.serve_books()
        async with network.following(offers):
            yield network
