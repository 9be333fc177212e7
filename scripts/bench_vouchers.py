"""Vouchers that one core verifies in a second: the ledger's rules, bare libsecp256k1, and eth-account beside them.

Checked is a voucher by what legs, ledger and verifiers share (`check_voucher`); settled is it by a signed operation
with eight of them, under all rules of the ledger: bytes, nonce, signatures, sessions, caps, what rises, effects. Bare
is a recovery of each voucher's signer from a digest that is there already. Turns alternate; what is compared is
processor time.

    python scripts/bench_vouchers.py
    python scripts/bench_vouchers.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import coincurve
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from protocol.identity.eip712 import typed_digest
from protocol.identity.ids import checksum_address
from protocol.identity.signing import SigningKey
from protocol.session.messages import Leg, Session, SignedVoucher, Voucher, check_voucher, session_id, sign_voucher
from protocol.settlement import Books, apply, ledger_domain
from protocol.settlement.operations import MAX_SETTLED, Deposit, Genesis, Open, Settle, SignedOp, sign_op

KEY = "bench+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
DOMAIN = ledger_domain(KEY)
OPERATOR, CLIENT = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
PROVIDERS = [SigningKey(bytes([3 + number]) * 32) for number in range(4)]
NOW = 1_800_000_000
SESSIONS = MAX_SETTLED
OPERATIONS = 60
ROUNDS = 7
FEW = 10
"""Operations whose vouchers the slowest side verifies."""


def opened() -> tuple[Books, list[Session]]:
    """A ledger with some sessions of four legs."""
    books = Books()

    def take(signed: SignedOp) -> None:
        books.record(apply(books, DOMAIN, signed, NOW))

    genesis = Genesis(
        actor=OPERATOR.address,
        nonce=1,
        verifier_key=KEY,
        grace=60,
        faucet_limit=0,
        fee=1,
        unbonding=60,
        notice=60,
        bond_multiple=0,
    )
    take(sign_op(DOMAIN, OPERATOR, genesis))
    deposit = Deposit(actor=OPERATOR.address, nonce=2, account=CLIENT.address, amount=10**12, reference="")
    take(sign_op(DOMAIN, OPERATOR, deposit))
    sessions = []
    for number in range(SESSIONS):
        legs = tuple(Leg(provider=key.address, cap=10**9) for key in PROVIDERS)
        session = Session(client=CLIENT.address, expiry=NOW + 60, terms=bytes(32), salt=bytes([number]) * 32, legs=legs)
        take(sign_op(DOMAIN, CLIENT, Open(actor=CLIENT.address, nonce=number + 1, session=session, signature=b"")))
        sessions.append(session)
    return books, sessions


def settlements(sessions: list[Session]) -> list[Settle]:
    """Each pays every session's legs some more."""

    def voucher(session: Session, number: int) -> SignedVoucher:
        amounts = tuple(number * 10 + leg for leg in range(4))
        what = Voucher(
            session=session_id(session), amounts=amounts, tokens_in=number, tokens_out=number, receipts=bytes(32)
        )
        return sign_voucher(DOMAIN, what, CLIENT)

    return [
        Settle(actor=CLIENT.address, nonce=100 + number, vouchers=tuple(voucher(each, number) for each in sessions))
        for number in range(1, OPERATIONS + 1)
    ]


def split(signature: bytes) -> bytes:
    """As libsecp256k1 takes it."""
    return signature[:32] + bytes([signature[32] & 0x7F]) + signature[33:] + bytes([signature[32] >> 7])


def by_ledger(books: Books, operations: list[SignedOp]) -> None:
    """All checks of the rules; the books are as they were afterwards."""
    kept = Books(books.rules, dict(books.accounts), dict(books.sessions))
    for signed in operations:
        kept.record(apply(kept, DOMAIN, signed, NOW))


def by_check(sessions: list[Session], vouchers: list[SignedVoucher]) -> None:
    """What a leg does with each voucher that it gets."""
    for number, signed in enumerate(vouchers):
        check_voucher(DOMAIN, sessions[number % SESSIONS], signed)


def bare(pairs: list[tuple[bytes, bytes]]) -> None:
    """Recover each signer."""
    for signature, digest in pairs:
        coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)


def by_eth_account(vouchers: list[SignedVoucher]) -> None:
    """Encode and recover as most Python that meets Ethereum does."""
    domain = {
        "name": DOMAIN.name,
        "version": DOMAIN.version,
        "chainId": DOMAIN.chain_id,
        "verifyingContract": checksum_address(DOMAIN.verifying_contract),
    }
    types = {
        "Voucher": [
            {"name": "session", "type": "bytes32"},
            {"name": "amounts", "type": "uint64[]"},
            {"name": "tokensIn", "type": "uint64"},
            {"name": "tokensOut", "type": "uint64"},
            {"name": "receipts", "type": "bytes32"},
        ]
    }
    for signed in vouchers:
        voucher = signed.voucher
        said = {
            "session": voucher.session,
            "amounts": list(voucher.amounts),
            "tokensIn": voucher.tokens_in,
            "tokensOut": voucher.tokens_out,
            "receipts": voucher.receipts,
        }
        data = split(signed.signature)
        signer = EthAccount.recover_message(
            encode_typed_data(domain, types, said), signature=data[:64] + bytes([27 + data[64]])
        )
        if bytes.fromhex(signer[2:]) != CLIENT.address:
            raise SystemExit("eth-account recovers another signer")


def rate(call: Callable[[], None], count: int) -> float:
    """Vouchers a second of processor time."""
    began = time.process_time()
    call()
    return count / (time.process_time() - began)


def measured() -> dict[str, float]:
    """Medians over some rounds, and of their ratios."""
    books, sessions = opened()
    asked = settlements(sessions)
    operations = [sign_op(DOMAIN, CLIENT, action) for action in asked]
    vouchers = [each for action in asked for each in action.vouchers]
    pairs = [(split(each.signature), typed_digest(DOMAIN, each.voucher)) for each in vouchers]
    few = vouchers[: FEW * MAX_SETTLED]
    sides: dict[str, tuple[Callable[[], None], int]] = {
        "settled": (lambda: by_ledger(books, operations), len(vouchers)),
        "checked": (lambda: by_check(sessions, vouchers), len(vouchers)),
        "bare": (lambda: bare(pairs), len(pairs)),
        "eth_account": (lambda: by_eth_account(few), len(few)),
    }
    rounds = [{name: rate(call, count) for name, (call, count) in sides.items()} for _ in range(ROUNDS)]
    return {
        f"{side}_to_{other}": statistics.median(each[side] / each[other] for each in rounds)
        for side in ("checked", "settled")
        for other in ("bare", "eth_account")
    } | {"checked_per_s": statistics.median(each["checked"] for each in rounds)}


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    found = measured()
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['checked_per_s']:,.0f} vouchers checked a second and core")
    for side in ("checked", "settled"):
        print(
            f"{side}: {found[f'{side}_to_bare']:.2f} of bare libsecp256k1, "
            f"{found[f'{side}_to_eth_account']:.1f} times eth-account"
        )


if __name__ == "__main__":
    main()
