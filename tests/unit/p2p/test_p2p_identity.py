"""Peer ids and public keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError
from protocol.identity.peer_id import peer_id_of, protobuf_of, public_key_of, public_key_of_protobuf
from protocol.identity.signing import SigningKey

SECRETS = st.integers(1, 2**252).map(lambda number: number.to_bytes(32, "big"))


def test_a_known_id():
    # Of private key 1, as py-libp2p makes it.
    public_key = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    assert SigningKey((1).to_bytes(32, "big")).public_key == public_key
    assert peer_id_of(public_key) == "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"


@given(SECRETS)
def test_round_trip(secret):
    public_key = SigningKey(secret).public_key
    assert public_key_of(peer_id_of(public_key)) == public_key
    assert public_key_of_protobuf(protobuf_of(public_key)) == public_key


@given(SECRETS, st.integers(0, 52), st.characters())
def test_a_changed_letter_gives_another_key_or_none(secret, place, letter):
    peer_id = peer_id_of(SigningKey(secret).public_key)
    changed = peer_id[:place] + letter + peer_id[place + 1 :]
    if changed == peer_id:
        return
    try:
        public_key = public_key_of(changed)
    except MalformedError:
        return
    assert peer_id_of(public_key) == changed


@given(st.text(max_size=80))
def test_any_text_is_an_id_or_malformed(text):
    try:
        public_key = public_key_of(text)
    except MalformedError:
        return
    assert peer_id_of(public_key) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "z" * 53,
        "1" * 53,
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # a hash of an RSA key
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",  # an Ed25519 key
    ],
)
def test_ids_of_other_keys_and_nonsense(text):
    with pytest.raises(MalformedError):
        public_key_of(text)


@pytest.mark.parametrize("key", [b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32), bytes(65)])
def test_bytes_that_are_no_key(key):
    with pytest.raises(MalformedError):
        peer_id_of(key)
