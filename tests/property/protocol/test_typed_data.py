"""Typed data over every kind of field hashes as an independent implementation hashes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import pytest
from arbitrary_messages import arbitrary, typed_messages
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.encoding.codec import Count, Message, MessageShape, Size, TextSize, Uint, message, shapes
from protocol.encoding.fields import ListShape, Shape
from protocol.identity.eip712 import Domain, encode_type, struct_hash, type_hash, typed_digest
from protocol.identity.ids import keccak256


class Hue(StrEnum):
    WARM = "warm"
    COLD = "cold"


@message(typed=True)
class Grain(Message):
    weight: Annotated[int, Uint(64)]
    hue: Hue


@message()
class Nothing(Message):
    pass


@message(typed=True)
class Sack(Message):
    a_label: Annotated[str, TextSize(40)]
    full: bool
    grains: Annotated[tuple[Grain, ...], Count(0, 3)]
    one_grain: Grain


@message(typed=True)
class Cart(Message):
    owner: Annotated[bytes, Size(20)]
    root: Annotated[bytes, Size(32)]
    same_root: Annotated[bytes, Size(32, 32)]
    signature: Annotated[bytes, Size(64)]
    data: Annotated[bytes, Size(20, 80)]
    longer: Annotated[bytes, Size(32, 40)]
    maybe_none: Annotated[bytes, Size(0, 5)]
    tiny: Annotated[int, Uint(8)]
    until: Annotated[int, Uint(40)]
    amounts: Annotated[tuple[Annotated[int, Uint(64)], ...], Count(0, 16)]
    table: Annotated[
        tuple[Annotated[tuple[Annotated[int, Uint(32)], ...], Count(0, 4)], ...],
        Count(0, 3),
    ]
    names: Annotated[tuple[Annotated[str, TextSize(9)], ...], Count(0, 4)]
    blobs: Annotated[tuple[Annotated[bytes, Size(0, 40)], ...], Count(0, 4)]
    flags: Annotated[tuple[bool, ...], Count(0, 4)]
    hues: Annotated[tuple[Hue, ...], Count(0, 4)]
    owners: Annotated[tuple[Annotated[bytes, Size(20)], ...], Count(0, 4)]
    sacks: Annotated[tuple[Sack, ...], Count(0, 2)]
    nothing: Nothing


CART_TYPE = (
    "Cart(address owner,bytes32 root,bytes32 sameRoot,bytes signature,bytes data,bytes longer,bytes maybeNone,"
    "uint8 tiny,uint40 until,uint64[] amounts,uint32[][] table,string[] names,bytes[] blobs,bool[] flags,string[] hues,"
    "address[] owners,Sack[] sacks,Nothing nothing)"
    "Grain(uint64 weight,string hue)"
    "Nothing()"
    "Sack(string aLabel,bool full,Grain[] grains,Grain oneGrain)"
)

domains = st.builds(Domain, chain_id=st.integers(1, 2**53), verifying_contract=st.binary(min_size=20, max_size=20))


def _types(encoded: str) -> dict[str, list[dict[str, str]]]:
    """The types that an ``encodeType`` string names, as a wallet takes them."""
    found = {}
    for each in encoded.removesuffix(")").split(")"):
        name, _, members = each.partition("(")
        fields = [member.split(" ") for member in members.split(",")] if members else []
        found[name] = [{"name": field, "type": kind} for kind, field in fields]
    return found


def _plain(shape: Shape, value: Any) -> Any:
    """A value as a wallet takes it."""
    if isinstance(shape, MessageShape):
        fields = zip(_types(encode_type(shape.cls))[shape.cls.typed_as], shapes(shape.cls), strict=True)
        return {field["name"]: _plain(inner, getattr(value, name)) for field, (name, inner) in fields}
    if isinstance(shape, ListShape):
        return [_plain(shape.inner, item) for item in value]
    return str(value) if isinstance(value, str) else value


def test_the_type_of_every_kind_of_field_is_the_written_one() -> None:
    assert encode_type(Cart) == CART_TYPE
    assert type_hash(Cart) == keccak256(CART_TYPE.encode())


@pytest.fixture(scope="module", autouse=True)
def wallet() -> None:
    """Loaded before any test: it changes the limit of recursion, which a test of random cases must not see."""
    import eth_account.messages  # noqa: F401


def digest_by_a_wallet(domain: Domain, value: Message) -> bytes:
    """What eth-account would sign."""
    from eth_account.messages import encode_typed_data

    signable = encode_typed_data(
        full_message={
            "domain": {
                "name": "joulemesh",
                "version": "2",
                "chainId": domain.chain_id,
                "verifyingContract": domain.verifying_contract,
            },
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                **_types(encode_type(type(value))),
            },
            "primaryType": type(value).typed_as,
            "message": _plain(MessageShape(type(value)), value),
        }
    )
    return keccak256(b"\x19\x01" + signable.header + signable.body)


@settings(max_examples=at_length(60), deadline=None)
@given(domain=domains, value=st.one_of(arbitrary(Cart), arbitrary(Sack), arbitrary(Grain)))
def test_digests_equal_those_of_an_ethereum_wallet(domain: Domain, value: Message) -> None:
    assert digest_by_a_wallet(domain, value) == typed_digest(domain, value)


@pytest.mark.parametrize("cls", typed_messages(), ids=lambda cls: cls.__name__)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(domain=domains, data=st.data())
def test_a_wallet_signs_every_typed_message_as_we_do(cls: type[Message], domain: Domain, data: st.DataObject) -> None:
    value = data.draw(arbitrary(cls))
    assert digest_by_a_wallet(domain, value) == typed_digest(domain, value)


def test_what_a_wallet_is_asked_to_sign() -> None:
    names = {cls.typed_as for cls in typed_messages()}
    assert names >= {
        "Session",
        "Voucher",
        "Discharge",
        "Receipt",
        "Open",
        "Settle",
        "Release",
        "Close",
        "Withdraw",
        "Checkpoint",
    }


@message(typed=True)
class Maybe(Message):
    maybe: Annotated[int, Uint(64)] | None


@message(typed=True)
class HoldsMaybe(Message):
    inner: Maybe


@message(typed=True)
class MaybeItems(Message):
    items: Annotated[tuple[Annotated[int, Uint(8)] | None, ...], Count(0, 2)]


@message(typed=True)
class Odd(Message):
    bits: Annotated[int, Uint(7)]


@message(typed=True)
class Twice(Message):
    sack: Sack
    other: Annotated[tuple[Maybe, ...], Count(0, 1)]


def _namesake() -> type[Message]:
    """A message that holds two types named Grain."""
    other = message()(type("Grain", (Message,), {"__annotations__": {"size": Annotated[int, Uint(8)]}}))
    return message()(type("Both", (Message,), {"__annotations__": {"sack": Sack, "other": other}}))


@pytest.mark.parametrize(
    "value",
    [
        Maybe(maybe=3),
        Maybe(maybe=None),
        HoldsMaybe(inner=Maybe(maybe=3)),
        MaybeItems(items=()),
        Odd(bits=1),
        Twice(sack=Sack(a_label="", full=True, grains=(), one_grain=Grain(weight=1, hue=Hue.WARM)), other=()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_type_there_is_refused_at_first_use(value: Message) -> None:
    with pytest.raises(TypeError, match="no EIP-712"):
        struct_hash(value)


def test_what_is_not_declared_as_typed_data_is_not_signed_as_such() -> None:
    with pytest.raises(TypeError, match="not declared"):
        struct_hash(Nothing())


def test_two_types_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="one name"):
        encode_type(_namesake())
