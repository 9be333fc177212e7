"""`joule contract`: the contract is put on a real chain, looked at, and told from another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from anvil_chain import Chain, deploy, running_chain, token_code, why_no_anvil
from joule_command import Outcome

from node.settlement.contract import settlement_contract
from protocol.identity.ids import checksum_address, parse_address

AT_ONCE = ("--confirmations", "0")
"""This chain makes a block for each transaction, and no other."""

pytestmark = pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with running_chain() as chain:
        yield chain


@pytest.fixture
def rich(joule: Callable[..., Outcome], chain: Chain) -> bytes:
    """The address of a key that can pay for gas."""
    made = joule("key", "new", "--light", "--json")
    address = parse_address(json.loads(made.out)["address"])
    chain.ask("anvil_setBalance", "0x" + address.hex(), hex(10**20))
    return address


def test_a_contract_is_deployed_looked_at_and_verified(
    joule: Callable[..., Outcome],
    chain: Chain,
    rich: bytes,
) -> None:
    token = deploy(chain, *token_code("PlainToken"), 18)
    options = [
        "--rpc",
        chain.url,
        "--token",
        checksum_address(token.address),
        "--grace",
        "600",
        "--unbonding",
        "900",
        *AT_ONCE,
    ]
    made = joule("contract", "deploy", *options, "--json").json
    assert (made["grace_s"], made["unbonding_s"], made["scale"], made["verified"]) == (600, 900, 10**12, True)
    assert made["venue"].startswith(f"evm:{chain.chain_id}:0x")
    token.send(rich, "mint", parse_address(made["venue"].split(":")[2].split("@")[0]), 5 * 10**18)
    seen = joule("contract", "status", made["venue"], "--json").json
    assert (seen["balance"], seen["burned"], seen["verified"]) == (5_000_000, 0, False)
    shown = joule("contract", "verify", made["venue"])
    assert shown.status == 0
    assert "byte by byte" in shown.out


def test_another_contract_is_told(joule: Callable[..., Outcome], chain: Chain, rich: bytes) -> None:
    token = deploy(chain, *token_code("PlainToken"), 6)
    built = settlement_contract()
    changed = bytearray(built.bytecode)
    changed[-40] ^= 1
    for code in (bytes(changed), None):
        other = token if code is None else deploy(chain, built.abi, code, token.address, 1, 2)
        place = f"evm:{chain.chain_id}:{checksum_address(other.address)}@{chain.url}"
        refused = joule("contract", "verify", place)
        assert refused.status == 1
        assert "another contract" in refused.err
    nobody = joule("contract", "verify", f"evm:{chain.chain_id}:0x{'11' * 20}@{chain.url}")
    assert "no contract lies" in nobody.err
    elsewhere = joule("contract", "verify", f"evm:5:{checksum_address(token.address)}@{chain.url}")
    assert "not of 5" in elsewhere.err


def test_what_cannot_be_deployed_is_said(joule: Callable[..., Outcome], chain: Chain, rich: bytes) -> None:
    odd = deploy(chain, *token_code("PlainToken"), 8)
    refused = joule("contract", "deploy", "--rpc", chain.url, "--token", checksum_address(odd.address), *AT_ONCE)
    assert refused.status == 1
    assert "Decimals" in refused.err
    silent = joule(
        "contract", "deploy", "--rpc", "http://127.0.0.1:9", "--token", checksum_address(odd.address), *AT_ONCE
    )
    assert "no answer from the chain's node" in silent.err


def test_a_key_without_the_chains_coin_is_told(joule: Callable[..., Outcome], chain: Chain) -> None:
    assert joule("key", "new", "--light").status == 0
    token = deploy(chain, *token_code("PlainToken"), 6)
    chain.ask("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    refused = joule("contract", "deploy", "--rpc", chain.url, "--token", checksum_address(token.address), *AT_ONCE)
    chain.ask("anvil_setNextBlockBaseFeePerGas", "0x0")
    assert refused.status == 1
    assert "coin, for gas" in refused.err
