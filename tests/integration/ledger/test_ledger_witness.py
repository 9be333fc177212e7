"""A witness over HTTP: a conversation that another implementation recorded, and what a hostile log tries."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from outside_vectors import load_vectors

from node.events import Event, WitnessRefused, unheard
from node.ledger.witness import MOST_WAITING, SAME_S, Witness, WitnessedLog
from node.ledger.witness_service import RunningWitness, WitnessSettings, run_witness
from node.ledger.witness_state import WitnessState, log_name
from protocol.errors import ConfigurationError, KeystoreError, LocalError, SignatureError, StaleError
from protocol.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.log.cosignature import AddCheckpoint, CosignerKey, CosigningKey, cosigned_by
from protocol.log.merkle import Frontier, consistency_proof, leaf_hash, node_hash
from protocol.log.note import NoteKey, VerifierKey

NOW = 1_800_000_000
LOG = NoteKey("ledger.example", bytes(range(32)))
IMPOSTOR = NoteKey("ledger.example", bytes(32))
LEAVES = [leaf_hash(bytes([number])) for number in range(40)]


def settings_for(folder: Path, *logs: VerifierKey, **changes: Any) -> WitnessSettings:
    chosen: dict[str, Any] = {"name": "witness.example", "logs": [(each, None) for each in logs], **changes}
    return WitnessSettings(folder=folder, **chosen)


@asynccontextmanager
async def witness_of(folder: Path, *logs: VerifierKey, events: Any = unheard) -> AsyncIterator[RunningWitness]:
    async with run_witness(settings_for(folder, *logs), lambda: NOW, events=events) as running:
        yield running


async def add(witness: RunningWitness, body: bytes) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{witness.url}/add-checkpoint", data=body) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def shown(witness: RunningWitness, origin: str) -> tuple[int, bytes]:
    name = hashlib.sha256(origin.encode()).hexdigest()
    async with aiohttp.ClientSession() as session, session.get(f"{witness.url}/{name}/checkpoint") as response:
        return response.status, await response.read()


def hash_at(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return node_hash(hash_at(level - 1, 2 * index), hash_at(level - 1, 2 * index + 1))


def note_of(size: int, *, leaves: Sequence[bytes] = LEAVES) -> bytes:
    tree = Frontier()
    for leaf in leaves[:size]:
        tree.append(leaf)
    return sign_checkpoint(Checkpoint("ledger.example", size, tree.root), LOG)


def asked(old: int, new: int) -> bytes:
    return bytes(AddCheckpoint(old, consistency_proof(old, new, hash_at) if 0 < old < new else (), note_of(new)))


@pytest.mark.asyncio
async def test_a_conversation_with_another_witness_goes_the_same_way(tmp_path: Path) -> None:
    """That one says 403 for a log that it does not know, where C2SP has 404, and reads base64 that is not canonical."""
    differences = {"unknown log": 404, "invalid signature": 400}
    vectors = load_vectors("witness_add_checkpoint")
    log = VerifierKey(vectors["origin"], bytes.fromhex(vectors["log_ed25519_pub_hex"]))
    async with witness_of(tmp_path, log) as witness:
        for step in vectors["steps"]:
            status, kind, text = await add(witness, step["body"].encode())
            assert status == differences.get(step["text"], step["status"]), text
            if status == 200:
                note = step["body"].partition("\n\n")[2].encode() + text.encode()
                assert cosigned_by(note, CosignerKey.parse(witness.verifier_key)) == NOW
                assert (await shown(witness, vectors["origin"]))[1] == note
            elif status == 409:
                assert (kind, text) == ("text/x.tlog.size", step["text"])


@pytest.mark.asyncio
async def test_what_was_cosigned_is_remembered_and_another_history_refused(tmp_path: Path) -> None:
    forked = [*LEAVES[:3], leaf_hash(b"another"), *LEAVES[4:]]
    heard: list[Event] = []
    async with witness_of(tmp_path, LOG.verifier) as witness:
        assert (await shown(witness, "ledger.example"))[0] == 404
        assert (await add(witness, asked(0, 9)))[0] == 200
        key = witness.verifier_key
    async with witness_of(tmp_path, LOG.verifier, events=heard.append) as witness:
        assert witness.verifier_key == key
        assert (await add(witness, asked(0, 20)))[::2] == (409, "9\n")
        fork = bytes(AddCheckpoint(9, (), note_of(9, leaves=forked)))
        assert (await add(witness, fork))[::2] == (409, "9\n")
        longer = bytes(AddCheckpoint(9, consistency_proof(9, 20, hash_at), note_of(20, leaves=forked)))
        assert (await add(witness, longer))[0] == 422
        assert (await add(witness, asked(9, 9)))[0] == 200  # again, for a newer time
        assert (await add(witness, asked(9, 20)))[0] == 200
        status, note = await shown(witness, "ledger.example")
        assert (status, open_checkpoint(note, LOG.verifier).size) == (200, 20)
    evidence = [event for event in heard if isinstance(event, WitnessRefused)]
    assert [open_checkpoint(each.note.encode(), LOG.verifier).size for each in evidence] == [9, 20]


@pytest.mark.asyncio
async def test_of_many_at_once_one_history_wins(tmp_path: Path) -> None:
    """Checked and stored in one step: whoever comes second is told where the witness stands."""
    async with witness_of(tmp_path, LOG.verifier) as witness:
        answers = await asyncio.gather(*(add(witness, asked(0, size)) for size in range(10, 40)))
        taken = [status for status, _, _ in answers if status == 200]
        assert len(taken) == 1
        sizes = {text for status, _, text in answers if status == 409}
        _, note = await shown(witness, "ledger.example")
        assert sizes == {f"{open_checkpoint(note, LOG.verifier).size}\n"}


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"", b"old 1\n\n", b"\xff" * 100, b"old 0\n\nno note\n", b"x" * 30_000])
async def test_what_is_no_request_is_answered_so(tmp_path: Path, body: bytes) -> None:
    async with witness_of(tmp_path, LOG.verifier) as witness:
        assert (await add(witness, body))[0] == 400
        assert (await add(witness, asked(0, 3)))[0] == 200


@pytest.mark.asyncio
async def test_a_stranger_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with witness_of(tmp_path, LOG.verifier) as witness:
        answers = await asyncio.gather(*(shown(witness, "ledger.example") for _ in range(200)))
        assert {status for status, *_ in answers} == {404, 429}


@pytest.mark.asyncio
async def test_one_witness_has_one_process_one_name_and_an_unspoiled_memory(tmp_path: Path) -> None:
    async with witness_of(tmp_path, LOG.verifier) as witness:
        await add(witness, asked(0, 3))
        with pytest.raises(LocalError, match="another process"):
            async with witness_of(tmp_path, LOG.verifier):
                pass
    with pytest.raises(ConfigurationError, match=r"called witness\.example"):
        async with run_witness(settings_for(tmp_path, LOG.verifier, name="other"), lambda: NOW):
            pass
    with pytest.raises(ConfigurationError, match="no log"):
        async with witness_of(tmp_path):
            pass
    with pytest.raises(ConfigurationError, match="no name"):
        async with run_witness(settings_for(tmp_path / "new", LOG.verifier, name=None), lambda: NOW):
            pass
    kept = tmp_path / f"{log_name('ledger.example')}.checkpoint"
    content = kept.read_bytes()
    for spoiled in (b"", content.replace(b"\n3\n", b"\n4\n"), content[: content.rindex(b"\xe2\x80\x94 witness")]):
        kept.write_bytes(spoiled)
        with pytest.raises(LocalError, match="cannot be read"):
            async with witness_of(tmp_path, LOG.verifier):
                pass
    (tmp_path / "witness.key").chmod(0o644)
    with pytest.raises(KeystoreError, match="others can read"):
        async with witness_of(tmp_path, LOG.verifier):
            pass


@pytest.mark.asyncio
async def test_a_witness_that_is_killed_while_it_signs_has_never_signed_more_than_it_knows(tmp_path: Path) -> None:
    """Killed among submissions: what was acknowledged is there, and nothing before it is signed again."""
    acknowledged = 0
    arguments = ("--data-dir", str(tmp_path), "--name", "witness.example", "--log", str(LOG.verifier), "--port", "0")
    for life in range(3):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node", "witness", "run", *arguments, "--json"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            ready = json.loads(await process.stdout.readline())
        witness = RunningWitness(ready["url"], ready["verifier_key"])
        status, note = await shown(witness, "ledger.example")
        known = open_checkpoint(note, LOG.verifier).size if status == 200 else 0
        assert known in (acknowledged, acknowledged + 1)  # a crash may have come between the disk and the answer
        acknowledged = known
        killing = asyncio.get_running_loop().call_later(0.01 + 0.02 * life, process.kill)
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while acknowledged < len(LEAVES):
                if (await add(witness, asked(acknowledged, acknowledged + 1)))[0] == 200:
                    acknowledged += 1
        killing.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


class SlowState(WitnessState):
    """A disk that takes as long as a test likes."""

    def __init__(self, folder: Path, key: CosigningKey) -> None:
        super().__init__(folder, key)
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.stored = 0

    def store(self, log: VerifierKey, note: bytes) -> None:
        self.stored += 1
        self.begun.set()
        self.may_end.wait(30)
        super().store(log, note)


@pytest.mark.asyncio
async def test_who_goes_away_while_the_witness_writes_opens_no_way_for_another_history(tmp_path: Path) -> None:
    forked = [*LEAVES[:3], leaf_hash(b"another"), *LEAVES[4:]]
    key = CosigningKey("witness.example", bytes(32))
    state = SlowState(tmp_path, key)
    witness = Witness(key, [WitnessedLog(LOG.verifier)], state, lambda: NOW)
    first = asyncio.create_task(witness.add(AddCheckpoint(0, (), note_of(9))))
    await asyncio.to_thread(state.begun.wait, 30)
    first.cancel()
    second = asyncio.create_task(witness.add(AddCheckpoint(0, (), note_of(9, leaves=forked))))
    await asyncio.wait([first])
    assert first.cancelled()
    state.may_end.set()
    with pytest.raises(StaleError):
        await second
    state.close()
    again = WitnessState(tmp_path, key)
    kept = again.load(LOG.verifier)
    again.close()
    assert kept is not None
    assert kept[0] == open_checkpoint(note_of(9), LOG.verifier)


@pytest.mark.asyncio
async def test_however_many_ask_few_wait_and_one_checkpoint_is_written_once(tmp_path: Path) -> None:
    key, now = CosigningKey("witness.example", bytes(32)), [NOW]
    state = SlowState(tmp_path, key)
    witness = Witness(key, [WitnessedLog(LOG.verifier)], state, lambda: now[0])
    first, same = AddCheckpoint(0, (), note_of(9)), AddCheckpoint(9, (), note_of(9))
    asking = [asyncio.create_task(witness.add(first))]
    asking += [asyncio.create_task(witness.add(same)) for _ in range(MOST_WAITING - 1)]
    await asyncio.to_thread(state.begun.wait, 30)
    with pytest.raises(LocalError, match="many ask"):
        await witness.add(same)
    with pytest.raises(SignatureError):  # it does not come to waiting
        await witness.add(AddCheckpoint(0, (), sign_checkpoint(Checkpoint("ledger.example", 9, bytes(32)), IMPOSTOR)))
    state.may_end.set()
    lines = await asyncio.gather(*asking)
    assert (set(map(str, lines)), state.stored) == ({str(lines[0])}, 1)
    now[0] += SAME_S
    assert await witness.add(same) != lines[0]  # a newer time, for those who ask how old it is
    assert state.stored == 2
    state.close()
