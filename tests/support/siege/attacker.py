"""The attacker's process: one attack, made until it is through or is told to stop.

    python -m siege.attacker NAME COUNT TARGET

It says ``begun`` when it is awake, ``at full`` once everything that it holds is held, and ``done`` with what came of
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys

from siege import surfaces
from siege.attack import ATTACKS, Ground, Target, say

KINDNESS = 10
"""An attacker's processor is its own affair: here it shares one with those whom it attacks."""
STOP_S = 5.0


async def main(name: str, count: int, target: Target) -> None:
    ground = Ground(target, count)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ground.stop.set)
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
    failure = "" if ended is None or isinstance(ended, asyncio.CancelledError) else f"{type(ended).__name__}: {ended}"
    say("done", tally=dict(ground.tally), failure=failure)


async def _act(name: str, ground: Ground) -> None:
    await ATTACKS[name].act(ground)


if __name__ == "__main__":
    surfaces.load(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(KINDNESS)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Target.from_json(sys.argv[3])))
    os._exit(0)  # thousands of connections need no farewell
