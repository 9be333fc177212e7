"""Peer ids: how a libp2p peer id and a 33-byte secp256k1 public key follow from one another.

Written out here, without libp2p, because addresses are checked in places that need no network. The id is the base58
text of an identity multihash around libp2p's protobuf form of the key (libp2p peer-ids specification).
"""

from __future__ import annotations

import coincurve

from protocol.errors import MalformedError

__all__ = ["peer_id_of", "protobuf_of", "public_key_of", "public_key_of_protobuf"]

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE_OF = {letter: value for value, letter in enumerate(_ALPHABET)}
_KEY_PREFIX = bytes([0x08, 0x02, 0x12, 33])  # protobuf: Type = Secp256k1, Data = 33 bytes
_MULTIHASH_PREFIX = bytes([0x00, len(_KEY_PREFIX) + 33])  # identity "hash" and its length
_PEER_ID_LENGTH = 53  # letters; every id of this form has as many, since its first bytes are fixed


def protobuf_of(public_key: bytes) -> bytes:
    """libp2p's protobuf form (37 bytes) of a compressed public key. Raises MalformedError."""
    _check(public_key)
    return _KEY_PREFIX + public_key


def public_key_of_protobuf(data: bytes) -> bytes:
    """The 33-byte public key inside libp2p's protobuf form. Raises MalformedError for other keys and other bytes."""
    if len(data) != len(_KEY_PREFIX) + 33 or not data.startswith(_KEY_PREFIX):
        raise MalformedError("not a secp256k1 public key in libp2p's form")
    public_key = data[len(_KEY_PREFIX) :]
    _check(public_key)
    return public_key


def peer_id_of(public_key: bytes) -> str:
    """The peer id ("16Uiu2...") of a 33-byte compressed public key. Raises MalformedError."""
    number = int.from_bytes(_MULTIHASH_PREFIX + protobuf_of(public_key), "big")
    letters = []
    while number:
        number, value = divmod(number, 58)
        letters.append(_ALPHABET[value])
    return "1" + "".join(reversed(letters))  # the leading zero byte


def public_key_of(peer_id: str) -> bytes:
    """The 33-byte compressed public key inside a peer id. Raises MalformedError for any other text."""
    if len(peer_id) != _PEER_ID_LENGTH or peer_id[0] != "1" or peer_id[1] == "1":
        raise MalformedError(f"{peer_id[:64]!r} is not the peer id of a secp256k1 key")
    number = 0
    for letter in peer_id[1:]:
        value = _VALUE_OF.get(letter)
        if value is None:
            raise MalformedError(f"{peer_id!r} holds a letter that base58 does not have")
        number = number * 58 + value
    size = len(_MULTIHASH_PREFIX) + len(_KEY_PREFIX) + 33
    if number.bit_length() > 8 * size:
        raise MalformedError(f"{peer_id!r} is not the peer id of a secp256k1 key")
    data = number.to_bytes(size, "big")
    if not data.startswith(_MULTIHASH_PREFIX):
        raise MalformedError(f"{peer_id!r} is not the peer id of a secp256k1 key")
    return public_key_of_protobuf(data[len(_MULTIHASH_PREFIX) :])


def _check(public_key: bytes) -> None:
    if len(public_key) != 33:
        raise MalformedError(f"a compressed public key has 33 bytes, not {len(public_key)}")
    try:
        coincurve.PublicKey(public_key)
    except ValueError:
        raise MalformedError("not a point on secp256k1") from None
