"""The worked example of the EIP-712 specification."""

from __future__ import annotations

from outside_vectors import load_vectors

from protocol.identity.eip712 import Domain
from protocol.identity.ids import keccak256, parse_address
from protocol.identity.signing import SigningKey, recover


def test_the_example_of_the_specification() -> None:
    mail = load_vectors("eip712_mail")
    given = mail["domain"]
    domain = Domain(
        name=given["name"],
        version=given["version"],
        chain_id=given["chainId"],
        verifying_contract=parse_address(given["verifyingContract"]),
    )
    assert domain.separator.hex() == mail["domain_separator"]
    digest = keccak256(b"\x19\x01" + domain.separator + bytes.fromhex(mail["struct_hash"]))
    assert digest.hex() == mail["digest"]
    signature = SigningKey(keccak256(b"cow")).sign_digest(digest)
    assert signature.hex() == mail["r"] + mail["vs_eip2098"]
    assert recover(digest, signature) == parse_address(mail["signer"])
