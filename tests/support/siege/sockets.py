"""Many connections: made one after another as fast as it goes, or held open against whoever closes them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from protocol.errors import JoulemeshError
from siege.attack import Ground

__all__ = ["Place", "Up", "connect", "flood", "hold_open", "http_place", "place_of", "until_cut"]

Place = tuple[str, int]
Up = Callable[[], None]
"""Called once something stands."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

AT_ONCE = 64
ACT_S = 10.0
"""Most that one act of a flood takes."""
AGAIN_S = 0.5
"""Before a connection that was cut is made again."""
REFUSALS = (OSError, TimeoutError, JoulemeshError, ssl.SSLError, asyncio.IncompleteReadError, EOFError)


def place_of(address: str) -> Place:
    """Host and port of a multiaddr or data address."""
    parts = address.split("/")
    return parts[2], int(parts[4])


def http_place(url: str) -> Place:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


async def connect(place: Place) -> Streams:
    async with asyncio.timeout(ACT_S):
        return await asyncio.open_connection(*place)


async def until_cut(reader: asyncio.StreamReader) -> None:
    """Until the other side closes."""
    with contextlib.suppress(*REFUSALS):
        while await reader.read(65536):
            pass


async def flood(ground: Ground, act: Callable[[int], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
    """Do it `ground.count` times, some at once; counts what was done, and what was refused by kind of error."""
    numbers = iter(range(ground.count))

    async def work() -> None:
        for number in numbers:
            if ground.stop.is_set():
                return
            try:
                async with asyncio.timeout(ACT_S):
                    await act(number)
                ground.tally["done"] += 1
            except REFUSALS as error:
                ground.tally[f"refused_{type(error).__name__}"] += 1

    await asyncio.gather(*(work() for _ in range(at_once)))


async def hold_open(ground: Ground, act: Callable[[int, Up], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
    """Keep `ground.count` of them up; at full force once each was tried.

    `act` makes one, calls what it is given once it stands, and returns or raises when it was cut: it is made again.
    """
    trying = asyncio.Semaphore(at_once)
    untried, tried = ground.count, asyncio.Event()

    async def once(number: int, up: asyncio.Event) -> None:
        def stands() -> None:
            ground.tally["stood"] += 1
            up.set()

        try:
            await act(number, stands)
            ground.tally["cut"] += 1
        except REFUSALS:
            ground.tally["cut" if up.is_set() else "refused"] += 1
        finally:
            up.set()

    async def keep(number: int) -> None:
        nonlocal untried
        first = True
        while not ground.stop.is_set():
            up = asyncio.Event()
            async with trying:
                task = asyncio.create_task(once(number, up))
                await up.wait()
            untried -= first
            first = False
            if untried <= 0:
                tried.set()
            await task
            await asyncio.sleep(AGAIN_S)

    tasks = [asyncio.create_task(keep(number)) for number in range(ground.count)]
    waiting = [asyncio.create_task(tried.wait()), asyncio.create_task(ground.stop.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    ground.tally["up_at_full"] = ground.tally["stood"] - ground.tally["cut"]
    await ground.hold()
    for task in (*waiting, *tasks):
        task.cancel()
    await asyncio.gather(*tasks, *waiting, return_exceptions=True)
