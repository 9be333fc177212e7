"""A model in shards, with a chat template, served in bf16 by nodes that hold no more of it than they need."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import make_checkpoint
from local_network import LocalNetwork

from node.model_directory import model_facts, model_manifest, span_files, weight_files, write_manifest

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>"
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """All of the model."""
    directory = tmp_path / "whole"
    make_checkpoint(directory, "llama", layers=4, shard_size="200KB")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    write_manifest(directory, model_manifest(directory, spdx="MIT"))
    return directory


def part_of(whole: Path, start: int, end: int) -> Path:
    """What a node with some of the blocks needs."""
    directory = shutil.copytree(whole, whole.with_name(f"part-{start}"))
    for path in set(weight_files(directory)) - set(span_files(directory, model_facts(directory), range(start, end))):
        path.unlink()
    if start > 0:
        for name in TEXT_FILES:
            (directory / name).unlink()
    return directory


def templated(whole: Path, system: str, question: str) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(whole)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return ids


@pytest.mark.asyncio
async def test_nodes_with_their_own_shards_answer_a_chat_in_bf16(whole: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    async with LocalNetwork(tmp_path / "home") as network:
        await network.start_ledger()
        for name, start in (("front", 0), ("back", 2)):
            await network.start_node(
                name, part_of(whole, start, start + 2), f"{start}:{start + 2}", "--precision", "bf16"
            )
        for node in network.nodes.values():
            ready = await node.event("node ready")
            assert ready["precision"] == "bf16"
            assert ready["device"].startswith("CPU: ")
        await network.joule("faucet", "5")
        done = await network.joule(
            "run", "What is it?", "--system", "Be brief.", "--max-tokens", "8", "--receipt", str(receipt), "--json"
        )
        assert done.status == 0, done.err
        asked = templated(whole, "Be brief.", "What is it?")
        assert json.loads(receipt.read_text())["tokens"][: len(asked)] == asked
        checked = await network.joule("audit", str(receipt), "--model", str(whole))
        assert checked.status == 1
        assert "a bf16 model cannot be judged" in checked.err
