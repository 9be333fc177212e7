"""What is shipped of the settlement contract is what its source compiles to, and speaks the protocol's typed data."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import contract_calls
import pytest
from anvil_chain import CONTRACTS, compile_source, token_code, why_no_solc

from node.settlement.contract import ERRORS, settlement_contract
from protocol.identity.eip712 import encode_type
from protocol.routing.routes import MAX_LEGS
from protocol.session.messages import Discharge, Receipt, Session, Voucher
from protocol.settlement.sessions import MAX_SESSION_S
from protocol.settlement.state import MAX_MONEY

SOURCE = (CONTRACTS / "Settlement.sol").read_text()
MOST_CODE = 24_576
"""Bytes of a deployed contract, by EIP-170."""


@pytest.mark.long
@pytest.mark.skipif(bool(why_no_solc()), reason=why_no_solc())
def test_the_sources_compile_to_what_is_committed() -> None:
    built = compile_source(CONTRACTS / "Settlement.sol", CONTRACTS / "Tokens.sol")
    assert len(built) > 1
    for contract, (_, bytecode) in built.items():
        committed = settlement_contract().bytecode if contract == "Settlement" else token_code(contract)[1]
        assert bytecode == committed, f"{contract}: run `make contract` and commit what it writes"


def test_the_sources_are_those_that_were_compiled() -> None:
    package, support = resources.files("node"), Path(contract_calls.__file__).parent
    for source, document in (
        ("Settlement.sol", package.joinpath("settlement", "contract.json")),
        ("Tokens.sol", package.joinpath("demo", "token.json")),
        ("Tokens.sol", support / "tokens.json"),
    ):
        digest = hashlib.sha256((CONTRACTS / source).read_bytes()).hexdigest()
        assert json.loads(document.read_text())["sha256"] == digest, f"{source}: run `make contract` and commit it"


def test_the_package_carries_the_contract() -> None:
    document = json.loads(resources.files("node.settlement").joinpath("contract.json").read_text())
    pinned = json.loads((CONTRACTS / "package.json").read_text())["devDependencies"]["solc"]
    assert document["compiler"].startswith(pinned + "+")
    assert list(document["contracts"]) == ["Settlement"]
    assert len(settlement_contract().bytecode) < MOST_CODE


def test_the_demo_has_the_plain_token_of_the_tests() -> None:
    document = json.loads(resources.files("node.demo").joinpath("token.json").read_text())
    assert list(document["contracts"]) == ["PlainToken"]
    assert bytes.fromhex(document["contracts"]["PlainToken"]["bytecode"]) == token_code("PlainToken")[1]


@pytest.mark.parametrize("message", [Session, Voucher, Discharge, Receipt], ids=lambda message: message.__name__)
def test_it_has_the_typed_data_of_the_protocol(message: type) -> None:
    joined = re.sub(r'"\s+"', "", SOURCE)
    assert f'keccak256("{encode_type(message)}")' in re.sub(r"keccak256\(\s+\"(.*)\"\s+\)", r'keccak256("\1")', joined)


def test_it_has_the_bounds_of_the_protocol() -> None:
    assert f"MAX_LEGS = {MAX_LEGS};" in SOURCE
    assert "MAX_MONEY = 2 ** 63 - 1;" in SOURCE
    assert MAX_MONEY == 2**63 - 1
    assert f"MAX_SESSION = {MAX_SESSION_S // 86_400} days;" in SOURCE


def test_each_of_its_errors_has_a_code() -> None:
    assert sorted(re.findall(r"^    error (\w+)\(\);", SOURCE, re.MULTILINE)) == sorted(ERRORS)
