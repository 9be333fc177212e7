"""EIP-712 typed data, derived from the same declarations as the wire form.

A message has one EIP-712 type: its class name unless it says another, and its field names in camelCase. Every declared
field has a type there but an optional one, which raises TypeError when its message is first used so.
https://eips.ethereum.org/EIPS/eip-712
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from protocol.encoding.codec import Message, MessageShape, message, once_per_class, shapes
from protocol.encoding.compiled import Names, function
from protocol.encoding.fields import BoolShape, BytesShape, EnumShape, ListShape, Shape, TextShape, UintShape
from protocol.identity.ids import U64, Address, AddressBytes, Name, keccak256
from protocol.identity.signing import SigningKey, recover

__all__ = [
    "Domain",
    "Recover",
    "encode_type",
    "recover_typed",
    "sign_typed",
    "struct_hash",
    "type_hash",
    "typed_digest",
]

_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


@message()
class Domain(Message):
    """The one venue in which a typed signature counts; the same terms in another venue need another signature."""

    name: Name = "joulemesh"
    version: Name = "2"
    chain_id: U64
    """The EVM chain id; for an embedded ledger a number that is no chain's (`settlement.LEDGER_CHAIN_ID`)."""
    verifying_contract: AddressBytes
    """The settlement contract, or the address that an embedded ledger derives from its verifier key."""

    @property
    def separator(self) -> bytes:
        """32 bytes: the EIP-712 domain separator."""
        return _separator(self)


@functools.lru_cache(maxsize=256)
def _separator(domain: Domain) -> bytes:
    return keccak256(
        keccak256(_DOMAIN_TYPE)
        + keccak256(domain.name.encode())
        + keccak256(domain.version.encode())
        + domain.chain_id.to_bytes(32, "big")
        + domain.verifying_contract.rjust(32, b"\0")
    )


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _type_name(shape: Shape) -> str:
    match shape:
        case UintShape() if shape.uint.bits % 8 == 0:
            return f"uint{shape.uint.bits}"
        case BytesShape():
            return {20: "address", 32: "bytes32"}.get(_exact_length(shape), "bytes")
        case TextShape() | EnumShape():
            return "string"
        case BoolShape():
            return "bool"
        case MessageShape():
            return shape.cls.typed_as
        case ListShape():
            return _type_name(shape.inner) + "[]"
    raise TypeError(f"{shape} has no EIP-712 type")


def _exact_length(shape: BytesShape) -> int:
    """The only length that the bytes may have; 0 where there are several."""
    return shape.size.low if shape.size.high in (None, shape.size.low) else 0


def _nested(cls: type[Message]) -> set[type[Message]]:
    found: set[type[Message]] = set()
    for _, shape in shapes(cls):
        inner = shape
        while isinstance(inner, ListShape):
            inner = inner.inner
        if isinstance(inner, MessageShape):
            found |= {inner.cls} | _nested(inner.cls)
    return found


@once_per_class
def encode_type(cls: type[Message]) -> str:
    """EIP-712 ``encodeType``: the type itself, then the types it refers to in order of name.

    Raises TypeError where a field has no EIP-712 type, or two types in it have one name.
    """
    others = sorted(_nested(cls) - {cls}, key=lambda nested: nested.typed_as)
    if len({each.typed_as for each in (cls, *others)}) != 1 + len(others):
        raise TypeError(f"two EIP-712 types in {cls.__name__} have one name")
    return "".join(
        f"{each.typed_as}({','.join(f'{_type_name(shape)} {_camel_case(name)}' for name, shape in shapes(each))})"
        for each in (cls, *others)
    )


@once_per_class
def type_hash(cls: type[Message]) -> bytes:
    """EIP-712 ``typeHash``: 32 bytes."""
    return keccak256(encode_type(cls).encode())


def _encoded(shape: Shape, value: str, names: Names) -> str:
    """Source for EIP-712 ``encodeData`` of one field: 32 bytes. What is longer, or may be, stands as its hash."""
    match shape:
        case UintShape() | BoolShape():
            return f"int({value}).to_bytes(32, 'big')"
        case BytesShape() if _exact_length(shape) == 32:
            return value
        case BytesShape() if _exact_length(shape) == 20:
            return f"{value}.rjust(32, b'\\0')"
        case BytesShape():
            return f"{names.of(keccak256)}({value})"
        case TextShape() | EnumShape():
            return f"{names.of(keccak256)}({value}.encode())"
        case MessageShape():
            return f"{names.of(_hash_struct)}({value})"
        case ListShape():
            each = _encoded(shape.inner, f"of_{value.replace('.', '_')}", names)
            return f"{names.of(keccak256)}(b''.join([{each} for of_{value.replace('.', '_')} in {value}]))"
    raise TypeError(f"{shape} has no EIP-712 encoding")


@once_per_class
def _hasher(cls: type[Message]) -> Callable[[Any], bytes]:
    """``hashStruct`` of a class, spelled out: a message is hashed for each signature that is made or checked."""
    names = Names()
    parts = [names.of(type_hash(cls)), *(_encoded(shape, f"it.{name}", names) for name, shape in shapes(cls))]
    return function("it", f"{names.of(keccak256)}(b''.join(({', '.join(parts)},)))", names)


def struct_hash(value: Message) -> bytes:
    """EIP-712 ``hashStruct``: 32 bytes. Raises TypeError for a message that is not declared `typed`."""
    if not value.typed:
        raise TypeError(f"{type(value).__name__} is not declared as typed data: @message(..., typed=True)")
    return _hash_struct(value)


def _hash_struct(value: Message) -> bytes:
    return _hasher(type(value))(value)


def typed_digest(domain: Domain, value: Message) -> bytes:
    """What is signed: ``keccak256(0x19 0x01 || domainSeparator || hashStruct)``."""
    return keccak256(b"\x19\x01" + domain.separator + struct_hash(value))


def sign_typed(domain: Domain, value: Message, key: SigningKey) -> bytes:
    """64-byte EIP-2098 signature of `value` for one venue."""
    return key.sign_digest(typed_digest(domain, value))


Recover = Callable[[Domain, Message, bytes], Address]
"""Finds who signed a message for a venue, as `recover_typed` does; it may know from before."""


def recover_typed(domain: Domain, value: Message, signature: bytes) -> Address:
    """Who signed `value` for this venue. Raises SignatureError."""
    return recover(typed_digest(domain, value), signature)
