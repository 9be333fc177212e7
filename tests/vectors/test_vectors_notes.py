"""Signed notes, checkpoints and tile paths against Go's, transparency-dev's and C2SP's examples."""

from __future__ import annotations

import pytest
from outside_vectors import load_vectors

from protocol.errors import MalformedError, PeerError
from protocol.log.checkpoint import format_checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.merkle import range_nodes
from protocol.log.note import VerifierKey, open_note, parse_note
from protocol.log.tiles import Tile, TileAppender, tile_path


def is_ed25519(vkey: str) -> bool:
    """Whether a verifier key is of type 0x01, which base64 spells with a leading A and a letter up to f."""
    return vkey.split("+", 2)[2][0] == "A"


def test_verifier_keys() -> None:
    vectors = load_vectors("signed_note")
    for text in vectors["good_vkeys"]:
        if is_ed25519(text):
            assert str(VerifierKey.parse(text)) == text
        else:  # a witness's cosignature key: well-formed, but of a type that no note here is signed with
            with pytest.raises(MalformedError, match="not an Ed25519 key"):
                VerifierKey.parse(text)
    for text in vectors["bad_vkeys"]:
        with pytest.raises(MalformedError):
            VerifierKey.parse(text)


def test_signed_notes() -> None:
    for case in load_vectors("signed_note")["cases"]:
        keys = [VerifierKey.parse(text) for text in case["vkeys"]]
        if case["ok"]:
            text, verified = open_note(case["msg"].encode(), *keys)
            assert [key.name for key in verified] == case["verified"], case["desc"]
            assert case["msg"].startswith(text + "\n")
        else:
            with pytest.raises(PeerError):
                open_note(case["msg"].encode(), *keys)


def test_a_cosigned_checkpoint_parses() -> None:
    example = load_vectors("signed_note")["parse_only"]
    note = parse_note(example["msg"].encode())
    witness = note.signatures[1]
    assert witness.key_id.hex() == example["cosig_key_id"]
    assert int.from_bytes(witness.signature[:8], "big") == example["cosig_time"]
    assert bytes(note).decode() == example["msg"]


def test_a_real_checkpoint_opens() -> None:
    case = next(case for case in load_vectors("signed_note")["cases"] if "Go checksum" in case["desc"])
    text, _ = open_note(case["msg"].encode(), VerifierKey.parse(case["vkeys"][0]))
    assert parse_checkpoint(text).size == 35225469
    # Go's log signs under a name that is not its origin, which a joulemesh ledger must not do.
    with pytest.raises(PeerError):
        open_checkpoint(case["msg"].encode(), VerifierKey.parse(case["vkeys"][0]))


def test_checkpoints() -> None:
    vectors = load_vectors("checkpoint")
    for text in vectors["good"]:
        assert format_checkpoint(parse_checkpoint(text)) == text
    for text in vectors["bad"]:
        with pytest.raises(MalformedError):
            parse_checkpoint(text)


def test_tile_paths_and_edges() -> None:
    vectors = load_vectors("tiles")
    for index, path in vectors["index_path"].items():
        assert tile_path(Tile(0, int(index))) == f"tile/0/{path}"
    for size, levels in vectors["partial"].items():
        partial = {Tile(int(level), full, width) for level, (full, width) in levels.items() if width}
        assert TileAppender.edge_tiles(int(size)) == partial
        assert len(range_nodes(0, int(size))) == int(size).bit_count()
