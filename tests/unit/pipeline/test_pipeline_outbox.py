"""What waits to be sent to one peer: bounded in frames and in bytes, whatever the frames carry."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from memory_links import MemoryLink, link_pair

from node.p2p.link import MAX_PAYLOAD_BYTES
from node.pipeline.serving.outbox import MAX_QUEUED, MAX_QUEUED_BYTES, Outbox
from node.ports import STRANGER
from protocol.errors import LostPeerError
from protocol.session.frames import Attach

pytestmark = pytest.mark.asyncio
FRAME = Attach(session=bytes(32))
LONGEST = bytes(MAX_PAYLOAD_BYTES)


def _links() -> tuple[MemoryLink, MemoryLink]:
    near, far = link_pair(b"near", b"far")
    far.allow(lambda: replace(STRANGER, payload=MAX_PAYLOAD_BYTES))
    return near, far


async def test_payloads_wait_up_to_a_number_of_bytes_and_there_is_room_again_once_they_are_sent() -> None:
    near, far = _links()
    outbox = Outbox(near)
    for _ in range(MAX_QUEUED_BYTES // MAX_PAYLOAD_BYTES):
        outbox.post(FRAME, LONGEST)
    with pytest.raises(LostPeerError, match="does not read"):
        outbox.post(FRAME, b"x")
    outbox.post(FRAME)
    sending = asyncio.create_task(outbox.run())
    for _ in range(MAX_QUEUED_BYTES // MAX_PAYLOAD_BYTES + 1):
        await far.receive()
    outbox.post(FRAME, LONGEST)
    await far.receive()
    await outbox.flush()
    await sending


async def test_frames_without_payload_are_bounded_by_their_number() -> None:
    near, _ = _links()
    outbox = Outbox(near)
    for _ in range(MAX_QUEUED):
        outbox.post(FRAME)
    with pytest.raises(LostPeerError, match="does not read"):
        outbox.post(FRAME)
