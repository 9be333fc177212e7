"""Who signs what in the event engine's sessions: names alone, or real keys.

A rule asks only who signed. With names the signature says so itself, which no protocol would believe, at a tenth of the
cost; with keys everything is signed and recovered as nodes do.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Protocol

from protocol.encoding.codec import Message
from protocol.identity.eip712 import Domain, recover_typed, sign_typed
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey

__all__ = ["KeySigners", "NameSigners", "Signers"]


class Signers(Protocol):
    """Signs for anybody by name."""

    def address(self, name: str) -> Address:
        """Of an account."""
        ...

    def public_key(self, name: str) -> bytes:
        """33 bytes."""
        ...

    def sign(self, domain: Domain, value: Message, name: str) -> bytes:
        """64 bytes."""
        ...

    def recover(self, domain: Domain, value: Message, signature: bytes) -> Address:
        """Who signed. Raises SignatureError."""
        ...


class NameSigners:
    """A signature is the signer's address."""

    @functools.cache  # noqa: B019 - one for each run, and as many names as it has accounts
    def address(self, name: str) -> Address:
        """A hash of the name."""
        return Address(hashlib.sha256(name.encode()).digest()[:20])

    def public_key(self, name: str) -> bytes:
        """The same, at the length of a key."""
        return b"\x02" + bytes(self.address(name)).ljust(32, b"\0")

    def sign(self, domain: Domain, value: Message, name: str) -> bytes:
        """The address."""
        return bytes(self.address(name)).ljust(64, b"\0")

    def recover(self, domain: Domain, value: Message, signature: bytes) -> Address:
        """What it says."""
        return Address(signature[:20])


class KeySigners:
    """Keys that follow from names."""

    @functools.cache  # noqa: B019 - as above
    def _key(self, name: str) -> SigningKey:
        return SigningKey(hashlib.sha256(name.encode()).digest())

    def address(self, name: str) -> Address:
        """Of the key."""
        return self._key(name).address

    def public_key(self, name: str) -> bytes:
        """Of the key."""
        return self._key(name).public_key

    def sign(self, domain: Domain, value: Message, name: str) -> bytes:
        """As a node does."""
        return sign_typed(domain, value, self._key(name))

    def recover(self, domain: Domain, value: Message, signature: bytes) -> Address:
        """As a node does."""
        return recover_typed(domain, value, signature)
