"""ML-DSA-44 and its cosignatures, held against vectors that other implementations made."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from outside_vectors import load_vectors

from protocol.errors import SignatureError
from protocol.log.cosignature import cosigned_by
from protocol.log.post_quantum import PostQuantumCosigningKey, PostQuantumKey


def verifies(public_key: str, message: str, signature: str) -> bool:
    try:
        key = MLDSA44PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), bytes.fromhex(message))
    except (InvalidSignature, ValueError):
        return False
    return True


def test_signatures_are_taken_and_refused_as_wycheproof_says() -> None:
    cases = load_vectors("mldsa_44_verify")["tests"]
    assert {each["result"] for each in cases} == {"valid", "invalid"}
    for each in cases:
        taken = verifies(each["publicKey"], each["msg"], each["sig"])
        assert taken == (each["result"] == "valid"), each["comment"]


def test_a_cosignature_that_another_implementation_made_is_taken() -> None:
    made = load_vectors("mldsa_cosignature")
    key = PostQuantumKey.parse(made["verifier_key"])
    assert PostQuantumCosigningKey(key.name, bytes.fromhex(made["seed"])).verifier == key
    assert cosigned_by(f"{made['text']}\n{made['line']}".encode(), key) == made["time"]
    with pytest.raises(SignatureError):
        cosigned_by(f"{made['text']}\n{made['of_another_size']}".encode(), key)
