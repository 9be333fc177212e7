"""Tokens that do not do what they say are refused, and one that calls back in mid-transfer gains nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anvil_chain import Chain, Deployed, Reverted, deploy, running_chain, token_code, why_no_anvil

from node.settlement.contract import settlement_contract

pytestmark = pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())

OWNER, OTHER = b"\x21" * 20, b"\x22" * 20
MANY = 10**30


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with running_chain() as chain:
        yield chain


def settlement_over(chain: Chain, token: Deployed) -> Deployed:
    built = settlement_contract()
    made = deploy(chain, built.abi, built.bytecode, token.address, 50, 80)
    for address in (OWNER, OTHER):
        token.send(address, "mint", address, MANY)
        token.send(address, "approve", made.address, 2**256 - 1)
    return made


def free(settlement: Deployed, address: bytes) -> int:
    return int(settlement.ask("accounts", address)[0])


@pytest.mark.parametrize(("decimals", "scale"), [(6, 1), (18, 10**12)])
def test_micro_units_are_a_millionth_of_the_token(chain: Chain, decimals: int, scale: int) -> None:
    token = deploy(chain, *token_code("PlainToken"), decimals)
    settlement = settlement_over(chain, token)
    assert settlement.ask("scale") == (scale,)
    settlement.send(OWNER, "deposit", 1_000_000)
    assert token.ask("balanceOf", settlement.address) == (10**decimals,)
    settlement.send(OWNER, "withdraw", OTHER, 400_000)
    assert token.ask("balanceOf", OTHER) == (MANY + 4 * 10 ** (decimals - 1),)
    assert free(settlement, OWNER) == 600_000


@pytest.mark.parametrize("decimals", [0, 5, 7, 8, 19])
def test_other_decimals_are_refused(chain: Chain, decimals: int) -> None:
    token, built = deploy(chain, *token_code("PlainToken"), decimals), settlement_contract()
    creation = built.bytecode + built.abi.creation(token.address, 50, 80)
    assert chain.send(OWNER, None, creation)["status"] == "0x0"


def test_a_token_that_takes_a_fee_is_refused(chain: Chain) -> None:
    settlement = settlement_over(chain, deploy(chain, *token_code("FeeToken")))
    assert settlement.refusal(OWNER, "deposit", 500) == "Transfer"
    assert settlement.refusal(OWNER, "deposit", 99) == "", "its fee on less than 100 is nothing"


def test_a_token_that_says_false_is_refused(chain: Chain) -> None:
    settlement = settlement_over(chain, deploy(chain, *token_code("FalseToken")))
    assert settlement.refusal(OWNER, "deposit", 500) != ""


def test_a_token_that_says_nothing_is_taken(chain: Chain) -> None:
    token = deploy(chain, *token_code("SilentToken"))
    settlement = settlement_over(chain, token)
    settlement.send(OWNER, "deposit", 500)
    settlement.send(OWNER, "withdraw", OWNER, 200)
    assert (free(settlement, OWNER), token.ask("balanceOf", settlement.address)) == (300, (300,))


def test_nothing_is_taken_without_an_approval(chain: Chain) -> None:
    token = deploy(chain, *token_code("PlainToken"), 6)
    settlement = settlement_over(chain, token)
    token.send(OTHER, "approve", settlement.address, 499)
    assert settlement.refusal(OTHER, "deposit", 500) != ""
    assert settlement.refusal(OTHER, "deposit", 499) == ""


@pytest.mark.parametrize("inner", ["deposit", "withdraw"])
@pytest.mark.parametrize("outer", ["deposit", "withdraw"])
def test_a_token_that_calls_back_gains_nothing(chain: Chain, outer: str, inner: str) -> None:
    """The token has an account of its own, which it uses while one of its transfers is under way."""
    token = deploy(chain, *token_code("CallingToken"))
    settlement = settlement_over(chain, token)
    token.send(OWNER, "mint", token.address, 10_000)
    token.send(OWNER, "act", token.address, token.abi.call("approve", settlement.address, 10_000))
    token.send(OWNER, "act", settlement.address, settlement.abi.call("deposit", 1_000))
    settlement.send(OWNER, "deposit", 700)
    values = (300,) if inner == "deposit" else (token.address, 300)
    token.send(OWNER, "arm", settlement.address, settlement.abi.call(inner, *values))
    values = (200,) if outer == "deposit" else (OWNER, 200)
    assert settlement.send(OWNER, outer, *values)["status"] == "0x1"
    assert token.ask("answered") == (False,), "the call from inside was refused"
    assert free(settlement, OWNER) == (900 if outer == "deposit" else 500)
    assert free(settlement, token.address) == 1_000
    held = token.ask("balanceOf", settlement.address)[0]
    assert held == free(settlement, OWNER) + free(settlement, token.address)


def test_calls_back_may_do_what_moves_no_tokens(chain: Chain) -> None:
    token = deploy(chain, *token_code("CallingToken"))
    settlement = settlement_over(chain, token)
    token.send(OWNER, "mint", token.address, 10_000)
    token.send(OWNER, "act", token.address, token.abi.call("approve", settlement.address, 10_000))
    token.send(OWNER, "act", settlement.address, settlement.abi.call("deposit", 1_000))
    token.send(OWNER, "arm", settlement.address, settlement.abi.call("stake", 400))
    settlement.send(OWNER, "deposit", 50)
    assert token.ask("answered") == (True,)
    assert settlement.ask("accounts", token.address)[:2] == (600, 400)


def test_withdrawals_to_nobody_fail_whole(chain: Chain) -> None:
    settlement = settlement_over(chain, deploy(chain, *token_code("PlainToken"), 6))
    settlement.send(OWNER, "deposit", 500)
    with pytest.raises(Reverted):
        chain.call(settlement.address, settlement.abi.call("withdraw", bytes(20), 500), OWNER)
    settlement.send(OWNER, "withdraw", bytes(20), 500)
    assert free(settlement, OWNER) == 500
