"""Disks that take nothing, and folders that are not ours to write."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_network import PASSPHRASE

from node.demo.forked import Command, Forked
from node.keystore import LIGHT, Keystore, generate
from node.ledger import LedgerClient
from protocol.errors import JoulemeshError
from protocol.identity.signing import SigningKey
from siege.disk import full, is_small_disk
from siege.field import Field, Job
from siege.trial import Bench, Broken, CannotBeTried, trial

DEPOSIT = 5
FULL_S = 6.0
REFUSED_S = 60.0
"""Some jobs find room, and here each may take long."""
AGAIN_S = 60.0
ENDS_S = 10.0
COMMAND_S = 60.0
DEFECT = 70
_CAPABILITIES_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1


def _full(bench: Bench, name: str) -> contextlib.AbstractContextManager[None]:
    """The disk of one of them takes nothing more while the block runs."""
    folder = bench.field.network.home / name
    if not is_small_disk(folder):
        raise CannotBeTried("no disk of its own can be mounted here")
    return full(folder)


@asynccontextmanager
async def _whole(field: Field, name: str) -> AsyncIterator[None]:
    """After the block all processes run, without a traceback, and honest jobs are done again."""
    before = field.tracebacks
    yield
    if field.exits:
        raise Broken(f"processes ended: {field.gone}")
    if field.tracebacks > before:
        raise Broken(f"{field.tracebacks} tracebacks: {field.processes[name].complaints[-3:]}")
    jobs = await field.jobs_in(0.0, 1, AGAIN_S)
    if not any(job.ok for job in jobs):
        raise Broken(f"no job for {AGAIN_S:.0f} s after there was room again: {_codes(jobs)}")


def _codes(jobs: list[Job]) -> list[str]:
    return sorted({job.code for job in jobs if job.code})


@trial
async def disk_of_a_node_full(bench: Bench) -> None:
    """A node whose disk takes nothing: it refuses in words, runs on, and serves again.

    A job or two may find room: that of vouchers which were redeemed meanwhile.
    """
    field = bench.field
    async with _whole(field, "node0"):
        with _full(bench, "node0"):
            began, jobs = time.monotonic(), []
            while all(job.ok for job in jobs) and time.monotonic() - began < REFUSED_S:
                jobs += await field.jobs_in(FULL_S, 0)
        if all(job.ok for job in jobs):
            raise Broken("no order was refused, although nothing could be written down")


@trial
async def disk_of_the_ledger_full(bench: Bench) -> None:
    """A ledger whose disk takes nothing: what it acknowledged is there, and it goes on once there is room."""
    field = bench.field
    async with _whole(field, "ledger"), LedgerClient(field.target.ledger) as ledger:
        acknowledged = await _deposit(ledger, range(20))
        if len(acknowledged) < 20:
            raise Broken("the ledger refuses with room on its disk")
        with _full(bench, "ledger"):
            acknowledged += await _deposit(ledger, range(20, 40))
        acknowledged += await _deposit(ledger, range(40, 60))
        if len(acknowledged) < 21:
            raise Broken("the ledger takes nothing although there is room again" + await _last_words(field, "ledger"))
        for key in acknowledged:
            if (await ledger.account(key.address)).free != DEPOSIT:
                raise Broken("a deposit was acknowledged and is not there")


async def _last_words(field: Field, name: str) -> str:
    """Whether a process has ended, and what it said at the end."""
    process = field.processes[name]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDS_S):
            status = await process.process.wait()
            return f": it has ended with status {status}: {process._complaint} {' '.join(process.complaints)[-600:]}"
    return ""


async def _deposit(ledger: LedgerClient, numbers: range) -> list[SigningKey]:
    """Accounts of these numbers whose deposits were acknowledged."""
    found = []
    for number in numbers:
        key = SigningKey(bytes([7]) * 31 + bytes([number + 1]))
        with contextlib.suppress(JoulemeshError, TimeoutError):
            async with asyncio.timeout(5):
                await ledger.faucet(key.address, DEPOSIT)
            found.append(key)
    return found


@trial
async def disk_of_a_client_full(bench: Bench) -> None:
    """A client whose disk takes nothing: it says so before it reserves money."""
    field = bench.field
    async with _whole(field, "node0"):
        if (done := await field.network.joule("faucet", "1", name="small")).status:
            raise Broken(done.err)
        with _full(bench, "small"):
            process = await field.network.spawn("run", "hello", "--max-tokens", "4", "--raw", name="small")
            async with asyncio.timeout(COMMAND_S):
                out, err = await process.communicate()
        if process.returncode == DEFECT or b"Traceback" in err:
            raise Broken(f"status {process.returncode}: {err.decode(errors='replace')[-400:]}")
        if process.returncode == 0:
            raise Broken(f"it says that all is well: {out.decode(errors='replace')[-200:]}")


@trial
async def folders_that_cannot_be_written(bench: Bench) -> None:
    """Every command with a data directory that is not its user's: one message, no traceback."""
    home = bench.folder / "home"
    await asyncio.to_thread(_read_only_home, home)
    try:
        for arguments in (
            ("key", "new", "other"),
            ("run", "hello", "--ledger", "http://127.0.0.1:9"),
            ("balance", "--ledger", "http://127.0.0.1:9"),
            ("ledger", "run", "--port", "0"),
            ("node", "run", "--model", str(Path(__file__).parents[4] / "node" / "demo" / "model"), "--ledger",
             "http://127.0.0.1:9"),
        ):  # fmt: skip
            status, err = await _as_somebody_else(home, *arguments)
            if status == DEFECT or "Traceback" in err or status == 0:
                raise Broken(f"joule {' '.join(arguments[:2])}: status {status}: {err[-300:]}")
    finally:
        await asyncio.to_thread(home.chmod, 0o700)


def _read_only_home(home: Path) -> None:
    Keystore(home / "keys").create("default", generate(), PASSPHRASE, work_factor=LIGHT)
    for each in (home, *home.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)


class Humble(Command):
    """A command that is held to the permissions of files, as root otherwise is not."""

    def perform(self) -> None:
        library, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
        library.capget(header, sets)
        sets[0] &= ~(1 << _CAP_DAC_OVERRIDE)  # of those in force
        library.capset(header, sets)
        super().perform()


async def _as_somebody_else(home: Path, *arguments: str) -> tuple[int, str]:
    """Run a command as one who may not write there."""
    own = {"JOULE_HOME": str(home), "JOULE_PASSPHRASE": PASSPHRASE, "HOME": str(home)}
    process = await Forked.start(arguments, {**os.environ, **own}, kind=Humble)
    try:
        async with asyncio.timeout(COMMAND_S):
            _, err = await process.communicate()
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return 0, "it goes on as if nothing were wrong"
    return process.returncode or 0, err.decode(errors="replace")
