"""One key, two message spaces, one signature form; an independent implementation agrees."""

from __future__ import annotations

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import InvalidError, MalformedError, SignatureError
from protocol.identity.eip712 import Domain, encode_type, recover_typed, sign_typed
from protocol.identity.ids import checksum_address, keccak256, parse_address
from protocol.identity.signing import SigningKey, address_of_public_key, open_envelope, recover, seal
from protocol.session.messages import Leg, Session, Voucher

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
DOMAIN = Domain(chain_id=31337, verifying_contract=b"\xcc" * 20)

secrets = st.integers(min_value=1, max_value=2**250).map(lambda number: number.to_bytes(32, "big"))


def voucher(**changes: object) -> Voucher:
    values = {"session": b"s" * 32, "amounts": (1, 2), "tokens_in": 3, "tokens_out": 4, "receipts": bytes(32)}
    return Voucher(**{**values, **changes})  # type: ignore[arg-type]


def session() -> Session:
    leg = Leg(provider=OTHER.address, cap=30)
    return Session(client=KEY.address, expiry=2**39, terms=b"t" * 32, salt=b"s" * 32, legs=(leg, leg))


def test_the_address_of_private_key_one_is_the_known_one() -> None:
    key = SigningKey((1).to_bytes(32, "big"))
    assert checksum_address(key.address) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    assert address_of_public_key(key.public_key) == key.address


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, bytes(32), b"\xff" * 32])
def test_a_secret_out_of_range_is_refused(secret: bytes) -> None:
    with pytest.raises(InvalidError):
        SigningKey(secret)


def test_a_key_never_shows_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0x12",
        "0x" + "g" * 40,
        "0x7e5F4552091A69125d5DfCb7b8C2659029395Bdf",
        "0x" + "1" * 41,
        "0x" + "11 " * 20,
    ],
)
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_address(text)


def test_an_address_is_read_with_and_without_checksum() -> None:
    for text in (checksum_address(KEY.address), KEY.address.hex(), "0x" + KEY.address.hex()):
        assert parse_address(text) == KEY.address


def test_an_envelope_tells_its_message_and_signer() -> None:
    assert open_envelope(seal(session(), KEY), Session) == (session(), KEY.address)


def test_a_touched_envelope_does_not_speak_for_its_signer() -> None:
    sealed = seal(session(), KEY)
    for at in range(len(sealed)):
        touched = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        try:
            _, signer = open_envelope(touched, Session)
        except (MalformedError, SignatureError):
            continue
        assert signer != KEY.address


def test_envelope_and_typed_data_are_separate_spaces() -> None:
    signature = sign_typed(DOMAIN, session(), KEY)
    body = seal(session(), KEY)[-64:]
    assert signature != body


def test_typed_data_counts_in_one_venue_only() -> None:
    signature = sign_typed(DOMAIN, voucher(), KEY)
    assert recover_typed(DOMAIN, voucher(), signature) == KEY.address
    elsewhere = DOMAIN.replace(verifying_contract=b"\xdd" * 20)
    assert recover_typed(elsewhere, voucher(), signature) != KEY.address
    assert recover_typed(DOMAIN, voucher(tokens_out=5), signature) != KEY.address


@pytest.mark.parametrize("signature", [b"", b"\x01" * 63, b"\x01" * 65, bytes(64), b"\xff" * 64])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        recover(keccak256(b"x"), signature)


def test_the_type_strings_are_those_of_the_design() -> None:
    assert encode_type(Session) == (
        "Session(address client,uint40 expiry,bytes32 terms,bytes32 salt,Leg[] legs)Leg(address provider,uint64 cap)"
    )
    assert encode_type(Voucher) == (
        "Voucher(bytes32 session,uint64[] amounts,uint64 tokensIn,uint64 tokensOut,bytes32 receipts)"
    )


TYPES = {
    "Leg": [("provider", "address"), ("cap", "uint64")],
    "Session": [
        ("client", "address"),
        ("expiry", "uint40"),
        ("terms", "bytes32"),
        ("salt", "bytes32"),
        ("legs", "Leg[]"),
    ],
}


@pytest.fixture(scope="module", autouse=True)
def wallet() -> None:
    """Loaded before any test: it changes the limit of recursion, which a test of random cases must not see."""
    import eth_account.messages  # noqa: F401


@settings(max_examples=at_length(25), deadline=None)
@given(secret=secrets, expiry=st.integers(0, 2**40 - 1), cap=st.integers(0, 2**63 - 1), legs=st.integers(1, 16))
def test_signatures_equal_those_of_an_ethereum_wallet(secret: bytes, expiry: int, cap: int, legs: int) -> None:
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    key = SigningKey(secret)
    leg = Leg(provider=OTHER.address, cap=cap)
    value = session().replace(expiry=expiry, legs=(leg,) * legs)
    leg_data = {"provider": leg.provider, "cap": cap}
    signable = encode_typed_data(
        domain_data={
            "name": DOMAIN.name,
            "version": DOMAIN.version,
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.verifying_contract,
        },
        message_types={
            name: [{"name": field, "type": kind} for field, kind in fields] for name, fields in TYPES.items()
        },
        message_data={
            "client": value.client,
            "expiry": expiry,
            "terms": value.terms,
            "salt": value.salt,
            "legs": [leg_data] * legs,
        },
    )
    theirs = Account.sign_message(signable, secret)
    s = theirs.s | ((theirs.v - 27) << 255)
    assert sign_typed(DOMAIN, value, key) == theirs.r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert Account.from_key(secret).address == checksum_address(key.address)
