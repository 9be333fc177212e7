"""What every process on the network shares: one libp2p host, the offer book behind it, and the data plane."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from node.app.clock import clock
from node.app.presence import Presence
from node.events import CheckpointNotCompared, Events, LedgerContradiction, OfferRefused, PeerUnreached
from node.ledger import LedgerClient
from node.market import OfferBook, validate_offer
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.catalog import OfferList, OffersRequest
from protocol.codec import decode, encode
from protocol.errors import ConfigurationError, DishonestError, JoulemeshError, PeerError, UnreachableError
from protocol.names import BOOK_PROTOCOL, CHECKPOINTS_TOPIC, OFFERS_TOPIC
from protocol.note import parse_note
from protocol.offer import Offer
from protocol.routing import UNKNOWN_RTT_US
from protocol.signing import SigningKey

__all__ = ["Network", "open_network"]

MAX_BOOK_BYTES = 16 * 1024 * 1024
JOIN_S = 10.0
REJOIN_S = 10.0
ANSWER_S = 5.0
"""Seconds that a node has to answer a first ping; one that takes longer counts as silent."""
PING_ATTEMPTS = 3


class Network:
    """A host that has joined the gossip, and the offers that it has heard."""

    def __init__(self, host: P2PHost, events: Events) -> None:
        self.host = host
        self.book = OfferBook(clock)
        self.heard = asyncio.Event()
        """Set whenever an offer came in; whoever waits clears it."""
        self._events = events

    async def join(self, peers: Sequence[str]) -> int:
        """Connect to peers and take over their books; how many answered. Those that do not are reported, not fatal."""
        results = await asyncio.gather(*(self._join(peer) for peer in peers), return_exceptions=True)
        joined = 0
        for peer, result in zip(peers, results, strict=True):
            if isinstance(result, JoulemeshError):
                self._events(PeerUnreached(peer=peer, reason=result.message))
            elif isinstance(result, BaseException):
                raise result
            else:
                joined += 1
        return joined

    async def stay_joined(self, ledger: LedgerClient, peers: Sequence[str]) -> None:
        """Join again, until cancelled, whatever bootstrap peer was lost: a restarted ledger may have a new address."""
        presence = Presence(ledger.url, self._events, time.monotonic)
        wanted: tuple[str, ...] = tuple(peers)
        while True:
            await asyncio.sleep(REJOIN_S)
            try:
                wanted = (*(await ledger.info()).peers, *peers)
                presence.ledger_answered()
            except UnreachableError as error:  # asked again at the next turn
                presence.ledger_silent(error.message)
            connected = await self.host.peers()
            presence.peers(len(connected))
            await self.join([peer for peer in wanted if peer.rpartition("/p2p/")[2] not in connected])

    async def _join(self, peer: str) -> None:
        try:
            async with asyncio.timeout(JOIN_S):
                await self.fetch_book(await self.host.connect(peer))
        except TimeoutError:
            raise UnreachableError(f"no answer within {JOIN_S:.0f} s") from None

    async def fetch_book(self, peer_id: str) -> None:
        """Ask one peer for all offers that it knows; each is checked like one from gossip."""
        question = encode(OffersRequest(model=None))
        reply = await self.host.request(peer_id, BOOK_PROTOCOL, question, timeout_s=JOIN_S, max_reply=MAX_BOOK_BYTES)
        for sealed in decode(reply, OfferList, limit=MAX_BOOK_BYTES).sealed:
            self._take(sealed)

    async def ask_books(self) -> None:
        """Ask every connected peer for its book; those that do not answer are reported."""
        for peer in await self.host.peers():
            try:
                await self.fetch_book(peer)
            except JoulemeshError as error:
                self._events(PeerUnreached(peer=peer, reason=error.message))

    async def round_trips(self, offers: Sequence[Offer]) -> dict[bytes, int]:
        """Measured round trips to the nodes behind these offers: microseconds by public key, without the silent."""
        nodes = {offer.public_key: offer for offer in offers}
        measured = await asyncio.gather(*(self._round_trip(offer) for offer in nodes.values()))
        return {key: each for key, each in zip(nodes, measured, strict=True) if each is not None}

    async def _round_trip(self, offer: Offer) -> int | None:
        """To the node behind an offer, in microseconds; None where nobody proves its key in time."""
        for address in offer.addresses:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._ping(await self.host.connect(address))
            except (JoulemeshError, TimeoutError) as error:
                self._events(PeerUnreached(peer=address, reason=str(error) or "no answer in time"))
        return None

    async def _ping(self, peer: str) -> int:
        """A connected peer refuses pings beyond two at once by one key: then its round trip counts as unknown."""
        for _ in range(PING_ATTEMPTS):
            with contextlib.suppress(PeerError):
                return await self.host.ping(peer)
        return UNKNOWN_RTT_US

    async def follow_offers(self) -> None:
        """Take in offers from gossip until cancelled."""
        async for sealed in self._offers:
            self._take(sealed)

    async def follow_checkpoints(self, ledger: LedgerClient) -> None:
        """Hold every checkpoint that is gossiped against what the ledger shows here, until cancelled."""
        async for note in self._checkpoints:
            try:
                await ledger.compare(note)
            except DishonestError as error:
                self._events(LedgerContradiction(reason=error.message, note=note.decode()))
            except JoulemeshError as error:
                self._events(CheckpointNotCompared(reason=error.message))

    async def watch(self) -> None:
        """Until the host ends. Raises LocalError when it died."""
        await self.host.wait_closed()

    async def start(self) -> None:
        """Join the gossip, relaying what is well formed."""
        self._offers = await self.host.subscribe(OFFERS_TOPIC, self._validate)
        self._checkpoints = await self.host.subscribe(CHECKPOINTS_TOPIC, self._validate_note)
        self.host.serve(BOOK_PROTOCOL, self.serve_book, max_request=1024)

    async def serve_book(self, _peer: bytes, data: bytes) -> bytes:
        """Answer an `OffersRequest`."""
        wanted = decode(data, OffersRequest).model
        return encode(OfferList(sealed=tuple(self.book.sealed(wanted))[:4096]))

    def _take(self, sealed: bytes) -> None:
        try:
            if self.book.add(sealed):
                self.heard.set()
        except PeerError as error:
            self._events(OfferRefused(code=error.code, reason=error.message))

    @staticmethod
    def _validate(data: bytes) -> None:
        validate_offer(data, clock())

    @staticmethod
    def _validate_note(data: bytes) -> None:
        parse_note(data)


@asynccontextmanager
async def open_network(
    key: SigningKey, listen: str, events: Events, *, announce: Sequence[str] = ()
) -> AsyncIterator[Network]:
    """A running host that follows offers and serves its book, closed when the block ends.

    Raises:
        ListenError: the address is taken or malformed.
        ConfigurationError: it listens everywhere, and nothing says where others reach it.
    """
    if not announce and any(everywhere in listen for everywhere in ("/0.0.0.0/", "/::/")):
        raise ConfigurationError(
            f"listening on {listen} does not say where others reach this machine",
            hint="add --announce /ip4/ADDRESS/tcp/PORT",
        )
    async with TrioRuntime() as runtime:
        host = P2PHost(runtime, key.secret, listen, announce=announce)
        async with host:
            network = Network(host, events)
            await network.start()
            follower = asyncio.create_task(network.follow_offers(), name="offers")
            try:
                yield network
            finally:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
