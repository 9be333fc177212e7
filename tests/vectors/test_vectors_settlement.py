"""The settlement rules case by case, read from the file alone, as an implementation in another language would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.encoding.codec import decode, encode
from protocol.errors import PeerError, RuleError
from protocol.identity.eip712 import Domain, encode_type, recover_typed, struct_hash, typed_digest
from protocol.identity.ids import Address, SessionId
from protocol.identity.signing import SigningKey
from protocol.session.messages import Session, session_id
from protocol.settlement import Account, Books, Change, Rules, SessionRecord, apply, ledger_domain
from protocol.settlement.operations import ACTIONS, SignedOp
from scripts.vectors import settlement

FILE = Path(__file__).with_name("settlement.json")
VECTORS = json.loads(FILE.read_text())
CASES = VECTORS["cases"]
DOMAIN = Domain(
    chain_id=VECTORS["domain"]["chainId"], verifying_contract=bytes.fromhex(VECTORS["domain"]["verifyingContract"])
)


def read_books(said: dict[str, Any]) -> Books:
    books = Books(burned=int(said["burned"]))
    if said["rules"] is not None:
        rules = said["rules"]
        books.rules = Rules(
            operator=Address(bytes.fromhex(rules["operator"])),
            verifier_key=rules["verifier_key"],
            grace_s=rules["grace_s"],
            unbonding_s=rules["unbonding_s"],
            notice_s=rules["notice_s"],
            faucet_limit=int(rules["faucet_limit"]),
            fee=int(rules["fee"]),
            bond_multiple=rules["bond_multiple"],
            coming=None if rules["coming"] is None else Change(**{k: int(v) for k, v in rules["coming"].items()}),
        )
    for address, account in said["accounts"].items():
        values = {name: int(value) for name, value in account.items()}
        books.accounts[Address(bytes.fromhex(address))] = Account(**values)
    for identity, record in said["sessions"].items():
        session = decode(bytes.fromhex(record["session"]), Session)
        assert session_id(session).hex() == identity
        books.sessions[SessionId(bytes.fromhex(identity))] = SessionRecord(
            session, tuple(map(int, record["settled"])), tuple(map(int, record["ceilings"]))
        )
    return books


def test_the_file_is_what_the_generator_writes() -> None:
    assert json.loads(json.dumps(settlement.document())) == VECTORS


def test_the_domain_follows_from_the_verifier_key() -> None:
    assert ledger_domain(VECTORS["verifier_key"]) == DOMAIN
    assert DOMAIN.separator.hex() == VECTORS["domain"]["separator"]
    for party in VECTORS["parties"].values():
        assert SigningKey(bytes.fromhex(party["secret"])).address.hex() == party["address"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_case(case: dict[str, Any]) -> None:
    books = read_books(VECTORS["states"][case["before"]])
    signed = decode(bytes.fromhex(case["operation"]), SignedOp)
    assert (signed.action.hex(), signed.signature.hex()) == (case["action"], case["signature"])
    if "digest" in case:
        action = signed.read()
        assert (encode_type(type(action)), struct_hash(action).hex()) == (case["type"], case["struct_hash"])
        assert typed_digest(DOMAIN, action).hex() == case["digest"]
        assert recover_typed(DOMAIN, action, signed.signature) == action.actor
    if not case["accepted"]:
        with pytest.raises((RuleError, PeerError)) as refused:
            apply(books, DOMAIN, signed, case["now"])
        assert refused.value.code == case["code"]
        return
    outcome = apply(books, DOMAIN, signed, case["now"])
    books.record(outcome)
    assert encode(outcome.entry).hex() == case["entry"]
    after, grace_s = read_books(case["after"]), 0 if books.rules is None else books.rules.grace_s
    for identity, record in list(books.sessions.items()):
        if record.is_forgotten(case["now"], grace_s):
            del books.sessions[identity]
    assert books == after


def test_every_operation_is_there_accepted_and_refused() -> None:
    for kind in ACTIONS:
        assert {case["accepted"] for case in CASES if case["kind"] == kind.kind} == {True, False}, kind.kind
    assert len({case["name"] for case in CASES}) == len(CASES)
