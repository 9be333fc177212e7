"""Offers by throwaway keys, made from a real one; and a host that they name, which counts who dials it."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from node.p2p.host import P2PHost
from protocol.encoding.codec import decode, encode
from protocol.identity import signing
from protocol.identity.ids import BlockSpan, keccak256
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.catalog import OfferList, OffersRequest
from protocol.market.offer import Offer
from protocol.names import BOOK_PROTOCOL
from siege.attack import Target

__all__ = ["Victim", "book_of", "forge", "real_offers", "sealed_by_nobody", "sealed_raw", "victim"]

LIFE_S = 120
MINUTE_S = 60.0
BOOK_BYTES = 16 * 2**20


class Victim:
    """A listening socket that answers nothing."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dials: list[float] = []

    @property
    def worst_minute(self) -> int:
        """Most dials in any minute."""
        return max((sum(at <= each < at + MINUTE_S for each in self.dials) for at in self.dials), default=0)

    def addresses(self, public_key: bytes) -> dict[str, Any]:
        """Fields of an offer that name it."""
        return {
            "addresses": (f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{peer_id_of(public_key)}",),
            "data_addresses": (f"/ip4/127.0.0.1/tcp/{self.port}/tls",),
        }


@asynccontextmanager
async def victim() -> AsyncIterator[Victim]:
    made: list[Victim] = []

    async def dialled(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made[0].dials.append(time.monotonic())
        await asyncio.sleep(30)
        writer.transport.abort()

    server = await asyncio.start_server(dialled, "127.0.0.1", 0)
    made.append(Victim(server.sockets[0].getsockname()[1]))
    try:
        yield made[0]
    finally:
        server.close()


async def book_of(host: P2PHost, peer: str) -> list[bytes]:
    """The sealed offers that a peer knows."""
    question = encode(OffersRequest(model=None, node=None))
    reply = await host.request(peer, BOOK_PROTOCOL, question, max_reply=BOOK_BYTES)
    return list(decode(reply, OfferList, limit=BOOK_BYTES).sealed)


async def real_offers(host: P2PHost, target: Target) -> list[tuple[Offer, bytes]]:
    """What the nodes offer, with the bytes."""
    found = {}
    for node in target.nodes:
        peer = node.peer.rpartition("/")[2]
        for sealed in await book_of(host, peer):
            offer, _ = open_envelope(sealed, Offer)
            if peer_id_of(offer.public_key) == peer:
                found[peer] = offer, sealed
    return list(found.values())


def forge(real: Offer, key: SigningKey, **changes: Any) -> Offer:
    """A cheap offer of the whole model, by this key."""
    now = int(time.time())
    rates = real.rates.replace(
        opening=1, price_in=max(1, real.rates.price_in // 4), price_out=max(1, real.rates.price_out // 4),
        price_cached=0,
    )  # fmt: skip
    values = {
        "public_key": key.public_key,
        "sequence": now * 1000,
        "issued_at": now,
        "expires_at": now + LIFE_S,
        "span": BlockSpan(start=0, end=real.blocks),
        "addresses": tuple(
            f"{address.rpartition('/p2p/')[0]}/p2p/{peer_id_of(key.public_key)}" for address in real.addresses
        ),
        "rates": rates,
        "statements": (),
    }
    return real.replace(**{**values, **changes})


def sealed_raw(real: Offer, **raw: Any) -> bytes:
    """The same with raw values in fields, which the declarations need not allow; by a fresh key."""
    key = SigningKey(secrets.token_bytes(32))
    offer = forge(real, key)
    said = msgpack.unpackb(encode(offer))
    names = [field.name for field in dataclasses.fields(offer)]
    for name, value in raw.items():
        said[1 + names.index(name)] = value
    body = msgpack.packb(said)
    signature = key.sign_digest(keccak256(signing._ENVELOPE_PREFIX + body))
    return encode(signing.Envelope(body=body, signature=signature))


def sealed_by_nobody(real: Offer, **changes: Any) -> bytes:
    """The same by a fresh key."""
    key = SigningKey(secrets.token_bytes(32))
    return seal(forge(real, key, **changes), key)
