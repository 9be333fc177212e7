"""Question and answer over one libp2p stream: each a length and that many bytes. Runs in the trio thread.

::

    question   u32 length, bytes
    answer     u8 tag (0 answer, 1 refusal), u32 length, bytes        a refusal is a `RequestRefused` message

Lengths are big endian and checked before anything is read. The asker reads while it writes, so that the refusal of a
question that is too long arrives although nobody takes the rest of the question.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID

from node.p2p.guests import Room
from node.p2p.usage import Usage
from protocol.encoding.codec import decode, encode
from protocol.encoding.text import to_plain_text
from protocol.errors import JoulemeshError, LostPeerError, MalformedError, RefusedError, UnreachableError
from protocol.identity.peer_id import public_key_of
from protocol.market.catalog import RequestRefused

__all__ = ["Answer", "Service", "answer_stream", "ask", "open_stream", "refusal_of", "reset"]

Answer = Callable[[bytes, bytes], Awaitable[bytes]]
"""(the asker's public key, the question) -> the answer; raises JoulemeshError to refuse."""

_ARRIVING_BYTES = 8 * 1024 * 1024
"""Of questions on one protocol that have not arrived whole: 128 of the longest orders."""
_ARRIVING_BYTES_OF_PEER = 512 * 1024
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BI")
_ANSWER, _REFUSAL = 0, 1
_MAX_REFUSAL_BYTES = 1024
_CHUNK_BYTES = 64 * 1024
_QUESTION_LIMIT_S = 10.0
"""For a whole question to arrive."""
_ANSWER_LIMIT_S = 30.0
"""For an answer to be taken."""
_LINGER_S = 2.0
"""A refused asker has so long to stop sending before its stream is reset."""


async def open_stream(host: Any, peer_id: str, protocol: str) -> Any:
    """A new stream to a peer, which is dialled when it is not connected and an address is known.

    Raises:
        UnreachableError: no connection to the peer, and none can be made.
        RefusedError: the peer does not speak `protocol` (code `no-such-protocol`).
    """
    try:
        return await host.new_stream(ID.from_base58(peer_id), [protocol])
    except StreamFailure as error:
        if "not found" in str(error.__cause__) or "not supported" in str(error.__cause__):
            raise RefusedError(f"{peer_id} does not answer {protocol}", code="no-such-protocol") from None
        raise LostPeerError(f"{peer_id} did not agree on a protocol: {error.__cause__ or error}") from None
    except SwarmException as error:
        raise UnreachableError(f"no connection to {peer_id}: {error}", hint="check that the peer is running") from None
    except Exception as error:  # noqa: BLE001 - libp2p lets the errors of all its layers through here
        raise LostPeerError(f"{peer_id} was lost: {type(error).__name__} {error}") from None


async def ask(host: Any, peer_id: str, protocol: str, question: bytes, max_reply: int) -> bytes:
    """Ask a peer, and wait for the answer as long as it takes; cancel to give up.

    Raises:
        RefusedError: the peer refused; `code` is the peer's.
        MalformedError: the peer's answer is longer than `max_reply` or no answer at all.
        UnreachableError, LostPeerError: it cannot be reached, or went away meanwhile.
    """
    stream = await open_stream(host, peer_id, protocol)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write_or_leave, stream, _LENGTH.pack(len(question)) + question)
            outcome = await _attempt(_read_answer(stream, max_reply))
            nursery.cancel_scope.cancel()
        if isinstance(outcome, JoulemeshError):
            raise outcome
        if isinstance(outcome, Exception):
            raise LostPeerError(f"{peer_id} was lost: {type(outcome).__name__} {outcome}")
    finally:
        await reset(stream)  # both sides have said all, or one is lost
    tag, answer = outcome
    if tag == _REFUSAL:
        refusal = decode(answer, RequestRefused)
        raise RefusedError(refusal.reason, code=refusal.code)
    return answer


