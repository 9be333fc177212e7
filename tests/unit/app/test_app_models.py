"""A model's texts on their way from a node to a client."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from node import demo
from node.app.models.obtaining import ModelServer, fetch_manifest, fetch_tokenizer
from node.app.models.prompt import Prompt
from node.fetching import ChunkDesk, Uplink
from node.model_directory import HashMemory, model_manifest
from protocol.encoding.codec import encode
from protocol.errors import DishonestError, ModelError, RefusedError, UnreachableError
from protocol.identity.ids import ModelManifest
from protocol.market.catalog import CLIENT_FILES, FileRequest

DEMO = Path(demo.__file__).parent / "model"
pytestmark = pytest.mark.asyncio
TEMPLATE = "{{ messages[0].content }}, said the {{ messages[0].role }}"


class Answering:
    """`node.ports.Requests` that go to model servers in this process; counts what was asked."""

    def __init__(self, servers: Mapping[str, ModelServer]) -> None:
        self.servers = servers
        self.asked = 0

    async def request(self, peer: str, protocol: str, data: bytes, *, timeout_s: float, max_reply: int) -> bytes:
        self.asked += 1
        answer = await self.servers[peer].answer(b"", data)
        assert len(answer) <= max_reply
        return answer


def desk_of(directory: Path, manifest: ModelManifest) -> ChunkDesk:
    return ChunkDesk(directory, manifest, HashMemory(), Uplink(10**9, now=lambda: 0.0, is_known=lambda _: True))


def server_of(directory: Path, manifest: ModelManifest) -> ModelServer:
    return ModelServer(directory, manifest, desk_of(directory, manifest))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = shutil.copytree(DEMO, tmp_path / "model")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


@pytest.fixture
def manifest(model: Path) -> ModelManifest:
    return model_manifest(model)


async def test_tokenizer_and_template_come_from_whoever_has_them(
    model: Path, manifest: ModelManifest, tmp_path: Path
) -> None:
    bare = shutil.copytree(model, tmp_path / "bare")
    for name in CLIENT_FILES:
        (bare / name).unlink()
    requests = Answering({"bare": server_of(bare, manifest), "whole": server_of(model, manifest)})
    cache = tmp_path / "cache"
    assert await fetch_manifest(requests, ["bare"], manifest.root, cache) == manifest
    text = await fetch_tokenizer(requests, ["bare", "whole"], manifest, cache)
    asked_for = text.decode(text.prompt_ids(Prompt.question("Hello")))
    assert asked_for.strip() == "Hello, said the user"
    asked = requests.asked
    again = await fetch_tokenizer(requests, [], manifest, cache)
    assert again.prompt_ids(Prompt(raw="Hello")) == text.encode("Hello")
    assert requests.asked == asked
    with pytest.raises(UnreachableError, match=r"does not have the model's chat_template\.jinja"):
        await fetch_tokenizer(requests, ["bare"], manifest, tmp_path / "other")


async def test_what_cannot_be_kept_is_used_all_the_same(model: Path, manifest: ModelManifest, tmp_path: Path) -> None:
    requests = Answering({"whole": server_of(model, manifest)})
    cache = tmp_path / "cache"
    cache.write_text("a file where a folder is to be made: like a disk that takes nothing")
    assert await fetch_manifest(requests, ["whole"], manifest.root, cache) == manifest
    text = await fetch_tokenizer(requests, ["whole"], manifest, cache)
    assert text.decode(text.prompt_ids(Prompt.question("Hello"))).strip() == "Hello, said the user"


async def test_a_file_that_changed_since_the_start_is_not_handed_out(model: Path, manifest: ModelManifest) -> None:
    server = server_of(model, manifest)
    question = encode(FileRequest(model=manifest.root, name="tokenizer.json"))
    assert await server.answer(b"", question) == (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(RefusedError, match="does not have"):
        await server.answer(b"", question)
    for name in ("config.json", "model.safetensors", "../model/tokenizer.json"):
        with pytest.raises(RefusedError, match="does not hand out"):
            await server.answer(b"", encode(FileRequest(model=manifest.root, name=name)))


async def test_a_template_of_another_is_dishonest(model: Path, manifest: ModelManifest, tmp_path: Path) -> None:
    class Liar(ModelServer):
        async def answer(self, peer: bytes, data: bytes) -> bytes:
            return (await super().answer(peer, data)).replace(b"said the", b"lied the")

    liar = Liar(model, manifest, desk_of(model, manifest))
    with pytest.raises(DishonestError, match=r"chat_template\.jinja"):
        await fetch_tokenizer(Answering({"liar": liar}), ["liar"], manifest, tmp_path / "cache")


async def test_a_model_without_a_tokenizer_cannot_be_asked_in_text(manifest: ModelManifest, tmp_path: Path) -> None:
    files = tuple(file for file in manifest.files if file.name != "tokenizer.json")
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        await fetch_tokenizer(Answering({}), [], manifest.replace(files=files), tmp_path)
