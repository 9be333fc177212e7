"""A ledger in a process of its own, for tests that kill it: prints its address, then serves until the end."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from ledger_world import OPERATOR, ledger_settings

from node.ledger import run_ledger


async def main(folder: Path) -> None:
    async with run_ledger(ledger_settings(folder), OPERATOR, lambda: int(time.time())) as ledger:
        print(ledger.url, flush=True)
        await ledger.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
