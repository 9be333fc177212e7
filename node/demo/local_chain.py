"""A chain of the demo's own: anvil, a token that anyone mints, and the settlement contract that counts in it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Self

from node.demo.forked import fork, stand_apart
from node.keystore import generate
from node.settlement import deployment
from node.settlement.rpc import ChainRpc, data_of
from node.settlement.sending import Sender, sender_for
from node.venue_address import VenueAddress
from protocol.chain.abi import Abi
from protocol.errors import LocalError, UnreachableError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["LocalChain", "find_anvil"]

CHAIN_ID = 31_337
GRACE_S = 60
UNBONDING_S = 60
DECIMALS = 6
START_S = 20.0
_GAS_PRICE = 10**9
_COIN = 10**18
_MODULES = Path(__file__).parents[2] / "contracts" / "node_modules"


def find_anvil() -> str | None:
    """Anvil's binary: from JOULE_ANVIL, from PATH, or as `make contracts` fetches it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    packaged = _MODULES / f"@foundry-rs/anvil-{platform.system().lower()}-{machine}" / "bin" / "anvil"
    named = os.environ.get("JOULE_ANVIL")
    if named:
        return named if Path(named).exists() else None
    return shutil.which("anvil") or (str(packaged) if packaged.exists() else None)


class LocalChain:
    """Made by `start`; belongs to one event loop."""

    def __init__(self, process: BaseProcess, rpc: ChainRpc, folder: Path) -> None:
        self._process = process
        self._rpc = rpc
        self._folder = folder
        self._token = b""
        self._abi, self._code = _token()
        self.venue = ""
        """As the setting `ledger` names it, once `deploy` is through."""

    @classmethod
    async def start(cls, folder: Path) -> Self:
        """A new chain. Raises LocalError where anvil is missing, or does not answer."""
        binary = find_anvil()
        if binary is None:
            raise LocalError(
                "there is no anvil here, which is the test chain of this demo",
                code="no-anvil",
                hint="`make contracts` fetches it with npm; else put it on the PATH, or name it in JOULE_ANVIL",
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [binary, "--port", str(port), "--chain-id", str(CHAIN_ID), "--accounts", "1", "--threads", "1"]
        command += ["--hardfork", "prague", "--silent", "--block-base-fee-per-gas", str(_GAS_PRICE)]
        process = await asyncio.to_thread(fork, _Command(command))
        self = cls(process, ChainRpc(f"http://127.0.0.1:{port}"), folder)
        try:
            async with asyncio.timeout(START_S):
                await self._wait()
        except TimeoutError:
            await self.stop()
            raise LocalError(f"{binary} does not answer as a chain's node") from None
        return self

    async def _wait(self) -> None:
        while True:
            if not self._process.is_alive():
                raise LocalError("the test chain ended at once", hint="run anvil yourself, and see what it says")
            try:
                await self._rpc.number("eth_chainId")
                return
            except UnreachableError:  # asked again by and by
                continue

    async def stop(self) -> None:
        """End it, and forget all that it held."""
        await self._rpc.close()
        self._process.terminate()
        await asyncio.to_thread(self._process.join)

    async def deploy(self) -> None:
        """Put a token and the settlement contract on it."""
        key = generate()
        await self.give_coin(key.address)
        async with self._sender() as sender:
            made = await sender.do(key, b"", self._code + self._abi.creation(DECIMALS))
            self._token = data_of(made.receipt.get("contractAddress"), length=20)
            contract = await deployment.deploy(
                self._rpc, sender, key, token=self._token, grace_s=GRACE_S, unbonding_s=UNBONDING_S
            )
        self.venue = str(VenueAddress(contract, self._rpc.url))

    def _sender(self) -> AbstractAsyncContextManager[Sender]:
        return sender_for(self._rpc, self._folder, confirmations=0, most_gas_price=10**12)

    async def give_coin(self, address: bytes) -> None:
        """Coin for gas."""
        await self._rpc.ask("anvil_setBalance", "0x" + address.hex(), hex(_COIN))

    async def give_tokens(self, address: bytes, micro: int) -> None:
        """Tokens, which anybody can make of this one."""
        key = generate()
        await self.give_coin(key.address)
        async with self._sender() as sender:
            await sender.do(key, self._token, self._abi.call("mint", address, micro))


class _Command:
    """Runs a program in a process that ends with the demo, however that ends."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def __call__(self) -> None:
        stand_apart()
        running: list[subprocess.Popen[bytes]] = []

        def end(_number: int, _frame: FrameType | None) -> None:
            for each in running:
                each.kill()
            if not running:
                sys.exit(0)

        signal.signal(signal.SIGTERM, end)
        nowhere = subprocess.DEVNULL
        running.append(subprocess.Popen(self._command, stdin=nowhere, stdout=nowhere, stderr=nowhere))
        sys.exit(abs(running[0].wait()))


def _token() -> tuple[Abi, bytes]:
    built = json.loads(resources.files(__package__).joinpath("token.json").read_text())["contracts"]["PlainToken"]
    return Abi(built["abi"]), bytes.fromhex(built["bytecode"])
