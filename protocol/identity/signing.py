"""secp256k1 signatures: one key for each party, one 64-byte form (EIP-2098), two separated message spaces.

What the ledger or a contract checks is EIP-712 typed data (`eip712`). Everything else that is signed travels in the
envelope here, whose digest begins with bytes that no EIP-191 or EIP-712 digest begins with.
"""

from __future__ import annotations

import functools
from typing import Annotated, TypeVar

import coincurve

from protocol.encoding.codec import Message, Size, decode, encode, message
from protocol.errors import InvalidError, MalformedError, SignatureError
from protocol.identity.ids import Address, SignatureBytes, address_of, keccak256

__all__ = ["Envelope", "SigningKey", "address_of_public_key", "open_envelope", "recover", "seal"]

_ENVELOPE_PREFIX = b"\x19joulemesh envelope\n"
_HIGH_BIT = 1 << 255


class SigningKey:
    """A party's secret. Its representation never shows it.

    Raises:
        InvalidError: when the 32 bytes are not a valid secp256k1 secret.
    """

    __slots__ = ("_key", "address", "public_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise InvalidError(f"a secret key has 32 bytes, not {len(secret)}")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError:
            raise InvalidError("not a valid secp256k1 secret key") from None
        self.public_key: bytes = self._key.public_key.format()
        """33 bytes, compressed; the libp2p peer id follows from it."""
        self.address: Address = address_of(self._key.public_key.format(compressed=False))
        """20 bytes, the EVM address."""

    def __repr__(self) -> str:
        return f"SigningKey(0x{self.address.hex()})"

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for the keystore and for the transports that need them."""
        return bytes(self._key.secret)

    def sign_digest(self, digest: bytes) -> bytes:
        """64-byte EIP-2098 signature: r, then s with the parity of the recovery id in its top bit."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        s = int.from_bytes(signature[32:64], "big") | (_HIGH_BIT if signature[64] else 0)
        return signature[:32] + s.to_bytes(32, "big")


def recover(digest: bytes, signature: bytes) -> Address:
    """The address whose key made the EIP-2098 `signature` over `digest`. Raises SignatureError."""
    if len(signature) != 64:
        raise SignatureError(f"a signature has 64 bytes, not {len(signature)}")
    # r, s without its top bit, and that bit: the parity.
    split = b"%b%c%b%c" % (signature[:32], signature[32] & 0x7F, signature[33:], signature[32] >> 7)
    try:
        key = coincurve.PublicKey.from_signature_and_message(split, digest, hasher=None)
    except Exception as error:  # noqa: BLE001 - what coincurve raises for a failed recovery is a bare Exception
        raise SignatureError(f"not a valid signature ({type(error).__name__})") from None
    return address_of(key.format(compressed=False))


@functools.lru_cache(maxsize=8192)
def address_of_public_key(public_key: bytes) -> Address:
    """The address of a 33-byte compressed public key; asked for with every frame, so it is remembered.

    Raises MalformedError.
    """
    try:
        return address_of(coincurve.PublicKey(public_key).format(compressed=False))
    except ValueError:
        raise MalformedError("not a valid secp256k1 public key") from None


@message("envelope/1")
class Envelope(Message):
    """A signed message of any kind; the signer follows from the signature."""

    body: Annotated[bytes, Size(1, 60 * 1024)]
    """Canonical bytes of the message."""
    signature: SignatureBytes
    """EIP-2098, over the domain-separated hash of `body`."""


M = TypeVar("M", bound=Message)


def seal(value: Message, key: SigningKey) -> bytes:
    """Canonical bytes of an envelope around `value`, signed by `key`."""
    body = encode(value)
    return encode(Envelope(body=body, signature=key.sign_digest(keccak256(_ENVELOPE_PREFIX + body))))


def open_envelope(data: bytes, *accepted: type[M]) -> tuple[M, Address]:
    """The message inside an envelope, and who signed it.

    The caller still owes: comparing the signer with the party that the message speaks for, and expiry.

    Raises:
        MalformedError: not an envelope around one of the `accepted` kinds.
        SignatureError: the signature is no signature.
    """
    envelope = decode(data, Envelope)
    signer = recover(keccak256(_ENVELOPE_PREFIX + envelope.body), envelope.signature)
    return decode(envelope.body, *accepted), signer
