"""Timing a peer that signs nonces: what it takes, who may answer, and what is signed for."""

from __future__ import annotations

import asyncio

import pytest
import trio

from node.app.selling.anchoring import Timings, serve_times
from node.events import Event, PeerUnreached
from node.p2p import timing
from node.p2p.host import P2PHost
from protocol.errors import LostPeerError, RefusedError, SignatureError
from protocol.identity.signing import SigningKey, open_envelope
from protocol.market.offer import Statement
from protocol.names import CHALLENGE_PROTOCOL, TIME_PROTOCOL
from protocol.policy.challenge import answer_of

pytestmark = pytest.mark.asyncio
ANCHOR = SigningKey(b"\x31" * 32)
NODE = SigningKey(b"\x32" * 32)
NOW = 1_800_000_000


async def anchor_and_node(new_host) -> tuple[P2PHost, P2PHost]:
    """The node is connected to the anchor."""
    anchor, node = await new_host(ANCHOR.secret), await new_host(NODE.secret)
    await node.connect(anchor.addresses[0])
    return anchor, node


def answering(node: P2PHost, answer) -> None:
    async def handle(stream) -> None:
        await answer(stream)

    node._bridge.post(lambda: node._backend.host.set_stream_handler(CHALLENGE_PROTOCOL, handle))


async def test_an_anchor_times_a_node_and_signs_for_it(new_host):
    anchor, node = await anchor_and_node(new_host)
    node.answer_challenges()
    told: list[tuple[bytes, int]] = []
    serve_times(anchor, ANCHOR, lasts_s=600, now=lambda: NOW, tell=lambda key, us: told.append((key, us)))
    sealed = await node.request(anchor.peer_id, TIME_PROTOCOL, b"")
    said, signer = open_envelope(sealed, Statement)
    assert signer == ANCHOR.address
    assert (said.subject, said.claim) == (NODE.public_key, "rtt")
    assert (said.issued_at, said.expires_at) == (NOW, NOW + 600)
    assert told == [(NODE.public_key, int(said.value))]
    assert 0 < int(said.value) < 5_000_000


async def test_nodes_of_one_list_time_one_another_and_none_itself(new_host):
    one, other = await anchor_and_node(new_host)
    anchors, heard, told = (one.addresses[0], other.addresses[0]), asyncio.Event(), list[Event]()
    for host, key in ((one, ANCHOR), (other, NODE)):
        host.answer_challenges()
        serve_times(host, key, lasts_s=600, now=lambda: NOW)
    timings = [Timings(host, anchors, lambda: NOW, told.append, heard.set) for host in (one, other)]
    running = [asyncio.create_task(each.run()) for each in timings]
    while not all(each.sealed() for each in timings):
        heard.clear()
        await heard.wait()
    for task in running:
        task.cancel()
    said = [[open_envelope(each, Statement) for each in timing.sealed()] for timing in timings]
    assert [[(each.subject, signer) for each, signer in found] for found in said] == [
        [(ANCHOR.public_key, NODE.address)],
        [(NODE.public_key, ANCHOR.address)],
    ]
    assert told == []


async def test_a_node_that_answers_late_looks_further_away(new_host):
    anchor, node = await anchor_and_node(new_host)

    async def late(stream) -> None:
        for _ in range(timing.ROUNDS):
            nonce = await timing._read(stream, 32)
            await trio.sleep(0.05)
            await stream.write(answer_of(nonce, NODE))
        await stream.read(1)

    answering(node, late)
    assert await anchor.time(NODE.public_key) >= 50_000


async def test_nobody_answers_for_another(new_host):
    anchor, node = await anchor_and_node(new_host)

    async def with_another_key(stream) -> None:
        await timing.answer_challenges(stream, ANCHOR)

    answering(node, with_another_key)
    with pytest.raises(SignatureError):
        await anchor.time(NODE.public_key)


async def test_an_answer_made_before_is_none(new_host):
    """Whoever signs what it was asked first, and sends it again, is not timed."""
    anchor, node = await anchor_and_node(new_host)

    async def again(stream) -> None:
        first = answer_of(await timing._read(stream, 32), NODE)
        for _ in range(timing.ROUNDS):
            await stream.write(first)
        await stream.read(1)

    answering(node, again)
    with pytest.raises(SignatureError):
        await anchor.time(NODE.public_key)


async def test_a_node_that_goes_away_is_not_timed(new_host):
    anchor, node = await anchor_and_node(new_host)

    async def leaves(stream) -> None:
        await timing._read(stream, 32)
        await stream.reset()

    answering(node, leaves)
    with pytest.raises(LostPeerError):
        await anchor.time(NODE.public_key)


async def test_who_signs_no_challenges_is_refused_a_statement(new_host):
    anchor, node = await anchor_and_node(new_host)
    serve_times(anchor, ANCHOR, lasts_s=600, now=lambda: NOW)
    with pytest.raises(RefusedError):
        await node.request(anchor.peer_id, TIME_PROTOCOL, b"")


async def test_a_node_keeps_what_its_anchors_sign(new_host):
    anchor, node = await anchor_and_node(new_host)
    node.answer_challenges()
    serve_times(anchor, ANCHOR, lasts_s=600, now=lambda: NOW)
    heard: list[Event] = []
    newer, now = asyncio.Event(), [NOW]
    dead = "/ip4/127.0.0.1/tcp/9/p2p/16Uiu2HAkvLVrEhLrbPsdcNjiPbE4uGrSGn2kHjKGFTYiB6qSZJ4y"
    timings = Timings(node, (dead, anchor.addresses[0]), lambda: now[0], heard.append, newer.set)
    task = asyncio.create_task(timings.run())
    await asyncio.wait_for(newer.wait(), 30)
    (sealed,) = timings.sealed()
    assert open_envelope(sealed, Statement)[0].claim == "rtt"
    assert [each.peer for each in heard if isinstance(each, PeerUnreached)] in ([dead], [])
    now[0] += 600
    assert timings.sealed() == (), "it has expired"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
