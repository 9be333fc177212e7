"""Operations as a wallet sees them: typed fields, a chain id that it takes, and the very signatures it would make."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_world import (
    CLIENT,
    PROVIDERS,
    checkpoint_of,
    deposit,
    discharge_of,
    equivocation,
    genesis,
    make_session,
    notice,
    receipt_of,
    slash,
    stake,
    unbond,
    unstake,
    voucher_of,
    withdraw,
)

from protocol.encoding.codec import Message, decode, encode, shapes
from protocol.errors import InvalidError
from protocol.identity.eip712 import encode_type, recover_typed, sign_typed
from protocol.session.messages import session_id
from protocol.settlement import LEDGER_CHAIN_ID, ledger_domain
from protocol.settlement.operations import (
    ACTIONS,
    Action,
    Close,
    Equivocation,
    Genesis,
    Notice,
    Open,
    Release,
    Settle,
    SignedOp,
    Slash,
    Stake,
    Unbond,
    Unstake,
    sign_op,
)

DOMAIN = ledger_domain("test+00000000+AA==")
SESSION = make_session()
EXAMPLES: tuple[Action, ...] = (
    genesis("test+00000000+AA==", faucet_limit=2**62),
    deposit(CLIENT, 5),
    withdraw(2**63 - 1, "IBAN DE02 1203 0000 0000 2020 51, für Miete"),
    Open(actor=bytes(20), nonce=2**63 - 1, session=SESSION, signature=sign_typed(DOMAIN, SESSION, CLIENT)),
    Open(actor=bytes(20), nonce=1, session=SESSION, signature=b""),
    Settle(actor=bytes(20), nonce=1, vouchers=tuple(voucher_of(DOMAIN, SESSION, n, 2, 3) for n in range(8))),
    Release(actor=bytes(20), nonce=1, discharges=tuple(discharge_of(DOMAIN, SESSION, n % 3, n) for n in range(16))),
    Close(actor=bytes(20), nonce=1, session=session_id(SESSION)),
    stake(2**63 - 1),
    unstake(7),
    unbond(),
    notice(2**40 - 1, faucet_limit=7),
    slash(receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14)),
    equivocation(DOMAIN, checkpoint_of(DOMAIN, CLIENT), checkpoint_of(DOMAIN, CLIENT, root=bytes(32))),
)
TYPES = {
    Genesis: "Genesis(address actor,uint64 nonce,string verifierKey,uint40 grace,uint64 faucetLimit,uint64 fee,"
    "uint40 unbonding,uint40 notice,uint32 bondMultiple)",
    Stake: "Stake(address actor,uint64 nonce,uint64 amount)",
    Unstake: "Unstake(address actor,uint64 nonce,uint64 amount)",
    Unbond: "Unbond(address actor,uint64 nonce)",
    Notice: "Notice(address actor,uint64 nonce,uint40 effective,uint64 faucetLimit,uint64 fee,uint32 bondMultiple)",
    Slash: "Slash(address actor,uint64 nonce,SignedReceipt first,SignedReceipt second)"
    "Receipt(bytes32 session,uint8 leg,uint32 window,uint64 tokensIn,uint64 tokensOut,uint64 rows,bytes32 input,"
    "bytes32 output,bytes32 tokens,bytes32 nonce,bytes32 sketches,uint64 millijoules,string source,uint32 pueMilli,"
    "uint32 p50Us,uint32 p95Us,uint64 late)SignedReceipt(Receipt receipt,bytes signature)",
    Equivocation: "Equivocation(address actor,uint64 nonce,address ledger,SignedCheckpoint first,"
    "SignedCheckpoint second)Checkpoint(bytes32 origin,uint64 size,bytes32 root)"
    "SignedCheckpoint(Checkpoint checkpoint,bytes signature)",
    Open: "Open(address actor,uint64 nonce,Session session,bytes signature)Leg(address provider,uint64 cap)"
    "Session(address client,uint40 expiry,bytes32 terms,bytes32 salt,Leg[] legs)",
    Settle: "Settle(address actor,uint64 nonce,SignedVoucher[] vouchers)"
    "SignedVoucher(Voucher voucher,bytes signature)"
    "Voucher(bytes32 session,uint64[] amounts,uint64 tokensIn,uint64 tokensOut,bytes32 receipts)",
    Close: "Close(address actor,uint64 nonce,bytes32 session)",
}


def wallet_types(encoded: str) -> dict[str, list[dict[str, str]]]:
    """The types that an ``encodeType`` string names, as a wallet takes them."""
    found = {}
    for each in encoded.removesuffix(")").split(")"):
        name, _, members = each.partition("(")
        fields = [member.split(" ") for member in members.split(",")]
        found[name] = [{"name": field, "type": kind} for kind, field in fields]
    return found


def wallet_value(value: object) -> Any:
    """A value as a wallet takes it."""
    if isinstance(value, Message):
        names = [field["name"] for field in wallet_types(encode_type(type(value)))[type(value).typed_as]]
        given = (getattr(value, name) for name, _ in shapes(type(value)))
        return {name: wallet_value(each) for name, each in zip(names, given, strict=True)}
    return [wallet_value(each) for each in value] if isinstance(value, tuple) else value


def request_to(action: Action) -> dict[str, Any]:
    """What ``eth_signTypedData_v4`` is given."""
    return {
        "domain": {
            "name": "joulemesh",
            "version": "2",
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.verifying_contract,
        },
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            **wallet_types(encode_type(type(action))),
        },
        "primaryType": type(action).__name__,
        "message": wallet_value(action),
    }


@pytest.mark.parametrize("action", EXAMPLES, ids=lambda action: f"{type(action).__name__}-{action.nonce}")
def test_a_wallet_makes_the_very_same_signature(action: Action) -> None:
    from eth_account import Account as WalletAccount
    from eth_account.messages import encode_typed_data

    mine = action.replace(actor=CLIENT.address, nonce=action.nonce or 3)
    signed = sign_op(DOMAIN, CLIENT, mine)
    theirs = WalletAccount.sign_message(encode_typed_data(full_message=request_to(mine)), CLIENT.secret)
    s = theirs.s | (1 << 255 if theirs.v == 28 else 0)
    assert signed.signature == theirs.r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert recover_typed(DOMAIN, mine, signed.signature) == CLIENT.address
    read = decode(encode(signed), SignedOp)
    assert read.read() == mine
    assert len(read.action) <= 12 * 1024
    for other in (mine.replace(nonce=0), mine.replace(actor=PROVIDERS[0].address)):
        assert recover_typed(DOMAIN, other, signed.signature) != CLIENT.address


def test_every_operation_has_an_example() -> None:
    assert {type(action) for action in EXAMPLES} == set(ACTIONS)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_the_types_are_the_written_ones(kind: type[Action]) -> None:
    assert encode_type(kind) == TYPES[kind]


def test_the_chain_id_is_one_that_wallets_take() -> None:
    """MetaMask refuses 0 and whatever its own arithmetic on chain ids could not hold (its `isSafeChainId`)."""
    assert type(DOMAIN.chain_id) is int
    assert 0 < LEDGER_CHAIN_ID == DOMAIN.chain_id <= 4_503_599_627_370_476 < 2**53
    assert bytes.fromhex(f"{DOMAIN.chain_id:x}") == b"joule"


def test_a_longest_operation_fits_its_bounds() -> None:
    settle = EXAMPLES[5]
    assert isinstance(settle, Settle)
    legs = SESSION.legs * 5 + SESSION.legs[:1]
    wide = voucher_of(DOMAIN, SESSION.replace(legs=legs), *[2**63 - 1] * 16)
    signed = sign_op(DOMAIN, CLIENT, settle.replace(actor=CLIENT.address, vouchers=(wide,) * 8))
    assert decode(encode(signed), SignedOp) == signed
    with pytest.raises(InvalidError):
        settle.replace(vouchers=(wide,) * 9)
    with pytest.raises(InvalidError):
        settle.replace(vouchers=())
