"""Timing a peer that signs nonces, on a stream of its own. Runs in the trio thread.

::

    anchor -> node   32 unpredictable bytes
    node -> anchor   64 bytes: its signature over them            5 times over, one after the other

Trust: the node can answer late, and cannot answer early: it would have to know the nonce. Whoever opens such a stream
gets a few signatures that mean nothing elsewhere, at the pace that streams are taken at.
"""

from __future__ import annotations

import os
import time
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError

from node.p2p.pace import Pace
from node.p2p.requests import open_stream, reset
from protocol.errors import LostPeerError
from protocol.identity.signing import SigningKey
from protocol.names import CHALLENGE_PROTOCOL
from protocol.policy.challenge import ANSWER_BYTES, NONCE_BYTES, answer_of, check_answer

__all__ = ["PING_BYTES", "PING_PROTOCOL", "answer_challenges", "answer_pings", "time_peer"]

PING_PROTOCOL = "/ipfs/ping/1.0.0"
PING_BYTES = 32
_PINGS_PER_S = 10.0
_PINGS_AT_ONCE = 20
_NEXT_PING_S = 60.0
ROUNDS = 5
_ANSWER_S = 5.0
"""For the whole of it."""


async def time_peer(host: Any, peer_id: str, public_key: bytes) -> int:
    """Microseconds, rounded up, from a nonce to its signature by this key: the shortest of a few.

    Raises:
        SignatureError: somebody else signs.
        RefusedError, UnreachableError, LostPeerError: as `open_stream`; or it does not answer.
    """
    stream = await open_stream(host, peer_id, CHALLENGE_PROTOCOL)
    try:
        with trio.fail_after(_ANSWER_S):
            return min([await _once(stream, public_key) for _ in range(ROUNDS)])
    except (BaseLibp2pError, trio.TooSlowError) as error:
        raise LostPeerError(f"{peer_id} was lost: {type(error).__name__}") from None
    finally:
        await reset(stream)


async def _once(stream: Any, public_key: bytes) -> int:
    nonce = os.urandom(NONCE_BYTES)
    sent = time.perf_counter_ns()
    await stream.write(nonce)
    answer = await _read(stream, ANSWER_BYTES)
    us = -(-(time.perf_counter_ns() - sent) // 1000)
    check_answer(nonce, answer, public_key)
    return us


async def answer_challenges(stream: Any, key: SigningKey) -> None:
    """Serve one stream."""
    try:
        with trio.move_on_after(2 * _ANSWER_S):
            for _ in range(ROUNDS):
                await stream.write(answer_of(await _read(stream, NONCE_BYTES), key))
            await stream.read(1)  # until the other side ends it: what was written last must arrive
    finally:
        await reset(stream)


async def answer_pings(stream: Any) -> None:
    """Serve one stream, which is read no faster than pings are worth answering: the library's answer has no bound."""
    pace = Pace(_PINGS_PER_S, _PINGS_AT_ONCE, trio.current_time())
    try:
        while True:
            with trio.fail_after(_NEXT_PING_S):
                nonce = await _read(stream, PING_BYTES)
                await stream.write(nonce)
            await trio.sleep(pace.take(trio.current_time()))
    finally:
        await reset(stream)


async def _read(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await stream.read(size - len(data))
        if not chunk:
            raise LostPeerError("the stream ended")
        data += chunk
    return data
