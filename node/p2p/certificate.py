"""TLS with a libp2p identity: an ephemeral certificate that a secp256k1 key vouches for, and the check of one.

The certificate's extension 1.3.6.1.4.1.53594.1.1 holds the peer's public key and its signature over the certificate's
own key (libp2p TLS specification). Python's ssl has no hook to accept a self-signed certificate after a look at it, so
every certificate is issued by an authority whose private key is public. That authority proves nothing and is only
there to have the certificate taken and handed out: all trust rests on the extension, which `authenticate` checks, and
on TLS 1.3, which proves possession of the certificate's key. Not wire compatible with libp2p's own /tls.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from pathlib import Path

import coincurve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import MalformedError, SignatureError
from protocol.identity.peer_id import protobuf_of, public_key_of_protobuf
from protocol.names import DATA_ALPN

__all__ = ["authenticate", "client_context", "identity_extension", "new_certificate", "server_context"]

_OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
_SIGNED_PREFIX = b"libp2p-tls-handshake:"
_AUTHORITY_KEY = ec.derive_private_key(0x6A6F756C656D657368, ec.SECP256R1())  # public on purpose
_AUTHORITY_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "joulemesh public authority")])
_LEAF_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "joulemesh peer")])
# Certificates live as long as a process and are checked against no clock that might be wrong.
_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_UNTIL = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
_MAX_SIGNATURE = 72  # DER
_KEY_SIZE = 37  # libp2p protobuf


def new_certificate(secret: bytes) -> tuple[bytes, bytes]:
    """A fresh certificate and its private key, both PEM, vouched for by the 32-byte `secret`."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue(key, identity_extension(secret, key.public_key()))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), pem


def identity_extension(secret: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """The extension's value: DER SEQUENCE { OCTET STRING public key, OCTET STRING signature }."""
    host_key = coincurve.PrivateKey(secret)
    signature = host_key.sign(_SIGNED_PREFIX + _spki(key))
    body = _octets(protobuf_of(host_key.public_key.format())) + _octets(signature)
    return bytes([0x30, len(body)]) + body


def issue(key: ec.EllipticCurvePrivateKey, extension: bytes | None) -> x509.Certificate:
    """A certificate for `key` from the public authority."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_LEAF_NAME)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if extension is not None:  # not critical: OpenSSL refuses critical extensions that it does not know
        builder = builder.add_extension(x509.UnrecognizedExtension(_OID, extension), critical=False)
    return builder.sign(_AUTHORITY_KEY, hashes.SHA256())


def authenticate(certificate: bytes | None) -> bytes:
    """The 33-byte public key of the peer behind a DER certificate that a finished TLS handshake yielded.

    1. there is a certificate, and it parses; 2. its own key is a P-256 key; 3. it has the extension, once; 4. the
    extension is well formed and its key is a secp256k1 key; 5. the signature is that key's, over this very
    certificate's key (docs/spec/wire.md, clause W12). The caller still owes comparing the result with the peer that
    it expects.

    Raises:
        SignatureError: any of these fails, whatever the bytes are.
    """
    if certificate is None:
        raise SignatureError("the peer showed no certificate")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        extension = parsed.extensions.get_extension_for_oid(_OID).value
        key = parsed.public_key()
    except Exception as error:  # noqa: BLE001 - the parser has many kinds of errors, some of them plain Exceptions
        raise SignatureError(f"the peer's certificate carries no identity ({type(error).__name__})") from None
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise SignatureError("the peer's certificate carries no identity")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("the peer's certificate is not for a P-256 key")
    host_key, signature = _read_extension(extension.value)
    try:
        public_key = public_key_of_protobuf(host_key)
    except MalformedError as error:
        raise SignatureError(error.message) from None
    if not _verifies(public_key, signature, _SIGNED_PREFIX + _spki(key)):
        raise SignatureError("the identity in the peer's certificate is forged")
    return public_key


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """TLS 1.3 only, and no client without a certificate."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key)
    context.num_tickets = 0  # no session is resumed
    return context


def client_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """TLS 1.3 only; names are not checked, identities are (`authenticate`)."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key)


def _context(role: int, certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([DATA_ALPN])
    context.load_verify_locations(cadata=_authority().public_bytes(serialization.Encoding.PEM).decode())
    with tempfile.TemporaryDirectory() as folder:  # ssl reads a key from a file only; 0700, and gone at once
        path = Path(folder) / "peer.pem"
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)
    return context


def _authority() -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_AUTHORITY_NAME)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(_AUTHORITY_KEY.public_key())
        .serial_number(1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(_AUTHORITY_KEY, hashes.SHA256())
    )


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _octets(data: bytes) -> bytes:
    return bytes([0x04, len(data)]) + data


def _read_extension(data: bytes) -> tuple[bytes, bytes]:
    """Key and signature. Lengths here are below 128, so every DER length is one byte."""
    size = len(data) - 2 - 2 - _KEY_SIZE - 2
    head = bytes([0x30, (len(data) - 2) & 0x7F, 0x04, _KEY_SIZE])
    if not (8 <= size <= _MAX_SIGNATURE and data[:4] == head):
        raise SignatureError("the identity in the peer's certificate is malformed")
    split = 4 + _KEY_SIZE
    if data[split : split + 2] != bytes([0x04, size]):
        raise SignatureError("the identity in the peer's certificate is malformed")
    return data[4:split], data[split + 2 :]


def _verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        return coincurve.PublicKey(public_key).verify(signature, message)
    except ValueError:  # not DER
        return False
