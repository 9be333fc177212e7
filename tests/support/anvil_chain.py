"""A real EVM chain as a process (anvil), spoken to by raw JSON-RPC over one connection that is kept open.

Anvil signs for whoever asks it to, so that tests send transactions of their parties without keys of the chain's kind.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from protocol.chain.abi import Abi

CONTRACTS = Path(__file__).parents[2] / "contracts"
MODULES = CONTRACTS / "node_modules"
GAS = 30_000_000


@cache
def find_anvil() -> str | None:
    """Anvil's binary: from JOULE_ANVIL, from PATH, or from npm's packages in contracts/."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    packaged = MODULES / f"@foundry-rs/anvil-{platform.system().lower()}-{machine}" / "bin" / "anvil"
    named = os.environ.get("JOULE_ANVIL")
    return named or shutil.which("anvil") or (str(packaged) if packaged.exists() else None)


def why_no_anvil() -> str:
    """Empty where anvil is there; else what a person can do."""
    return (
        "" if find_anvil() else "no anvil here: `make contracts` fetches it with npm, or JOULE_ANVIL names its binary"
    )


def why_no_solc() -> str:
    """Empty where the pinned compiler is there; else what a person can do."""
    if shutil.which("node") is None:
        return "no Node.js here, which runs the Solidity compiler"
    return "" if (MODULES / "solc").exists() else "no Solidity compiler here: `make contracts` fetches it with npm"


class Reverted(Exception):
    """The chain refused a call; what the contract said is `data`."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


@dataclass(slots=True)
class Chain:
    """A running anvil."""

    connection: http.client.HTTPConnection
    url: str

    def ask(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self.connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self.connection.getresponse().read())
        if "error" in answer:
            said = answer["error"].get("data")
            raise Reverted(answer["error"]["message"], _bytes(said) if isinstance(said, str) else b"")
        return answer["result"]

    @property
    def chain_id(self) -> int:
        return int(self.ask("eth_chainId"), 16)

    @property
    def now(self) -> int:
        """The last block's time."""
        return int(self.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def submit(self, sender: bytes, to: bytes | None, data: bytes, gas: int = GAS) -> str:
        """Hand in a transaction; its hash."""
        call = {"from": _hex(sender), "data": _hex(data), "gas": hex(gas), "gasPrice": "0x0"}
        return str(self.ask("eth_sendTransaction", call if to is None else {**call, "to": _hex(to)}))

    def receipt(self, transaction: str) -> dict[str, Any]:
        """Of a transaction that is in a block; anvil may need a moment to show it."""
        while (receipt := self.ask("eth_getTransactionReceipt", transaction)) is None:
            pass
        return dict(receipt)

    def send(self, sender: bytes, to: bytes | None, data: bytes) -> dict[str, Any]:
        """Have a transaction done in a block of its own; its receipt, reverted or not."""
        return self.receipt(self.submit(sender, to, data))

    def call(self, to: bytes, data: bytes, sender: bytes = bytes(20), block: str = "latest") -> bytes:
        """What a call would answer now. Raises Reverted."""
        return _bytes(self.ask("eth_call", {"from": _hex(sender), "to": _hex(to), "data": _hex(data)}, block))

    def at(self, time: int) -> None:
        """Let the next block have this time."""
        self.ask("evm_setNextBlockTimestamp", time)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A contract on a chain."""

    chain: Chain
    address: bytes
    abi: Abi

    def send(self, sender: bytes, name: str, *values: Any) -> dict[str, Any]:
        return self.chain.send(sender, self.address, self.abi.call(name, *values))

    def ask(self, name: str, *values: Any) -> tuple[Any, ...]:
        return self.abi.result(name, self.chain.call(self.address, self.abi.call(name, *values)))

    def refusal(self, sender: bytes, name: str, *values: Any) -> str:
        """The name of the error with which the contract would refuse; empty where it would not."""
        try:
            self.chain.call(self.address, self.abi.call(name, *values), sender)
        except Reverted as error:
            return self.abi.error(error.data) or str(error)
        return ""


def deploy(chain: Chain, abi: Abi, bytecode: bytes, *values: Any, sender: bytes = b"\x0d" * 20) -> Deployed:
    """Create a contract. Raises AssertionError where its constructor refuses."""
    receipt = chain.send(sender, None, bytecode + abi.creation(*values))
    assert receipt["status"] == "0x1", receipt
    return Deployed(chain, _bytes(receipt["contractAddress"]), abi)


@cache
def token_code(name: str) -> tuple[Abi, bytes]:
    """A test token as it was compiled from contracts/Tokens.sol."""
    built = json.loads(Path(__file__).with_name("tokens.json").read_text())["contracts"][name]
    return Abi(built["abi"]), bytes.fromhex(built["bytecode"])


def compile_source(*sources: Path) -> dict[str, tuple[Abi, bytes]]:
    """What the pinned compiler makes of Solidity files, by name of the contract. Raises CalledProcessError."""
    command = ["node", str(CONTRACTS / "build.js"), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return {name: (Abi(each["abi"]), bytes.fromhex(each["bytecode"])) for name, each in json.loads(done.stdout).items()}


@contextmanager
def running_chain() -> Iterator[Chain]:
    """A chain of one's own, on a free port of this machine."""
    binary = find_anvil()
    assert binary is not None, why_no_anvil()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--accounts", "1", "--threads", "1", "--auto-impersonate"]
    command += ["--hardfork", "prague", "--order", "fifo", "--gas-price", "0", "--block-base-fee-per-gas", "0"]
    command += ["--gas-limit", str(20 * GAS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("Listening"):
                    break
            # Without a timeout: on a machine that is held for a minute an answer comes late. A test that is drawn would
            # take that for a failure, find none when it tries the same again, and call itself flaky.
            connection = http.client.HTTPConnection("127.0.0.1", port)
            chain = Chain(connection, f"http://127.0.0.1:{port}")
            chain.ask("anvil_setLoggingEnabled", False)
            yield chain
            connection.close()
        finally:
            process.kill()


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(said: str) -> bytes:
    return bytes.fromhex(said.removeprefix("0x"))
