"""Builds `tests/vectors/certificate.json`, the same to the byte each time: run this file to write it anew.

Every certificate is built here from its parts, with nothing of `node.p2p.certificate` but what is compared.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import coincurve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.identity.peer_id import peer_id_of

FILE = Path(__file__).parents[1] / "vectors" / "certificate.json"

PEER, STRANGER = bytes(range(1, 33)), bytes(range(2, 34))
KEY = ec.derive_private_key(0x1234567890, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(0x9876543210, ec.SECP256R1())
AUTHORITY_SCALAR = 0x6A6F756C656D657368
AUTHORITY = ec.derive_private_key(AUTHORITY_SCALAR, ec.SECP256R1())
FOREIGN_AUTHORITY = ec.derive_private_key(0xABCDEF, ec.SECP256R1())
OID = "1.3.6.1.4.1.53594.1.1"
PREFIX = b"libp2p-tls-handshake:"
SINCE, UNTIL = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2000, 2999))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def tlv(tag: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([tag, len(data)]) + data


def extension(peer: bytes, signature: bytes, *, key_type: int = 2) -> bytes:
    public_key = coincurve.PrivateKey(peer).public_key.format()
    return tlv(0x30, tlv(0x04, bytes([0x08, key_type, 0x12, 0x21]) + public_key) + tlv(0x04, signature))


def signature(peer: bytes, key: ec.EllipticCurvePrivateKey, prefix: bytes = PREFIX) -> bytes:
    return coincurve.PrivateKey(peer).sign(prefix + spki(key))


def high_s(signed: bytes) -> bytes:
    """The other signature of the same message by the same key."""
    size = signed[3]
    r, s = signed[4 : 4 + size], int.from_bytes(signed[6 + size :], "big")
    mirrored = (ORDER - s).to_bytes(33, "big").lstrip(b"\x00")
    return tlv(0x30, tlv(0x02, r) + tlv(0x02, b"\x00" + mirrored if mirrored[0] & 0x80 else mirrored))


def certificate(
    value: bytes | None,
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    issuer: str = "joulemesh public authority",
    authority: ec.EllipticCurvePrivateKey = AUTHORITY,
    oid: str = OID,
    critical: bool = False,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("joulemesh peer"))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(SINCE)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if value is not None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=critical)
    made = builder.sign(authority, hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.DER)


def authority_certificate() -> bytes:
    made = (
        x509.CertificateBuilder()
        .subject_name(name("joulemesh public authority"))
        .issuer_name(name("joulemesh public authority"))
        .public_key(AUTHORITY.public_key())
        .serial_number(1)
        .not_valid_before(SINCE)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(AUTHORITY, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return made.public_bytes(serialization.Encoding.DER)


def invalid() -> list[dict[str, str]]:
    """Neighbours of the valid certificate, and which of the two checks refuses each."""
    signed = signature(PEER, KEY)
    good = extension(PEER, signed)
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    wide = ec.derive_private_key(0x1234567890, ec.SECP384R1())
    valid = certificate(good)
    identity = {
        "no extension": certificate(None),
        "the extension under another OID": certificate(good, oid="1.3.6.1.4.1.53594.1.2"),
        "an empty extension": certificate(b""),
        "one bit of the signature changed": certificate(extension(PEER, flipped[-len(signed) :])),
        "signed by another key than the one named": certificate(extension(PEER, signature(STRANGER, KEY))),
        "signed for the key of another certificate": certificate(extension(PEER, signature(PEER, OTHER_KEY))),
        "signed without the prefix": certificate(extension(PEER, signature(PEER, KEY, b""))),
        "s in the upper half of the order": certificate(extension(PEER, high_s(signed))),
        "a byte after the sequence": certificate(good + b"\x00"),
        "a length in two bytes": certificate(b"\x30\x81" + good[1:]),
        "the key marked as Ed25519": certificate(extension(PEER, signed, key_type=1)),
        "a certificate for a P-384 key": certificate(extension(PEER, signature(PEER, wide)), key=wide),
        "a version that does not exist": valid.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1),
        "the last byte missing": valid[:-1],
    }
    chain = {
        "signed by itself, as libp2p's own TLS has it": certificate(good, issuer="joulemesh peer", authority=KEY),
        "by another authority of the same name": certificate(good, authority=FOREIGN_AUTHORITY),
        "by the authority under another name": certificate(good, issuer="somebody"),
        "the extension marked critical": certificate(good, critical=True),
    }
    return [
        {"what": what, "refused_by": check, "certificate": der.hex()}
        for check, group in (("identity", identity), ("chain", chain))
        for what, der in group.items()
    ]


def build() -> dict[str, Any]:
    """The content of the file."""
    public_key = coincurve.PrivateKey(PEER).public_key.format()
    return {
        "clause": "W12",
        "authority": {
            "p256_private_key": AUTHORITY_SCALAR.to_bytes(32, "big").hex(),
            "certificate": authority_certificate().hex(),
        },
        "peer": {
            "secret": PEER.hex(),
            "public_key": public_key.hex(),
            "peer_id": peer_id_of(public_key),
        },
        "valid": {
            "p256_private_key": KEY.private_numbers().private_value.to_bytes(32, "big").hex(),
            "subject_public_key_info": spki(KEY).hex(),
            "signed_message": (PREFIX + spki(KEY)).hex(),
            "signature": signature(PEER, KEY).hex(),
            "extension": extension(PEER, signature(PEER, KEY)).hex(),
            "certificate": certificate(extension(PEER, signature(PEER, KEY))).hex(),
        },
        "invalid": invalid(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(build(), indent=2) + "\n")
