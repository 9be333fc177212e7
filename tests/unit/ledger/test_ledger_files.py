"""The two files beside a ledger: the log key of its operator, and what a client remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger.log_key import create_log_key, read_log_key
from node.ledger.remembered import Memory
from protocol.errors import ConfigurationError, KeystoreError
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.note import NoteKey


def test_a_log_key_reads_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    key = create_log_key(path, "log.example/one")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_log_key(path).verifier == key.verifier
    with pytest.raises(KeystoreError, match="File exists"):
        create_log_key(path, "log.example/one")
    assert read_log_key(path).verifier == key.verifier
    assert create_log_key(tmp_path / "other.key", "log.example/one").verifier != key.verifier


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"PRIVATE+KEY+x+00000000+AAAA"])
def test_a_spoiled_log_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeystoreError) as refused:
        read_log_key(path)
    assert "PRIVATE" not in refused.value.message
    assert "backup" in refused.value.hint


def test_a_log_key_that_is_missing_or_open_to_others(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    with pytest.raises(KeystoreError, match="cannot read"):
        read_log_key(path)
    create_log_key(path, "x")
    path.chmod(0o640)
    with pytest.raises(KeystoreError) as refused:
        read_log_key(path)
    assert refused.value.hint == f"chmod 600 {path}"
    with pytest.raises(KeystoreError, match="cannot write"):
        create_log_key(tmp_path / "missing" / "log.key", "x")


def test_memory_survives_and_changes_whole(tmp_path: Path) -> None:
    key = NoteKey("log.example", bytes(32))
    path = tmp_path / "deep" / "remembered.json"
    seconds = iter((1.0, 2.0))
    memory = Memory.load(path)
    memory.clock = lambda: next(seconds)
    assert memory.checkpoint is None
    memory.verifier = key.verifier
    for size in (1, 2):
        checkpoint = Checkpoint("log.example", size, bytes([size]) * 32)
        memory.remember(sign_checkpoint(checkpoint, key))
        again = Memory.load(path)
        assert (again.verifier, again.checkpoint) == (key.verifier, checkpoint)
    assert [each.name for each in path.parent.iterdir()] == ["remembered.json"]


def test_memory_is_written_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    key = NoteKey("log.example", bytes(32))
    path, now = tmp_path / "remembered.json", [0.0]
    memory = Memory(path, key.verifier, clock=lambda: now[0])

    def stored() -> int:
        checkpoint = Memory.load(path).checkpoint
        return 0 if checkpoint is None else checkpoint.size

    for size, at, written in ((1, 0.0, 1), (2, 0.9, 1), (3, 0.999, 1), (4, 1.0, 4), (5, 1.5, 4)):
        now[0] = at
        memory.remember(sign_checkpoint(Checkpoint("log.example", size, bytes([size]) * 32), key))
        assert stored() == written
    memory.flush()
    assert stored() == 5


def test_a_failed_write_keeps_the_old_memory_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = NoteKey("log.example", bytes(32))
    path = tmp_path / "remembered.json"
    memory = Memory(path, key.verifier, clock=iter((1.0, 2.0, 3.0, 4.0)).__next__)
    memory.remember(sign_checkpoint(Checkpoint("log.example", 1, bytes(32)), key))
    before = path.read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("node.durable.os.fsync", fail)
        for size in (2, 3):
            memory.remember(sign_checkpoint(Checkpoint("log.example", size, bytes(32)), key))
        with pytest.raises(ConfigurationError, match="No space left"):
            Memory(tmp_path / "other.json", key.verifier).remember(memory.note or b"")
    assert caplog.text.count("No space left") == 1, "told once"
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["remembered.json"]
    memory.remember(sign_checkpoint(Checkpoint("log.example", 4, bytes(32)), key))
    assert path.read_bytes() != before, "written once there is room"


def test_memory_of_a_checkpoint_that_its_key_did_not_sign(tmp_path: Path) -> None:
    key, other = NoteKey("log.example", bytes(32)), NoteKey("log.example", bytes([1]) * 32)
    path = tmp_path / "remembered.json"
    memory = Memory(path, key.verifier)
    memory.remember(sign_checkpoint(Checkpoint("log.example", 1, bytes(32)), other))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Memory.load(path)


def test_without_a_file_memory_lasts_one_run() -> None:
    key = NoteKey("log.example", bytes(32))
    memory = Memory(None, key.verifier)
    memory.remember(sign_checkpoint(Checkpoint("log.example", 1, bytes(32)), key))
    assert memory.checkpoint is not None
    assert Memory.load(None).checkpoint is None
