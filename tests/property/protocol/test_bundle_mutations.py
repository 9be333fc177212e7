"""Whatever is changed in a valid bundle: it is refused as the fault of whoever made it, or it means the same."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from agreed_job import agree
from arbitrary_messages import of_shape
from brevity import at_length
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from played_job import Play

from protocol.encoding.codec import Message, MessageShape, shapes
from protocol.encoding.fields import ListShape, OptionalShape, Shape
from protocol.errors import InvalidError, PeerError
from protocol.receipts.bundle import Bundle, Verified, verify_bundle
from protocol.receipts.bundle_file import dump_bundle, load_bundle

relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))
MESSAGES = ("manifest", "terms", "session", "pay")
BYTES = ("nonce", "opened", "settled", "released", "transcript")
SEALED = ("offers", "acceptances", "reroutes")


@functools.cache
def valid() -> tuple[Bundle, Verified, bytes]:
    """A job of two legs, one of which dies, cut short, with money that went back."""
    play = Play(agree(spans=((0, 2), (2, 4)), standbys=((0, 4),), prompt=5, most=6, window=3))
    play.window()
    play.window()
    play.reroute((0, (0, 2)), (2, (2, 4)))
    bundle = play.run(generated=4).bundle()
    return bundle, verify_bundle(bundle), dump_bundle(bundle).encode()


def verdict(bundle: Bundle) -> Verified | None:
    """What it proves; None where it is refused. Anything else than a PeerError is a defect."""
    try:
        return verify_bundle(bundle)
    except PeerError:
        return None


@settings(relaxed, max_examples=at_length(400))
@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=3))
def test_bytes_of_the_file_are_changed(changes: list[tuple[int, int]]) -> None:
    bundle, _, data = valid()
    touched = bytearray(data)
    for at, byte in changes:
        touched[at % len(touched)] = byte
    try:
        loaded = load_bundle(bytes(touched))
        verify_bundle(loaded)
    except PeerError:
        return
    assert loaded == bundle


@settings(relaxed, max_examples=at_length(200))
@given(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, 2**20))
def test_parts_of_the_file_change_places(at: int, length: int, to: int) -> None:
    bundle, _, data = valid()
    at, to = at % len(data), to % len(data)
    piece = data[at : at + length % 200]
    rest = data[:at] + data[at + len(piece) :]
    try:
        loaded = load_bundle(rest[:to] + piece + rest[to:])
        verify_bundle(loaded)
    except PeerError:
        return
    assert loaded == bundle


def changed(draw: Any, shape: Shape, value: Any) -> Any:
    """The value with something else in one place of it."""
    if isinstance(shape, MessageShape):
        fields = shapes(type(value))
        if not fields:
            return value
        name, inner = draw(st.sampled_from(fields))
        return value.replace(**{name: changed(draw, inner, getattr(value, name))})
    if isinstance(shape, OptionalShape) and value is not None:
        return changed(draw, shape.inner, value)
    if isinstance(shape, ListShape) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return (*value[:at], changed(draw, shape.inner, value[at]), *value[at + 1 :])
    if isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1]))
    return draw(of_shape(shape))


def with_change(draw: Any, message: Message) -> Message:
    try:
        found: Message = changed(draw, MessageShape(type(message)), message)
    except InvalidError:
        return message
    return found


def flipped(draw: Any, data: bytes) -> bytes:
    if not data:
        return draw(st.binary(max_size=80))
    at, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


@st.composite
def bundles(draw: Any) -> Bundle:
    """The valid one with one field of it changed, of whatever depth, and signed by nobody anew."""
    bundle, _, _ = valid()
    name = draw(st.sampled_from((*MESSAGES, *BYTES, *SEALED, "tokens", "windows", "receipt", "sketches", "text")))
    value = getattr(bundle, name, None)
    if name in MESSAGES:
        return replace(bundle, **{name: with_change(draw, value)})
    if name in BYTES:
        none = name not in ("opened", "settled") and draw(st.booleans())
        return replace(bundle, **{name: None if none else flipped(draw, value)})
    if name in SEALED:
        at = draw(st.integers(0, len(value) - 1))
        return replace(bundle, **{name: (*value[:at], flipped(draw, value[at]), *value[at + 1 :])})
    if name == "tokens":
        return replace(bundle, tokens=tuple(draw(of_list(list(value), st.integers(0, 2**32 - 1)))))
    if name == "windows":
        return replace(bundle, windows=tuple(draw(of_list(list(value), st.sampled_from((*value, ()))))))
    if name == "text":
        return replace(bundle, text=draw(st.none() | st.tuples(st.text(max_size=3), st.text(max_size=3))))
    return replace(bundle, windows=with_receipt(draw, bundle, name))


def of_list(values: list[Any], items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """The list with an item left out, put in, or exchanged."""
    place = st.integers(0, len(values) - 1)
    return st.one_of(
        place.map(lambda at: values[:at] + values[at + 1 :]),
        st.tuples(place, items).map(lambda p: [*values[: p[0]], p[1], *values[p[0] :]]),
        st.tuples(place, items).map(lambda p: [*values[: p[0]], p[1], *values[p[0] + 1 :]]),
        st.tuples(place, place).map(lambda p: [values[p[1]] if at == p[0] else v for at, v in enumerate(values)]),
    )


def with_receipt(draw: Any, bundle: Bundle, name: str) -> Any:
    at = draw(st.integers(0, len(bundle.windows) - 1))
    row = bundle.windows[at]
    place = draw(st.integers(0, len(row) - 1))
    signed, shown = row[place]
    pair = (with_change(draw, signed), shown) if name == "receipt" else (signed, flipped(draw, shown))
    return (*bundle.windows[:at], (*row[:place], pair, *row[place + 1 :]), *bundle.windows[at + 1 :])


@settings(relaxed, max_examples=at_length(600))
@given(bundles())
@example(valid()[0])
def test_one_field_is_changed(bundle: Bundle) -> None:
    honest, proven, _ = valid()
    found = verdict(bundle)
    assert found is None or bundle == honest or means_the_same(bundle, found, proven)


def means_the_same(bundle: Bundle, found: Verified, proven: Verified) -> bool:
    """Evidence that is left out, or text: what is left still proves the same job."""
    honest, _, _ = valid()
    kept = replace(bundle, released=honest.released, transcript=honest.transcript, text=honest.text)
    same = (found.tokens_in, found.tokens_out, found.windows, found.amounts)
    return kept == honest and same == (proven.tokens_in, proven.tokens_out, proven.windows, proven.amounts)


@settings(relaxed, max_examples=at_length(60))
@given(bundles())
def test_a_changed_bundle_is_read_from_its_file_as_it_is_or_refused(bundle: Bundle) -> None:
    try:
        loaded = load_bundle(dump_bundle(bundle).encode())
    except (PeerError, UnicodeEncodeError):
        return
    assert loaded == bundle
