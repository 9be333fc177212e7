"""The bytes that an EVM chain is sent, against independent encoders."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from eth_abi import decode as oracle_decode
from eth_abi import encode as oracle_encode
from hypothesis import given
from hypothesis import strategies as st

from node.settlement.contract import ERRORS, settlement_contract
from node.venue_address import VenueAddress, parse_venue
from protocol.chain.abi import Abi, parse_type
from protocol.chain.contract import Contract
from protocol.chain.transaction import Transaction, created_address
from protocol.errors import InvalidError, MalformedError
from protocol.identity.ids import keccak256
from protocol.identity.signing import SigningKey

KEY = SigningKey(b"\x11" * 32)
LEG = {"type": "tuple[]", "components": [{"type": "address"}, {"type": "uint64"}]}
NESTED: dict[str, Any] = {
    "type": "tuple[]",
    "components": [{"type": "bytes32"}, LEG, {"type": "uint128[]"}, {"type": "string"}, {"type": "uint8"}],
}
legs = st.lists(st.tuples(st.binary(min_size=20, max_size=20), st.integers(0, 2**64 - 1)), max_size=4)
nested = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32),
        legs,
        st.lists(st.integers(0, 2**128 - 1), max_size=3),
        st.text(max_size=40),
        st.integers(0, 255),
    ),
    max_size=3,
)


@given(nested)
def test_nested_values_are_encoded_as_others_do(value: list[Any]) -> None:
    abi = Abi([{"type": "function", "name": "f", "inputs": [NESTED], "outputs": [NESTED]}])
    kind = parse_type(NESTED).name
    assert kind == "(bytes32,(address,uint64)[],uint128[],string,uint8)[]"
    shown = [(a, [("0x" + who.hex(), cap) for who, cap in b], c, d, e) for a, b, c, d, e in value]
    encoded = oracle_encode([kind], [shown])
    assert abi.call("f", value) == keccak256(f"f({kind})".encode())[:4] + encoded
    assert len(oracle_decode([kind], encoded)[0]) == len(value)
    (back,) = abi.result("f", encoded)
    assert [(a, [tuple(leg) for leg in b], list(c), d, e) for a, b, c, d, e in back] == [
        (a, [tuple(leg) for leg in b], list(c), d, e) for a, b, c, d, e in value
    ]


@given(st.binary(max_size=200))
def test_answers_of_a_chain_are_read_or_refused(data: bytes) -> None:
    abi = Abi([{"type": "function", "name": "f", "inputs": [], "outputs": [NESTED]}])
    with contextlib.suppress(MalformedError):
        abi.result("f", data)


@pytest.mark.parametrize("to", [b"", b"\x22" * 20])
@pytest.mark.parametrize("number", [0, 1, 127, 128, 70_000])
def test_transactions_are_signed_as_wallets_do(to: bytes, number: int) -> None:
    from eth_account import Account as Wallet

    made = Transaction(chain_id=8453, nonce=number, tip=number, max_fee=10**9, gas=10**6, to=to, data=b"\1" * number)
    fields = {
        "type": 2,
        "chainId": 8453,
        "nonce": number,
        "maxPriorityFeePerGas": number,
        "maxFeePerGas": 10**9,
        "gas": 10**6,
        "to": "0x" + to.hex() if to else "",
        "value": 0,
        "data": "0x" + made.data.hex(),
    }
    assert made.signed(KEY) == bytes(Wallet.sign_transaction(fields, KEY.secret).raw_transaction)


def test_the_address_of_a_contract_is_known_before() -> None:
    sender = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")
    assert created_address(sender, 0).hex() == "5fbdb2315678afecb367f032d93f642f64180aa3", (
        "the first one on a test chain"
    )


def test_a_venue_is_read_as_it_is_written() -> None:
    venue = VenueAddress(Contract(8453, created_address(KEY.address, 3)), "http://127.0.0.1:8545/key@path")
    assert parse_venue(str(venue)) == venue


NOBODY = "0x" + "00" * 20


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://127.0.0.1:8645",
        "evm:1@http://a",
        f"evm:x:{NOBODY}@http://a",
        "evm:1:0x00@http://a",
        f"evm:1:{NOBODY}",
        f"evm:1:{NOBODY}@ftp://a",
        f"evm:{'9' * 30}:{NOBODY}@http://a",
    ],
)
def test_what_names_no_venue_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_venue(text)


def test_errors_and_events_of_the_contract_are_read() -> None:
    abi = settlement_contract().abi
    for name in ERRORS:
        assert abi.error(keccak256(f"{name}()".encode())[:4]) == name
    assert abi.error(b"\0\0\0\0") == ""
    said = abi.event([abi.topic("Withdrawn"), b"\7" * 32, b"\6" * 32], oracle_encode(["uint64"], [5]))
    assert said == ("Withdrawn", (b"\7" * 20, b"\6" * 20, 5))
    assert abi.event([b"\0" * 32], b"") is None