class Service:
    """How one protocol is answered, and what all who ask by it may take up together.

    Args:
        max_request: bytes of one question.
        at_once, at_once_of_peer: questions being answered, until their answers are taken.
    """

    def __init__(self, answer: Answer, *, max_request: int, at_once: int, at_once_of_peer: int) -> None:
        self.answer = answer
        self.max_request = max_request
        self.arriving = Room(max(_ARRIVING_BYTES, 4 * max_request), max(_ARRIVING_BYTES_OF_PEER, 2 * max_request))
        self.answered = Room(at_once, at_once_of_peer)


async def answer_stream(stream: Any, service: Service, usage: Usage) -> None:
    """Serve one stream: read the question, have it answered, write the answer or the refusal."""
    peer = stream.muxed_conn.peer_id
    try:
        asker = public_key_of(str(peer))
        try:
            question = await _read_question(stream, service)
        except (MalformedError, RefusedError) as error:
            with trio.move_on_after(_LINGER_S):
                await _write_refusal(stream, error)
                while await stream.read(_CHUNK_BYTES):
                    pass
            return
        with usage.serving(peer):
            await _answer(stream, service, asker, question)
        await stream.close()
    finally:
        await reset(stream)  # does nothing to a stream that is closed


async def _answer(stream: Any, service: Service, asker: bytes, question: bytes) -> None:
    reply: bytes | JoulemeshError
    with ExitStack() as stack:
        try:
            stay = stack.enter_context(service.answered.stay(asker, gives_way=False))
            reply = await service.answer(asker, question)
            stay.gives_way = True  # from here on the asker is waited for
        except JoulemeshError as error:
            reply = error
        if isinstance(reply, JoulemeshError):
            await _write_refusal(stream, reply)
        else:
            with trio.fail_after(_ANSWER_LIMIT_S):
                await stream.write(_HEAD.pack(_ANSWER, len(reply)))
                await stream.write(reply)


def refusal_of(error: JoulemeshError) -> RequestRefused:
    """What is told to the asker of an error: its code and message, cut to what may travel."""
    return RequestRefused(code=to_plain_text(error.code, 96), reason=to_plain_text(error.message, 512))


async def reset(stream: Any) -> None:
    """Reset a stream, whatever its state, whether or not the task is cancelled."""
    with trio.move_on_after(1.0) as scope:
        scope.shield = True
        await stream.reset()


async def _attempt(reading: Awaitable[tuple[int, bytes]]) -> tuple[int, bytes] | Exception:
    try:
        return await reading
    except Exception as error:  # noqa: BLE001 - returned, so that no group of errors is made around it
        return error


async def _write_or_leave(stream: Any, data: bytes) -> None:
    try:
        await stream.write(data)
    except Exception:  # noqa: BLE001 - what matters is what the reader finds: an answer, or the same loss
        return


async def _write_refusal(stream: Any, error: JoulemeshError) -> None:
    body = encode(refusal_of(error))
    with trio.fail_after(_ANSWER_LIMIT_S):
        await stream.write(_HEAD.pack(_REFUSAL, len(body)) + body)


async def _read_answer(stream: Any, max_reply: int) -> tuple[int, bytes]:
    tag, length = _HEAD.unpack(await _read_exactly(stream, _HEAD.size))
    if tag not in (_ANSWER, _REFUSAL):
        raise MalformedError(f"an answer begins with 0 or 1, not {tag}")
    limit = max_reply if tag == _ANSWER else _MAX_REFUSAL_BYTES
    if length > limit:
        raise MalformedError(f"an answer of {length} bytes where {limit} are allowed", code="too-long")
    return tag, await _read_exactly(stream, length)


async def _read_question(stream: Any, service: Service) -> bytes:
    with trio.fail_after(_QUESTION_LIMIT_S):
        length = await _read_length(stream, service.max_request)
        with service.arriving.stay(stream.muxed_conn.peer_id, length):
            return await _read_exactly(stream, length)


async def _read_length(stream: Any, limit: int) -> int:
    (length,) = _LENGTH.unpack(await _read_exactly(stream, _LENGTH.size))
    if length > limit:
        raise MalformedError(f"a question of {length} bytes where {limit} are allowed", code="too-long")
    return int(length)


async def _read_exactly(stream: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = await stream.read(min(size - len(data), _CHUNK_BYTES))
        if not chunk:
            raise LostPeerError("the stream ended in the middle of a message")
        data += chunk
    return bytes(data)
