"""The identity in a certificate. Who gets in over the network is in tests/integration/p2p/test_p2p_direct.py."""

from __future__ import annotations

import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from node.p2p.certificate import authenticate, identity_extension, issue, new_certificate
from protocol.errors import SignatureError
from protocol.signing import SigningKey

KEY = ec.generate_private_key(ec.SECP256R1())
SECRET = os.urandom(32)
HONEST = identity_extension(SECRET, KEY.public_key())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_an_honest_certificate_names_its_key():
    pem, _ = new_certificate(SECRET)
    assert authenticate(der(x509.load_pem_x509_certificate(pem))) == SigningKey(SECRET).public_key
    assert authenticate(der(issue(KEY, HONEST))) == SigningKey(SECRET).public_key


def test_no_certificate_and_no_identity():
    for certificate in (None, b"", b"garbage", der(issue(KEY, None))):
        with pytest.raises(SignatureError):
            authenticate(certificate)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(place, difference):
    changed = bytearray(HONEST)
    changed[place] ^= difference
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, bytes(changed))))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(extension):
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, extension)))


@given(st.integers(0, len(HONEST) - 1))
@settings(max_examples=30, deadline=None)
def test_a_cut_identity_is_refused(size):
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, HONEST[:size])))


def test_an_identity_does_not_move_to_another_key():
    with pytest.raises(SignatureError, match="forged"):
        authenticate(der(issue(ec.generate_private_key(ec.SECP256R1()), HONEST)))


def test_certificates_are_fresh():
    assert new_certificate(SECRET)[1] != new_certificate(SECRET)[1]
