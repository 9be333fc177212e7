"""The identity in a certificate. Who gets in over the network is in tests/integration/p2p/test_p2p_direct.py."""

from __future__ import annotations

import os

import pytest
from brevity import at_length
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.p2p.certificate import authenticate, identity_extension, issue, new_certificate
from protocol.errors import SignatureError
from protocol.identity.signing import SigningKey

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


@settings(max_examples=at_length(200), deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(place, difference):
    changed = bytearray(HONEST)
    changed[place] ^= difference
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, bytes(changed))))


@settings(max_examples=at_length(100), deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(extension):
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, extension)))


@given(st.integers(0, len(HONEST) - 1))
@settings(max_examples=at_length(30), deadline=None)
def test_a_cut_identity_is_refused(size):
    with pytest.raises(SignatureError):
        authenticate(der(issue(KEY, HONEST[:size])))


def test_an_identity_does_not_move_to_another_key():
    with pytest.raises(SignatureError, match="forged"):
        authenticate(der(issue(ec.generate_private_key(ec.SECP256R1()), HONEST)))


CERTIFICATE = der(issue(KEY, HONEST))


@st.composite
def mutations(draw):
    """A certificate with some bytes changed, left out, doubled or put in."""
    data = bytearray(CERTIFICATE)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "double"])):
            case "flip":
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[place] = draw(st.sampled_from([0, 1, 2, 5, 0x30, 0x7F, 0x80, 0x81, 0xFF]))
            case "cut":
                del data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
        if not data:
            break
    return bytes(data)


@settings(max_examples=at_length(1500), deadline=None)
@given(mutations() | st.binary(max_size=300))
@example(CERTIFICATE.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1))
def test_any_bytes_are_an_honest_certificate_or_a_signature_error(certificate):
    try:
        found = authenticate(certificate)
    except SignatureError:
        return
    assert found == SigningKey(SECRET).public_key, "what was changed lies outside the identity"


def test_a_certificate_of_a_version_that_does_not_exist_is_refused():
    with pytest.raises(SignatureError, match="InvalidVersion"):
        authenticate(CERTIFICATE.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1))


def test_a_certificate_for_another_curve_is_refused():
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(SignatureError, match="P-256"):
        authenticate(der(issue(key, identity_extension(SECRET, key.public_key()))))


def test_certificates_are_fresh():
    assert new_certificate(SECRET)[1] != new_certificate(SECRET)[1]
