"""What witnesses and logs say to each other: keys, requests, and cosigned notes."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import random
from collections.abc import Sequence

from node.ledger.log_key import read_note_key
from protocol.errors import KeystoreError, PeerError, SignatureError, UnwitnessedError
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
from protocol.log.post_quantum import PostQuantumCosigningKey, PostQuantumKey, parse_cosigner
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.target import Target
from scripts.vectors.parties import LOG_KEY

__all__ = ["targets"]

NOW = 1_800_000_000
WITNESS = CosigningKey("witness.example", b"\x09" * 32)
KEY = CosignerKey.parse(str(WITNESS.verifier))
SECOND = PostQuantumCosigningKey("witness.example", b"\x0a" * 32)
SECOND_KEY = PostQuantumKey.parse(str(SECOND.verifier))
BOTH = WitnessPolicy((KEY,), 1, second_keys=(SECOND_KEY,))
LATEST = Checkpoint(LOG_KEY.verifier.name, 3, bytes(range(32)))
_TEXT = several(lines, raw)


def _note(size: int) -> bytes:
    return sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, size, bytes(range(32))), LOG_KEY)


def _cosigned() -> list[bytes]:
    text = parse_note(_note(3)).text
    one = _note(3) + str(WITNESS.cosign(text, NOW)).encode()
    return [_note(3), one, one + str(SECOND.cosign(text, NOW)).encode()]


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
    for key in (KEY, SECOND_KEY):
        cosigned_by(data, key)
    for policy in (WitnessPolicy((KEY,), 1), BOTH):
        with contextlib.suppress(UnwitnessedError):
            policy.check(data, NOW)


def _key(data: bytes) -> None:
    text = data.decode(errors="replace")
    key = parse_cosigner(text)
    assert str(key) == text
    with contextlib.suppress(SignatureError):
        key.verify(parse_note(_note(3)).text, bytes(7) + b"\1" + bytes(2420 if isinstance(key, PostQuantumKey) else 64))


def _secret(data: bytes) -> None:
    """A witness's own key file, of either type."""
    kind = PostQuantumCosigningKey if b"AA" in data[-8:] else CosigningKey
    with in_file(data) as path:
        key = read_note_key(path, kind)
    assert kind.parse(key.encoded).verifier == key.verifier


def _keys() -> list[bytes]:
    return [str(KEY).encode(), str(SECOND_KEY).encode()]


def _with_other_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A key's line with other bytes in its base64, and the key id that belongs to them, mostly."""
    name, _, rest = data.partition(b"+")
    try:
        content = raw(rng, base64.b64decode(rest.partition(b"+")[2]), others)
    except binascii.Error:
        return raw(rng, data, others)
    key_id = hashlib.sha256(name + b"\n" + content).digest()[:4]
    return b"+".join((name, key_id.hex().encode(), base64.b64encode(content)))


def _answers() -> list[bytes]:
    line = WITNESS.cosign(parse_note(_note(3)).text, NOW)
    second = SECOND.cosign(parse_note(_note(3)).text, NOW)
    return [
        str(line).encode(),
        f"{line}{second}".encode(),
        f"{line}— other {base64.b64encode(bytes(80)).decode()}\n".encode(),
    ]


def _answer(data: bytes) -> None:
    assert "".join(map(str, lines_of(data))).encode() == data


def targets() -> list[Target]:
    """One for each of them."""
    peer = (PeerError,)
    return [
        Target(name="add-checkpoint", seeds=_requests, run=_request, errors=peer, mutators=(_TEXT,)),
        Target(name="cosigned-note", seeds=_cosigned, run=_by_witness, errors=peer, mutators=(_TEXT,)),
        Target(
            name="witness-secret",
            seeds=lambda: [each.encoded.encode() for each in (WITNESS, SECOND)],
            run=_secret,
            errors=(KeystoreError,),
            mutators=(raw,),
            short=200,
        ),
        Target(name="cosigner-key", seeds=_keys, run=_key, errors=peer, mutators=(_with_other_bytes, raw)),
        Target(name="witness-answer", seeds=_answers, run=_answer, errors=peer, mutators=(_TEXT,)),
    ]
