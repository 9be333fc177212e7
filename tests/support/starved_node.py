"""A market in a process of its own that is starved of descriptors or of disk, and what becomes of its orders and jobs.

Run as a program: ``starved_node.py descriptors|disk|full FOLDER``; it prints what happened as JSON. Every step must be
reached: that nothing ends the process is the point.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hand_client import Hand, expect, send
from small_market import SmallMarket, limits_of

from node.events import DiskRefused
from protocol.errors import JoulemeshError, RefusedError
from protocol.session.frames import Attach, Failed, Sampled
from protocol.session.order import Acceptance, Refusal

Starving = Callable[[], AbstractContextManager[None]]


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The process's table is full: of its own limit, and of real files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


@contextmanager
def no_bytes() -> Iterator[None]:
    """No file may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disk(folder: Path) -> Starving:
    """The file system of the folder is full, to the last byte."""

    @contextmanager
    def starve() -> Iterator[None]:
        ballast = folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(512)):
                pass
        try:
            yield
        finally:
            ballast.unlink()

    return starve


async def ordered(hand: Hand) -> str:
    """What an order is answered with: its code, ``taken``, or the code of the request's own refusal."""
    try:
        answer = await hand.ask()
    except JoulemeshError as error:
        return f"request: {error.code}"
    return answer.code if isinstance(answer, Refusal) else "taken" if isinstance(answer, Acceptance) else "?"


async def story(kind: str, folder: Path, starving: Starving) -> dict[str, object]:
    told: dict[str, object] = {}
    async with SmallMarket(folder, spans=((0, 6),), limits=limits_of(idle_s=60.0)) as market:
        node = market.nodes[0]
        rounds = asyncio.create_task(node.redeemer.run())
        running, ordering, refused = (Hand(market, most=40) for _ in range(3))
        link = await running.accepted()
        await send(link, *running.prompt())
        await expect(link, Sampled)
        for hand in (ordering, refused):
            await hand.open()
        with starving():
            told["order"] = await ordered(ordering)
            await send(link, running.pay(3, 4))
            answer = await expect(link, Failed if kind != "full" else Sampled)
            told["voucher"] = [answer.code, answer.reason] if isinstance(answer, Failed) else "taken"
            told["rounds end"] = rounds.done()
            told["served on it"] = node.provider.active
        told["told of"] = sorted({type(event).__name__ for event in node.events_of(DiskRefused)})
        # What was proven before is redeemed, no more and no less.
        await node.provider._ends.wait()
        await node.redeemer.redeem_all()
        told["redeemed"] = market.free(node.key) == running.voucher(3, 1).amounts[0] - 1
        node.refuse_all = RefusedError("not now", code="full")
        told["refusal after"] = await ordered(refused)
        node.refuse_all = None
        told["order after"] = await ordered(ordering)
        link = await ordering.dial(ordering.key)
        await send(link, Attach(session=ordering.session))
        await send(link, *ordering.prompt())
        told["served after"] = (await expect(link, Sampled)).tokens[0].position
        rounds.cancel()
    return told


def main(kind: str, folder: Path) -> None:
    ways: dict[str, Starving] = {"descriptors": no_descriptors, "disk": no_bytes, "full": full_disk(folder)}
    print(json.dumps(asyncio.run(story(kind, folder, ways[kind]))))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
