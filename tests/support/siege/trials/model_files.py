"""Model directories that mean harm: to whoever serves them, and to whoever asks for their tokenizer."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

from node.app.buying.audit import BUNDLED_MODEL
from node.app.models.obtaining import Text
from node.demo.forked import Command, Forked
from node.model_directory import model_facts, model_manifest
from protocol.errors import JoulemeshError
from siege.trial import Bench, Broken, trial

MOST_S = 30.0
MOST_BYTES = 1_500_000_000
TYPED, FINE = 3, 0


class Reader(Command):
    """Reads a file or folder in a process of its own, which may take so much memory more than it has, and no more."""

    def perform(self) -> None:
        _, what, path = sys.argv
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + MOST_BYTES, has + MOST_BYTES))
        try:
            READS[what](Path(path))
        except JoulemeshError as error:
            print(error.message[:200])
            sys.exit(TYPED)


def _read_text(path: Path) -> None:
    text = Text(path.read_bytes())
    text.encode("hello")
    text.piece(1)


def _read_facts(path: Path) -> None:
    model_facts(path)
    model_manifest(path)


READS = {"text": _read_text, "facts": _read_facts}


async def _run(what: str, path: Path) -> tuple[int, str]:
    """Status and last words of a process that reads something; it may take so long, and no longer."""
    process = await Forked.start([what, str(path)], os.environ, kind=Reader)
    try:
        async with asyncio.timeout(MOST_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        return -1, f"no end in {MOST_S:.0f} s"
    return process.returncode or 0, (out + err).decode(errors="replace")[-300:]


def _tokenizer(change: Callable[[dict[str, object]], object]) -> bytes:
    tokenizer = json.loads((BUNDLED_MODEL / "tokenizer.json").read_text())
    change(tokenizer)
    return json.dumps(tokenizer).encode()


TOKENIZERS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "deep": lambda: b"[" * 200_000 + b"]" * 200_000,
    "deep objects": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": lambda: b'{"version": 1' + b"0" * 1_000_000 + b"}",
    "a regular expression that explodes": lambda: _tokenizer(
        lambda file: file.update(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(h+)+(e*)*$" * 30},
                "behavior": "Isolated",
                "invert": False,
            }
        )
    ),
    "a template that grows": lambda: _tokenizer(
        lambda file: file.update(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "l"}, "content": "l" * 200}] * 3,
            }
        )
    ),
    "ids beyond the vocabulary": lambda: _tokenizer(
        lambda file: file.update(
            added_tokens=[
                {
                    "id": 2**31,
                    "content": "hello",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ]
        )
    ),
    "padding to gigabytes": lambda: _tokenizer(
        lambda file: file.update(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_id": 0,
                "pad_to_multiple_of": None,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        )
    ),
}


@trial
async def tokenizers_that_mean_harm(bench: Bench) -> None:
    """Tokenizer files as a hostile provider would hand them out."""
    for name, make in TOKENIZERS.items():
        path = bench.folder / "tokenizer.json"
        await asyncio.to_thread(path.write_bytes, make())
        status, said = await _run("text", path)
        if status not in (TYPED, FINE):
            raise Broken(f"{name}: status {status}: {said}")


def _config(**changes: object) -> bytes:
    return json.dumps({**json.loads((BUNDLED_MODEL / "config.json").read_text()), **changes}).encode()


CONFIGS: dict[str, Callable[[], bytes]] = {
    "deep": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": lambda: b'{"num_hidden_layers": 1' + b"0" * 1_000_000 + b"}",
    "endless blocks": lambda: _config(num_hidden_layers=2**40),
    "wide rows": lambda: _config(hidden_size=2**40),
    "a negative vocabulary": lambda: _config(vocab_size=-1),
    "no number": lambda: _config(num_attention_heads=float("nan")),
    "code from elsewhere": lambda: _config(auto_map={"AutoConfig": "evil.py"}, model_type="evil", architectures=["X"]),
    "text for a number": lambda: _config(max_position_embeddings="9" * 100_000),
}


@trial
async def configurations_that_mean_harm(bench: Bench) -> None:
    """config.json with sizes that nobody has, and nesting without end."""
    for name, make in CONFIGS.items():
        folder = bench.folder / name.replace(" ", "-")
        await asyncio.to_thread(copytree, BUNDLED_MODEL, folder)
        await asyncio.to_thread((folder / "config.json").write_bytes, make())
        status, said = await _run("facts", folder)
        if status not in (TYPED, FINE):
            raise Broken(f"{name}: status {status}: {said}")


@trial
async def links_that_lead_out_of_a_model(bench: Bench) -> None:
    """Files of a model directory that are links to files of ours: none may be hashed into it and handed out."""
    secret = bench.folder / "ours"
    secret.mkdir()
    (secret / "passwords").write_text('{"secret": true}')
    for name, target in (
        ("tokenizer_config.json", secret / "passwords"),
        ("tokenizer.json", secret / "passwords"),
        ("config.json", secret / "passwords"),
    ):
        folder = bench.folder / f"{name}-{target.name}"
        await asyncio.to_thread(copytree, BUNDLED_MODEL, folder)
        await asyncio.to_thread(_link, folder / name, target)
        status, said = await _run("facts", folder)
        if status != TYPED:
            raise Broken(f"{name} -> {target.name}: status {status}: {said}")


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)
