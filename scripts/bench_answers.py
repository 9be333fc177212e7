"""Signed and proven operations a second on an embedded ledger: one answer that proves itself, against the same proof
read from the log's tiles, as anybody without this software would read it.

Both sides sign, submit, and verify the checkpoint, that it continues the one before, and the entry in it. The ledger
runs in a process of its own, on SQLite with an fsync for each commit.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from node.ledger import LedgerClient, LedgerSettings, Rate, Rates, run_ledger
from node.ledger.log_source import HttpLog, LogReader
from protocol.encoding.codec import encode
from protocol.encoding.strict_json import int_text
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, open_checkpoint
from protocol.log.merkle import leaf_hash, verify_consistency, verify_inclusion
from protocol.log.note import VerifierKey
from protocol.settlement import ledger_domain
from protocol.settlement.evidence import read_entry
from protocol.settlement.operations import Withdraw, sign_op

OPERATOR = SigningKey(b"\x01" * 32)
WORKERS = (1, 8, 64)
OPERATIONS = 640
ROUNDS = 3
PREFILLED = 2_000
"""Entries before the first measurement: more than one tile."""
_UNBOUNDED = Rate(10**9, 10**9)


def key_of(number: int) -> SigningKey:
    return SigningKey((1000 + number).to_bytes(32, "big"))


def serve(folder: str, pipe: Connection) -> None:
    """The ledger's process."""

    async def main() -> None:
        settings = LedgerSettings(
            folder=Path(folder),
            port=0,
            faucet_limit=10**12,
            rates=Rates(address=_UNBOUNDED, guest=_UNBOUNDED, proven=_UNBOUNDED, key=_UNBOUNDED, faucet=_UNBOUNDED),
        )
        async with run_ledger(settings, OPERATOR, lambda: int(time.time())) as ledger:
            pipe.send((ledger.url, ledger.verifier_key))
            await ledger.wait()

    asyncio.run(main())


@contextmanager
def ledger_process() -> Iterator[tuple[str, str]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(folder, there))
        process.start()
        try:
            yield here.recv()
        finally:
            process.terminate()
            process.join()


class TileClient:
    """Submits, then finds the proof in tiles, by one request each."""

    def __init__(self, url: str, verifier_key: str) -> None:
        self._http = HttpLog(url)
        self._reader = LogReader(self._http)
        self._verifier = VerifierKey.parse(verifier_key)
        self._domain = ledger_domain(verifier_key)
        self._nonces: dict[bytes, int] = {}
        self._newest: Checkpoint | None = None
        self._advancing = asyncio.Lock()

    async def close(self) -> None:
        await self._http.close()

    async def submit(self, action: Withdraw, key: SigningKey) -> None:
        if key.address not in self._nonces:
            self._nonces[key.address] = int_text((await self._http.get_json(f"account/0x{key.address.hex()}"))["nonce"])
        self._nonces[key.address] += 1
        signed = sign_op(self._domain, key, action.replace(actor=key.address, nonce=self._nonces[key.address]))
        said = (await self._http.post("ops", encode(signed)))["entry"]
        index, checkpoint = int_text(said["index"]), await self._advance()
        data = await self._reader.entry(index, checkpoint.size)
        proof = await self._reader.inclusion(index, checkpoint.size)
        verify_inclusion(index, checkpoint.size, leaf_hash(data), proof, checkpoint.root)
        if read_entry(data, self._verifier).op != signed:
            raise RuntimeError("another operation is there")

    async def _advance(self) -> Checkpoint:
        async with self._advancing:
            found, known = open_checkpoint(await self._http.checkpoint(), self._verifier), self._newest
            if known is not None:
                proof = await self._reader.consistency(known.size, found.size) if known.size < found.size else ()
                verify_consistency(known.size, found.size, known.root, found.root, proof)
            self._newest = found
            return found


Submit = Callable[[Withdraw, SigningKey], Awaitable[object]]


async def rate_of(submit: Submit, workers: int, operations: int, first: int = 0) -> float:
    """Operations a second by so many workers, each with a key of its own and one operation at a time."""

    async def work(number: int) -> None:
        action = Withdraw(actor=bytes(20), nonce=0, amount=1, reference="bench")
        for _ in range(operations // workers):
            await submit(action, key_of(first + number))

    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(workers)))
    return operations // workers * workers / (time.perf_counter() - started)


async def measure(url: str, verifier_key: str, operations: int) -> None:
    tiles = TileClient(url, verifier_key)
    try:
        async with LedgerClient(url, verifier_key=verifier_key) as client:
            keys = [key_of(number) for number in range(2 * max(WORKERS))]
            await asyncio.gather(*(client.faucet(key.address, 10**9) for key in keys))
            await rate_of(client.submit, max(WORKERS), PREFILLED)
            print(f"operations a second, median of {ROUNDS}")
            print(f"{'workers':>8}{'one answer':>14}{'from tiles':>14}{'ratio':>8}")
            for workers in WORKERS:
                rounds = [
                    (
                        await rate_of(client.submit, workers, operations),
                        await rate_of(tiles.submit, workers, operations, max(WORKERS)),
                    )
                    for _ in range(ROUNDS)
                ]
                one, other = (statistics.median(side) for side in zip(*rounds, strict=True))
                print(f"{workers:>8}{one:>14.0f}{other:>14.0f}{one / other:>8.1f}", flush=True)
    finally:
        await tiles.close()


def main() -> None:
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS
    with ledger_process() as (url, verifier_key):
        asyncio.run(measure(url, verifier_key, operations))


if __name__ == "__main__":
    main()
