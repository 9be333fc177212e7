"""Hostile bytes for every message there is: a typed error or the very same message, never anything else."""

from __future__ import annotations

import contextlib

import pytest
from arbitrary_messages import arbitrary, wire_messages
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.encoding.codec import Message, decode, encode
from protocol.errors import MalformedError, SignatureError
from protocol.identity.signing import SigningKey, open_envelope, seal

KEY = SigningKey(b"\x05" * 32)
KINDS = wire_messages()
relaxed = settings(max_examples=at_length(20), deadline=None, suppress_health_check=list(HealthCheck))

touches = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4)


def test_every_kind_is_named_once() -> None:
    names = [cls.kind for cls in KINDS]
    assert len(names) == len(set(names))
    kinds = {"offer", "order", "acceptance", "refusal", "op", "entry", "step", "pay", "terms", "session", "reroute"}
    kinds |= {"attach", "prompt", "sampled", "receipted", "draw", "finish", "discharged", "failed", "signed-receipt"}
    kinds |= {"log-proof", "transcript", "statement", "policy", "open", "settle", "release", "close", "model"}
    assert kinds <= {name.partition("/")[0] for name in names}


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
@relaxed
@given(data=st.data())
def test_a_message_survives_the_wire(cls: type[Message], data: st.DataObject) -> None:
    value = data.draw(arbitrary(cls))
    assert decode(encode(value), cls) == value
    with pytest.raises(MalformedError):
        decode(encode(value), *(other for other in KINDS[:3] if other is not cls))


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
@relaxed
@given(data=st.data(), changes=touches, cut=st.integers(0, 40), tail=st.binary(max_size=3))
def test_touched_bytes_never_decode_to_something_else(
    cls: type[Message], data: st.DataObject, changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    good = encode(data.draw(arbitrary(cls)))
    touched = bytearray(good)
    for at, byte in changes:
        touched[at % len(touched)] = byte
    for bad in (bytes(touched), good[: max(0, len(good) - cut - 1)], good + tail + b"\x00"):
        with contextlib.suppress(MalformedError):
            assert encode(decode(bad, cls)) == bad


@relaxed
@given(st.binary(max_size=200))
def test_noise_is_malformed(noise: bytes) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        open_envelope(noise, *KINDS)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
def test_an_oversized_message_is_refused_unread(cls: type[Message]) -> None:
    with pytest.raises(MalformedError, match="are allowed"):
        decode(b"\x91" + b"\x00" * 70_000, cls)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_forged_envelope_names_another_signer_or_none(cls: type[Message], data: st.DataObject) -> None:
    value = data.draw(arbitrary(cls))
    sealed = bytearray(seal(value, KEY))
    assert open_envelope(bytes(sealed), cls) == (value, KEY.address)
    sealed[-1] ^= 1
    try:
        assert open_envelope(bytes(sealed), cls)[1] != KEY.address
    except SignatureError:
        return
