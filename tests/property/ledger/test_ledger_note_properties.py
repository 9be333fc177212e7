"""Notes, checkpoints, tile paths and bundles: what is written reads back, anything else is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DishonestError, InvalidError, MalformedError, PeerError, SignatureError
from protocol.log.checkpoint import (
    Checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    verify_entry,
)
from protocol.log.merkle import leaf_hash, node_hash
from protocol.log.note import NoteKey, VerifierKey, decode_base64, open_note, parse_note, sign_note
from protocol.log.tiles import Tile, TileReader, bundle_of, decode_bundle, encode_bundle, parse_tile_path, tile_path

hashes = st.binary(min_size=32, max_size=32)
names = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P"], exclude_characters="+"), min_size=1, max_size=20
)
lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40)
texts = st.lists(lines, min_size=1, max_size=5).map(lambda each: "\n".join(each) + "\n")
keys = st.builds(NoteKey, names, hashes)
checkpoints = st.builds(Checkpoint, origin=names, size=st.integers(1, 2**63 - 1), root=hashes)
tiles = st.builds(Tile, level=st.none() | st.integers(0, 7), index=st.integers(0, 2**40), width=st.integers(1, 256))


@given(texts, st.lists(keys, min_size=1, max_size=17, unique_by=lambda key: key.verifier.name))
def test_a_note_opens_for_each_of_its_signers(text: str, signers: list[NoteKey]) -> None:
    data = sign_note(text, signers)
    assert bytes(parse_note(data)) == data
    verifiers = [signer.verifier for signer in signers]
    assert open_note(data, *verifiers) == (text, tuple(verifiers))
    assert open_note(data, verifiers[-1]) == (text, (verifiers[-1],))
    with pytest.raises(SignatureError):
        open_note(data)


@given(texts, keys, st.data())
def test_a_changed_note_is_refused(text: str, key: NoteKey, data: st.DataObject) -> None:
    signed = bytearray(sign_note(text, [key]))
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerError):
        open_note(bytes(signed), key.verifier)


@given(st.binary(max_size=300) | texts.map(str.encode), keys)
def test_garbage_is_no_note(data: bytes, key: NoteKey) -> None:
    with pytest.raises(PeerError):
        open_note(data, key.verifier)


@given(keys)
def test_keys_read_back_and_hide_their_secret(key: NoteKey) -> None:
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert NoteKey.parse(key.encoded).verifier == key.verifier
    secret = key.encoded.split("+", 4)[4]
    assert secret not in repr(key)


@given(st.text(max_size=80))
def test_garbage_is_no_key(text: str) -> None:
    for parse, error in ((VerifierKey.parse, MalformedError), (NoteKey.parse, InvalidError)):
        with pytest.raises(error):
            parse(text)
        with pytest.raises(error):
            parse("PRIVATE+KEY+" + text)


def test_a_key_under_another_name_or_id_is_refused() -> None:
    key = NoteKey("log.example/one", bytes(range(32)))
    for change in (("one", "two"), (key.verifier.key_id.hex(), "00000000")):
        with pytest.raises(MalformedError):
            VerifierKey.parse(str(key.verifier).replace(*change))
        with pytest.raises(InvalidError):
            NoteKey.parse(key.encoded.replace(*change))
    for bad_name in ("", "a b", "a+b", "a\u2003b", "a\xa0b", "a\u3000b", "a\x85b", "a\nb", "a\x1bb", "a\u202eb"):
        with pytest.raises(InvalidError):
            NoteKey(bad_name, bytes(32))
    for bad_seed in (b"", bytes(31), bytes(33)):
        with pytest.raises(InvalidError):
            NoteKey("name", bad_seed)
    for name in ("a\u200cb", "\U0001fae8", "\u180e", "\u200b"):  # no spaces, whatever a Unicode table says of them
        assert VerifierKey.parse(str(NoteKey(name, bytes(32)).verifier)).name == name


def test_keys_of_another_kind_are_refused() -> None:
    with pytest.raises(InvalidError, match="32 bytes"):
        VerifierKey("name", bytes(31))
    other = base64.b64encode(b"\x04" + bytes(32)).decode()
    for text, parse, error in (
        (f"name+00000000+{other}", VerifierKey.parse, MalformedError),
        (f"PRIVATE+KEY+name+00000000+{other}", NoteKey.parse, InvalidError),
    ):
        with pytest.raises(error, match="Ed25519"):
            parse(text)


def test_bounds_of_notes() -> None:
    key = NoteKey("log.example", bytes(32))
    for text in ("", "no newline", "control \x07\n"):
        with pytest.raises(InvalidError):
            sign_note(text, [key])
    with pytest.raises(InvalidError):
        sign_note("unsigned\n", [])
    with pytest.raises(InvalidError, match="one or more lines"):
        sign_note("text\n\n— someone AAAAAAA=", [key])  # would read back as a signature
    with pytest.raises(MalformedError, match="too short"):
        parse_note("text\n\n— someone AAAAAA==\n".encode())
    with pytest.raises(MalformedError):
        parse_note(b"x" * 65_537)
    with pytest.raises(MalformedError):
        open_note(sign_note("text\n", [key]).replace(b"log.example ", b"log.example  "), key.verifier)


def test_a_good_signature_beside_a_bad_one_of_a_known_key_does_not_save_the_note() -> None:
    good, bad = NoteKey("good.example", bytes(32)), NoteKey("bad.example", bytes([1]) * 32)
    note = sign_note("text\n", [good, bad])
    spoiled = note[:-10] + (b"A" if note[-10:-9] != b"A" else b"B") + note[-9:]
    assert open_note(spoiled, good.verifier)[1] == (good.verifier,)
    with pytest.raises(SignatureError):
        open_note(spoiled, good.verifier, bad.verifier)


@given(st.binary(max_size=40))
def test_base64_has_one_spelling(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    for other in (text + "=", text + "\n", " " + text, text.rstrip("=") + "===" if data else "="):
        with pytest.raises(MalformedError):
            decode_base64(other)
    if len(data) % 3 == 1:  # four bits of the last character are padding, and must be zero
        with pytest.raises(MalformedError):
            decode_base64(text[:-3] + chr(ord(text[-3]) + 1) + "==" if text[-3] in "AQgw" else text + "x")


@given(checkpoints)
def test_checkpoints_read_back(checkpoint: Checkpoint) -> None:
    text = format_checkpoint(checkpoint)
    assert parse_checkpoint(text) == checkpoint
    assert parse_checkpoint(text + "an extension\n") == checkpoint
    for bad in (text[:-1], text + "\n", "\n" + text, text.replace("\n", "\r\n"), text.replace("\n", "\n0", 1)):
        with pytest.raises(MalformedError):
            parse_checkpoint(bad)


@given(st.text(max_size=80))
def test_garbage_is_no_checkpoint(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


def test_an_entry_verifies_offline() -> None:
    key = NoteKey("log.example", bytes(32))
    root = node_hash(leaf_hash(b"one"), leaf_hash(b"two"))
    note = sign_checkpoint(Checkpoint("log.example", 2, root), key)
    assert verify_entry(b"two", 1, [leaf_hash(b"one")], note, key.verifier).root == root
    for entry, index, proof in ((b"two", 0, [leaf_hash(b"one")]), (b"2", 1, [leaf_hash(b"one")]), (b"two", 1, [])):
        with pytest.raises(PeerError):
            verify_entry(entry, index, proof, note, key.verifier)


@given(hashes, st.integers(1, 10**9))
def test_a_checkpoint_is_signed_by_the_key_of_its_origin(root: bytes, size: int) -> None:
    key, other = NoteKey("log.example/a", bytes(32)), NoteKey("log.example/b", bytes(32))
    checkpoint = Checkpoint("log.example/a", size, root)
    note = sign_checkpoint(checkpoint, key)
    assert open_checkpoint(note, key.verifier) == checkpoint
    with pytest.raises(SignatureError):
        open_checkpoint(note, other.verifier)
    with pytest.raises(InvalidError):
        sign_checkpoint(checkpoint, other)
    with pytest.raises(DishonestError):
        open_checkpoint(sign_note(format_checkpoint(checkpoint), [other]), other.verifier)


def test_checkpoints_out_of_range() -> None:
    some = bytes(32)
    for origin, size, root in (("", 1, some), ("a\nb", 1, some), ("a", -1, some), ("a", 2**63, some), ("a", 1, b""),
                               ("a", 0, some)):  # fmt: skip
        with pytest.raises(InvalidError):
            Checkpoint(origin, size, root)
        with pytest.raises(MalformedError):
            parse_checkpoint(f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n")
    assert str(Checkpoint("a", 1, some)) == f"a with 1 entries and root {some.hex()}"


@given(tiles)
def test_tile_paths_read_back(tile: Tile) -> None:
    assert parse_tile_path(tile_path(tile)) == tile


@given(st.text("0123456789x/.pentrisl-", max_size=30))
def test_a_tile_has_one_path(text: str) -> None:
    for path in (text, "tile/" + text, "tile/0/" + text):
        try:
            tile = parse_tile_path(path)
        except MalformedError:
            continue
        assert tile_path(tile) == path


@pytest.mark.parametrize(
    "path",
    ["tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/8/000", "tile/00/000", "tile/0/x000/001",
     "tile/0/0", "tile/0/1234", "tile/0/001/002", "tile/data/000", "tile/0/000/", "/tile/0/000", "tile/0/٠٠٠"],
)  # fmt: skip
def test_other_paths_name_no_tile(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.data())
def test_bundles_read_back(entries: list[bytes], data: st.DataObject) -> None:
    packed = encode_bundle(entries)
    assert decode_bundle(packed, len(entries)) == entries
    cut = data.draw(st.integers(0, len(packed) - 1))
    for bad, width in ((packed[:cut], len(entries)), (packed + b"\0", len(entries)), (packed, len(entries) + 1),
                       (packed, len(entries) - 1)):  # fmt: skip
        with pytest.raises(MalformedError):
            decode_bundle(bad, width)


def test_an_entry_fits_its_length_prefix() -> None:
    assert decode_bundle(encode_bundle([bytes(65_535)]), 1) == [bytes(65_535)]
    with pytest.raises(InvalidError):
        encode_bundle([bytes(65_536)])


def test_the_bundle_of_an_entry() -> None:
    assert bundle_of(0, 1) == Tile(None, 0, 1)
    assert bundle_of(255, 256) == Tile(None, 0)
    assert bundle_of(256, 300) == Tile(None, 1, 44)


def test_a_tile_has_the_length_of_its_width() -> None:
    for content in (b"", bytes(31), bytes(64)):
        with pytest.raises(MalformedError):
            TileReader(1, {Tile(0, 0, 1): content})
