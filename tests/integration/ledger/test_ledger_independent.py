"""Checkpoints, proofs and tiles made here, accepted by Go's checksum database packages: code that nobody here wrote."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import Checkpoint, format_checkpoint, operator_line, sign_checkpoint
from protocol.log.cosignature import CosigningKey
from protocol.log.merkle import consistency_proof, inclusion_proof, leaf_hash
from protocol.log.note import Note, NoteKey, NoteSignature, parse_note
from protocol.log.tiles import Tile, TileAppender, TileReader
from protocol.settlement import ledger_domain

SOURCE = Path(__file__).parent / "go_verifier" / "main.go"
KEY = NoteKey("joulemesh.example/ledger", bytes(range(32)))
DOMAIN, OPERATOR = ledger_domain(str(KEY.verifier)), SigningKey(b"\x01" * 32)
WITNESSES = [CosigningKey(f"witness.example/{number}", bytes([number]) * 32) for number in (1, 2)]
STRANGER = str(CosigningKey("witness.example/3", b"\x03" * 32).verifier)
SIZES = (1, 2, 3, 255, 256, 257, 511, 512, 700)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verifier, built with Debian's Go and its sumdb packages; skips where they are missing."""
    path = os.environ.get("GOPATH", "/usr/share/gocode")
    if shutil.which("go") is None or not (Path(path) / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("no independent verifier (Debian: apt-get install golang-go golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    subprocess.run(
        ["go", "build", "-o", folder / "verifier", SOURCE], check=True, timeout=100,
        env={**os.environ, "GO111MODULE": "off", "GOPATH": path, "GOCACHE": str(folder / "cache"), "GOFLAGS": "",
             "CGO_ENABLED": "0"},
    )  # fmt: skip
    return folder / "verifier"


@dataclass
class Log:
    """A log that grows in random batches, and keeps a checkpoint of some sizes."""

    entries: list[bytes] = field(default_factory=list)
    appender: TileAppender = field(default_factory=TileAppender)
    tiles: dict[tuple[int | None, int], tuple[Tile, bytes]] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)

    def grow(self, size: int, draw: random.Random) -> None:
        new = [draw.randbytes(draw.randrange(400)) for _ in range(size - len(self.entries))]
        self.entries += new
        for tile, content in self.appender.append([leaf_hash(entry) for entry in new]).items():
            self.tiles[tile.level, tile.index] = (tile, content)
        self.roots[size] = self.appender.root

    def case(self, old: int, draw: random.Random) -> dict[str, Any]:
        size, tiles = self.appender.size, dict(self.tiles.values())
        reader, index = TileReader(size, tiles), draw.randrange(self.appender.size)
        checkpoint = Checkpoint(KEY.verifier.name, size, self.appender.root)
        text = format_checkpoint(checkpoint)
        lines = [witness.cosign(text, 1_800_000_000 + size) for witness in WITNESSES]
        note = sign_checkpoint(checkpoint, KEY, operator_line(DOMAIN, checkpoint, OPERATOR), *lines)
        return {
            "Note": note, "VerifierKey": str(KEY.verifier),
            "Cosigners": [str(witness.verifier) for witness in WITNESSES], "Index": index, "Entry": self.entries[index],
            "Inclusion": inclusion_proof(index, size, reader.hash_at), "OldSize": old, "OldRoot": self.roots[old],
            "Consistency": consistency_proof(old, size, reader.hash_at),
            "Tiles": {f"{tile.level}/{tile.index}/{tile.width}": content for tile, content in tiles.items()},
        }  # fmt: skip


def cosigned_for_another_time(note: bytes) -> bytes:
    *lines, last = parse_note(note).signatures
    later = NoteSignature(last.name, last.key_id, bytes([last.signature[0] ^ 1]) + last.signature[1:])
    return bytes(Note(parse_note(note).text, (*lines, later)))


def as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, (list, tuple)) else value


def judge(verifier: Path, cases: list[dict[str, Any]]) -> list[str]:
    lines = "".join(json.dumps(as_json(case)) + "\n" for case in cases)
    done = subprocess.run([verifier], input=lines, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_go_accepts_what_is_made_here_and_nothing_else(verifier: Path) -> None:
    draw, log, cases = random.Random(7), Log(), []
    for size in SIZES:
        log.grow(size, draw)
        cases += [log.case(old, draw) for old in log.roots for _ in range(6)]
    assert judge(verifier, cases) == ["ok"] * len(cases)

    spoiled = []
    for case in cases[-12:]:
        flipped = bytes([case["Inclusion"][0][0] ^ 1]) + case["Inclusion"][0][1:]
        tile = {name: content[:-1] + bytes([content[-1] ^ 1]) for name, content in case["Tiles"].items()}
        spoiled += [
            {**case, "Entry": case["Entry"] + b"x"},
            {**case, "Inclusion": [flipped, *case["Inclusion"][1:]]},
            {**case, "Consistency": [*case["Consistency"], bytes(32)]},
            {**case, "OldRoot": bytes(32)},
            {**case, "Note": case["Note"].replace(b"\n700\n", b"\n701\n")},
            {**case, "Tiles": tile},
            {**case, "Cosigners": [*case["Cosigners"], STRANGER]},
            {**case, "Note": b"".join(case["Note"].splitlines(keepends=True)[:-1])},
            {**case, "Note": cosigned_for_another_time(case["Note"])},
        ]
    assert "ok" not in judge(verifier, spoiled)
