"""The data plane's certificates: what the vectors call valid gets in, and each neighbour is refused where they say."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import certificate_vectors
import coincurve
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node.p2p.certificate import authenticate, client_context, new_certificate, server_context
from protocol.errors import SignatureError
from protocol.names import DATA_ALPN

VECTORS = json.loads(certificate_vectors.FILE.read_text())
VALID = VECTORS["valid"]
PUBLIC_KEY = bytes.fromhex(VECTORS["peer"]["public_key"])


def test_the_file_is_what_the_clause_makes_of_its_secrets() -> None:
    assert certificate_vectors.build() == VECTORS


def test_the_valid_one_names_its_peer() -> None:
    assert authenticate(bytes.fromhex(VALID["certificate"])) == PUBLIC_KEY
    signed, message = bytes.fromhex(VALID["signature"]), bytes.fromhex(VALID["signed_message"])
    assert coincurve.PublicKey(PUBLIC_KEY).verify(signed, message)


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["what"])
def test_a_neighbour_is_refused_by_the_check_that_is_named(case: dict[str, str], tmp_path: Path) -> None:
    der = bytes.fromhex(case["certificate"])
    if case["refused_by"] == "identity":
        with pytest.raises(SignatureError):
            authenticate(der)
        return
    assert authenticate(der) == PUBLIC_KEY, "nothing but the chain is wrong with it"
    with pytest.raises(ssl.SSLError):
        shake_hands(der, tmp_path)


def test_the_valid_one_passes_the_chain_check_on_both_sides(tmp_path: Path) -> None:
    assert shake_hands(bytes.fromhex(VALID["certificate"]), tmp_path) == PUBLIC_KEY


def test_the_authority_is_the_one_that_contexts_trust() -> None:
    context = server_context(*new_certificate(b"\x01" * 32))
    (trusted,) = context.get_ca_certs(binary_form=True)
    ours, theirs = (
        x509.load_der_x509_certificate(der) for der in (trusted, bytes.fromhex(VECTORS["authority"]["certificate"]))
    )
    assert ours.tbs_certificate_bytes == theirs.tbs_certificate_bytes


def shake_hands(certificate: bytes, folder: Path) -> bytes:
    """The identity that both sides of ours find in a certificate, presented first as a client's, then as a server's."""
    key = ec.derive_private_key(int(VALID["p256_private_key"], 16), ec.SECP256R1())
    path = folder / "peer.pem"
    path.write_bytes(
        x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    found = set()
    for role, ours in ((ssl.PROTOCOL_TLS_CLIENT, server_context), (ssl.PROTOCOL_TLS_SERVER, client_context)):
        theirs = ssl.SSLContext(role)
        theirs.check_hostname = False
        theirs.verify_mode = ssl.CERT_NONE
        theirs.set_alpn_protocols([DATA_ALPN])
        theirs.load_cert_chain(path)
        found.add(_meet(ours(*new_certificate(b"\x01" * 32)), theirs, ours is server_context))
    (identity,) = found
    return identity


def _meet(ours: ssl.SSLContext, theirs: ssl.SSLContext, we_serve: bool) -> bytes:
    """A handshake in memory; the identity of the other side. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = ours.wrap_bio(up, down, server_side=we_serve)
    there = theirs.wrap_bio(down, up, server_side=not we_serve)
    waiting = [there, here]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert waiting == []
    assert here.selected_alpn_protocol() == DATA_ALPN
    return authenticate(here.getpeercert(binary_form=True))
