"""What witnesses and logs say to each other: keys, requests, and cosigned notes."""

from __future__ import annotations

import base64

from protocol.errors import PeerError
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.cosignature import (
    AddCheckpoint,
    CosignerKey,
    CosigningKey,
    WitnessPolicy,
    check_add_checkpoint,
    cosigned_by,
    parse_add_checkpoint,
)
from protocol.log.note import lines_of, parse_note
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.target import Target
from scripts.vectors.parties import LOG_KEY

__all__ = ["targets"]

NOW = 1_800_000_000
WITNESS = CosigningKey("witness.example", b"\x09" * 32)
KEY = CosignerKey.parse(str(WITNESS.verifier))
LATEST = Checkpoint(LOG_KEY.verifier.name, 3, bytes(range(32)))
_TEXT = several(lines, raw)


def _note(size: int) -> bytes:
    return sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, size, bytes(range(32))), LOG_KEY)


def _cosigned() -> list[bytes]:
    text = parse_note(_note(3)).text
    return [_note(3), _note(3) + str(WITNESS.cosign(text, NOW)).encode()]


def _requests() -> list[bytes]:
    return [bytes(AddCheckpoint(0, (), _note(3))), bytes(AddCheckpoint(3, (bytes(32),) * 3, _note(5)))]


def _request(data: bytes) -> None:
    asked = parse_add_checkpoint(data)
    assert parse_add_checkpoint(bytes(asked)) == asked
    assert bytes(asked) == data
    for latest in (None, LATEST):
        try:
            check_add_checkpoint(asked, LOG_KEY.verifier, latest)
        except PeerError:
            continue


def _by_witness(data: bytes) -> None:
    if cosigned_by(data, KEY) is not None:
        WitnessPolicy((KEY,), 1).check(data, 2**63)


def _key(data: bytes) -> None:
    text = data.decode(errors="replace")
    assert str(CosignerKey.parse(text)) == text


def _answers() -> list[bytes]:
    line = WITNESS.cosign(parse_note(_note(3)).text, NOW)
    return [str(line).encode(), f"{line}— other {base64.b64encode(bytes(80)).decode()}\n".encode()]


def _answer(data: bytes) -> None:
    assert "".join(map(str, lines_of(data))).encode() == data


def targets() -> list[Target]:
    """One for each of them."""
    peer = (PeerError,)
    return [
        Target(name="add-checkpoint", seeds=_requests, run=_request, errors=peer, mutators=(_TEXT,)),
        Target(name="cosigned-note", seeds=_cosigned, run=_by_witness, errors=peer, mutators=(_TEXT,)),
        Target(name="cosigner-key", seeds=lambda: [str(KEY).encode()], run=_key, errors=peer, mutators=(raw,)),
        Target(name="witness-answer", seeds=_answers, run=_answer, errors=peer, mutators=(_TEXT,)),
    ]
