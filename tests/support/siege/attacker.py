"""The attacker's process. It is told line by line what to do, and says line by line what came of it.

    python -m siege.attacker TARGET

``go NAME COUNT`` begins an attack: it says ``begun``, ``at full`` once everything that it holds is held, and ``done``
at the end. ``stop`` ends the attack; the end of its input ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import traceback

from node.demo.forked import weigh_by_niceness
from siege import surfaces
from siege.attack import ATTACKS, Ground, Target, say

KINDNESS = 19
"""An attacker brings a machine of its own: here it has what those leave over whom it attacks, and it costs them what it
makes them do. How fast that lets it attack stands beside each row."""
STOP_S = 5.0


async def main(target: Target) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    attacking: asyncio.Task[None] | None = None
    ground = Ground(target, 0)
    while line := (await reader.readline()).decode().split():
        if line[0] == "stop":
            ground.stop.set()
        elif line[0] == "go":
            if attacking is not None:
                await attacking
            ground = Ground(target, int(line[2]))
            attacking = asyncio.create_task(attack(line[1], ground))


async def attack(name: str, ground: Ground) -> None:
    """Make one until it is through or is to stop; what hangs at its end is cut off."""
    surfaces.load(name)
    say("begun")
    acting = asyncio.create_task(_act(name, ground))
    stopping = asyncio.create_task(ground.stop.wait())
    await asyncio.wait({acting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            await asyncio.shield(asyncio.gather(acting, return_exceptions=True))
    acting.cancel()
    (ended,) = await asyncio.gather(acting, return_exceptions=True)
    say("done", tally=dict(ground.tally), failure=_said_of(ended)[-4000:])


def _said_of(ended: BaseException | None) -> str:
    """Where an attack broke; empty where it did not."""
    if ended is None or isinstance(ended, asyncio.CancelledError):
        return ""
    while isinstance(ended, BaseExceptionGroup):
        ended = ended.exceptions[0]
    return "".join(traceback.format_exception(ended))


async def _act(name: str, ground: Ground) -> None:
    await ATTACKS[name].act(ground)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(KINDNESS)
    weigh_by_niceness()
    asyncio.run(main(Target.from_json(sys.argv[1])))
    os._exit(0)  # thousands of connections need no farewell
