"""Attacks on the ledger's HTTP door, and on what it says by gossip."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets

import aiohttp

from node.ledger import LedgerClient
from protocol.identity.signing import SigningKey
from protocol.names import CHECKPOINTS_TOPIC
from protocol.settlement.operations import Withdraw
from siege.attack import Budget, Ground, Surface, attack
from siege.gossip import talkers
from siege.sockets import Up, connect, flood, hold_open, http_place, until_cut


async def _hold_request(ground: Ground, words: bytes, dribble: bytes) -> None:
    """Requests that never end: some words at once, and a little more each second."""
    place = http_place(ground.target.ledger)

    async def act(_number: int, up: Up) -> None:
        reader, writer = await connect(place)
        reading = asyncio.create_task(until_cut(reader))
        try:
            writer.write(words)
            up()
            while not reading.done():
                await asyncio.wait({reading}, timeout=1.0)
                writer.write(dribble)
        finally:
            reading.cancel()
            writer.transport.abort()

    await hold_open(ground, act)


@attack(Surface.LEDGER, short=250, long=1_030, on="ledger", at_least_s=45.0, fresh=True)
async def ledger_slow_requests(ground: Ground) -> None:
    """Operations that are sent byte by byte."""
    head = b"POST /ops HTTP/1.1\r\nHost: ledger\r\nContent-Length: 60000\r\n\r\n"
    await _hold_request(ground, head, b"\x92")


@attack(Surface.LEDGER, short=0, long=1_030, on="ledger", at_least_s=45.0)
async def ledger_slow_heads(ground: Ground) -> None:
    """Requests whose head never ends."""
    await _hold_request(ground, b"GET /info HTTP/1.1\r\nHost: ledger\r\n", b"X-A: b\r\n")


@attack(Surface.LEDGER, short=0, long=2_000, on="ledger")
async def ledger_slow_readers(ground: Ground) -> None:
    """Askers who take no answer."""
    place = http_place(ground.target.ledger)

    async def act(_number: int, up: Up) -> None:
        reader, writer = await connect(place)
        try:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                writer.write(b"GET /info HTTP/1.1\r\nHost: ledger\r\n\r\n")
                await writer.drain()
            up()
            await asyncio.sleep(60)
        finally:
            writer.transport.abort()

    await hold_open(ground, act)


async def _ask(ground: Ground, words: bytes) -> None:
    place = http_place(ground.target.ledger)

    async def act(_number: int) -> None:
        reader, writer = await connect(place)
        try:
            writer.write(words)
            await until_cut(reader)
        finally:
            writer.transport.abort()

    await flood(ground, act)


@attack(Surface.LEDGER, short=300, long=10_000, on="ledger")
async def ledger_garbage(ground: Ground) -> None:
    """Connections that say noise."""
    await _ask(ground, os.urandom(3000) + b"\r\n\r\n")


@attack(Surface.LEDGER, short=0, long=10_000, on="ledger")
async def ledger_closed(ground: Ground) -> None:
    """Connections that are closed as soon as they stand."""
    place = http_place(ground.target.ledger)

    async def act(_number: int) -> None:
        _, writer = await connect(place)
        writer.close()

    await flood(ground, act)


@attack(Surface.LEDGER, short=100, long=2_000, on="ledger")
async def ledger_huge_heads(ground: Ground) -> None:
    """Requests with a megabyte of headers."""
    await _ask(ground, b"GET /info HTTP/1.1\r\n" + b"X-A: " + b"a" * 2**20 + b"\r\n\r\n")


@attack(Surface.LEDGER, short=200, long=5_000, on="ledger")
async def ledger_malformed_operations(ground: Ground) -> None:
    """Operations that are none, at full speed."""
    async with aiohttp.ClientSession() as session:

        async def act(_number: int) -> None:
            async with session.post(f"{ground.target.ledger}/ops", data=os.urandom(500)) as answer:
                ground.tally[f"status_{answer.status}"] += 1
                await answer.read()

        await flood(ground, act)


@attack(Surface.LEDGER, short=150, long=5_000, on="ledger", fresh=True)
async def ledger_faucet_flood(ground: Ground) -> None:
    """Play money for thousands of new accounts."""
    async with aiohttp.ClientSession() as session:

        async def act(_number: int) -> None:
            body = {"account": f"0x{secrets.token_hex(20)}", "amount": "1"}
            async with session.post(f"{ground.target.ledger}/faucet", json=body) as answer:
                ground.tally[f"status_{answer.status}"] += 1
                await answer.read()

        await flood(ground, act)


@attack(Surface.LEDGER, short=60, long=3_000, on="ledger", budget=Budget.PLAY)
async def ledger_operations_of_one_key(ground: Ground) -> None:
    """Operations of one key, as fast as it can sign; each costs it the fee."""
    key = SigningKey(secrets.token_bytes(32))
    async with LedgerClient(ground.target.ledger) as ledger:
        await ledger.faucet(key.address, 1_000_000)
        before = (await ledger.account(key.address)).free
        action = Withdraw(actor=key.address, nonce=0, amount=1, reference="siege")

        async def act(_number: int) -> None:
            await ledger.submit(action, key)

        await flood(ground, act, at_once=8)
        ground.tally["spent_micro"] = before - (await ledger.account(key.address)).free


@attack(Surface.LEDGER, short=100, long=2_000, on="node0")
async def checkpoints_with_junk_signatures(ground: Ground) -> None:
    """The ledger's own checkpoint, again and again, each time with another stranger's signature on it."""
    async with LedgerClient(ground.target.ledger) as ledger, talkers(ground.target, 1) as (host,):
        await ledger.checkpoint()
        note = ledger.note or b""

        async def act(number: int) -> None:
            junk = base64.b64encode(number.to_bytes(4, "big") + secrets.token_bytes(64)).decode()
            await host.publish(CHECKPOINTS_TOPIC, note + f"\u2014 stranger{number} {junk}\n".encode())

        await flood(ground, act, at_once=4)
