"""Evidence from a contract, down to the bytes: what each stands for, and that what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.chain.chain_evidence import ChainProof, check_chain_proof
from protocol.chain.contract import Contract
from protocol.encoding.codec import decode, encode
from protocol.errors import PeerError
from protocol.session.messages import session_id
from scripts.vectors.chain import document

FILE = json.loads(Path(__file__).with_name("chain.json").read_text())
CONTRACT = Contract.parse(FILE["contract"])


def test_the_file_is_what_the_program_writes() -> None:
    assert document() == FILE, "run python -m scripts.vectors.chain"


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: case["name"])
def test_evidence_is_what_it_is(case: dict[str, Any]) -> None:
    proof = decode(bytes.fromhex(case["evidence"]), ChainProof)
    if "error" in case:
        with pytest.raises(PeerError) as refused:
            check_chain_proof(proof, CONTRACT)
        assert refused.value.code == case["error"]
        return
    shown = check_chain_proof(proof, CONTRACT)
    assert (shown.transaction.hex(), encode(shown.call.action).hex()) == (case["transaction"], case["action"])
    found = [(session_id(each.session).hex(), [*each.settled], [*each.ceilings]) for each in shown.call.after]
    said = [(each["session"], [*map(int, each["settled"])], [*map(int, each["ceilings"])]) for each in case["sessions"]]
    assert found == said


def test_its_senders_are_those_that_a_wallet_finds() -> None:
    """By a library that we did not write."""
    from eth_account import Account as Wallet

    valid = [case for case in FILE["cases"] if "error" not in case]
    assert len(valid) == 5
    for case in valid:
        signed = decode(bytes.fromhex(case["evidence"]), ChainProof).transaction
        actor = check_chain_proof(decode(bytes.fromhex(case["evidence"]), ChainProof), CONTRACT).call.action.actor
        assert Wallet.recover_transaction(signed).lower() == "0x" + actor.hex()
