"""How a client comes by a model's manifest and tokenizer: from a provider, held against the model root."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tokenizers.decoders import DecodeStream

from node.app.models.chat import ChatTemplate, find_template
from node.app.models.prompt import Prompt
from node.app.models.token_bytes import TokenBytes
from node.app.models.tokenizer_limits import load_tokenizer, strangers_code
from node.durable import replace_file
from node.fetching import ChunkDesk
from node.model_directory import read_text_file
from node.ports import Requests
from protocol.encoding.codec import decode, encode
from protocol.errors import DishonestError, JoulemeshError, MalformedError, ModelError, RefusedError, UnreachableError
from protocol.identity.ids import ModelFile, ModelManifest, ModelRoot
from protocol.market.catalog import (
    CLIENT_FILES,
    MAX_FILE_BYTES,
    ChunkListRequest,
    ChunkRequest,
    FileRequest,
    ManifestRequest,
)
from protocol.models.precisions import beside
from protocol.names import MODEL_PROTOCOL

__all__ = ["ModelServer", "Text", "fetch_manifest", "fetch_tokenizer", "kept_manifest"]

_FAILS = "the model's tokenizer does not work"


MANIFEST_S = 5.0
"""For one provider to answer with a manifest, before the next one is asked."""
FILE_S = 20.0
"""Likewise with a file."""

T = TypeVar("T")


class ModelServer:
    """Answers clients' questions about the one model that a node serves, and hands chunks of it to other nodes.

    Args:
        desk: for the chunks.
    """

    def __init__(self, directory: Path, manifest: ModelManifest, desk: ChunkDesk) -> None:
        self._directory = directory
        self._desk = desk
        # The files are the same in whatever precision they are served.
        others = (manifest.replace(precision=each) for each in beside(manifest.precision))
        self._manifests = {each.root: encode(each) for each in (manifest, *others)}
        self._files = {file.name: file for file in manifest.files if file.name in CLIENT_FILES}

    async def answer(self, peer: bytes, data: bytes) -> bytes:
        """The manifest, the content of one of `CLIENT_FILES`, or a chunk of any file. Raises RefusedError."""
        question: Any = decode(data, ManifestRequest, FileRequest, ChunkListRequest, ChunkRequest)
        if question.model not in self._manifests:
            raise RefusedError("this node serves another model", code="model")
        match question:
            case ChunkRequest():
                return await self._desk.chunk(peer, question.name, question.chunk)
            case ChunkListRequest():
                return await self._desk.chunk_list(peer, question.name)
            case FileRequest():
                if question.name not in self._files:
                    raise RefusedError(f"this node does not hand out {question.name!r}", code="file")
                return await asyncio.to_thread(self._content, self._files[question.name])
        return self._manifests[question.model]

    def _content(self, file: ModelFile) -> bytes:
        """A file, if it is here and still the one that was hashed at the start. Raises RefusedError."""
        try:
            content = read_text_file(self._directory / file.name, min(file.size, MAX_FILE_BYTES))
        except ModelError:
            content = b""
        if not _matches(file, content):
            raise RefusedError(f"this node does not have the model's {file.name}", code="file")
        return content


async def _ask(
    requests: Requests, peers: Sequence[str], question: bytes, what: str, check: Callable[[bytes], T], timeout_s: float
) -> T:
    """What `check` makes of the answer of the first peer that gives a right one.

    Raises UnreachableError where none does, DishonestError where the last one's is wrong.
    """
    reason = "nobody offers it"
    for peer in peers:
        try:
            return check(
                await requests.request(peer, MODEL_PROTOCOL, question, timeout_s=timeout_s, max_reply=MAX_FILE_BYTES)
            )
        except DishonestError:
            if peer == peers[-1]:
                raise
        except JoulemeshError as error:
            reason = error.message
    raise UnreachableError(f"no provider hands out {what}: {reason}", hint="try again; providers come and go")


async def fetch_manifest(requests: Requests, peers: Sequence[str], root: ModelRoot, cache: Path) -> ModelManifest:
    """The manifest with this root, from the cache or from a provider. Raises DishonestError, UnreachableError."""
    kept = kept_manifest(root, cache)
    if kept is not None:
        return kept

    def check(reply: bytes) -> ModelManifest:
        manifest = decode(reply, ModelManifest)
        if manifest.root != root:
            raise DishonestError("a provider handed out the manifest of another model")
        return manifest

    question = encode(ManifestRequest(model=root))
    manifest = await _ask(requests, peers, question, "the manifest", check, MANIFEST_S)
    _keep(_manifest_path(root, cache), encode(manifest))
    return manifest


def kept_manifest(root: ModelRoot, cache: Path) -> ModelManifest | None:
    """The manifest with this root, if it is in the cache."""
    try:
        kept = decode(_manifest_path(root, cache).read_bytes(), ModelManifest)
    except (OSError, MalformedError):
        return None
    return kept if kept.root == root else None


def _manifest_path(root: ModelRoot, cache: Path) -> Path:
    return cache / root.hex() / "manifest"


async def fetch_tokenizer(requests: Requests, peers: Sequence[str], manifest: ModelManifest, cache: Path) -> Text:
    """The model's tokenizer and chat template, held against the manifest, from the cache or from providers.

    Raises DishonestError, MalformedError, ModelError, UnreachableError.
    """
    files = {file.name: file for file in manifest.files if file.name in CLIENT_FILES}
    if "tokenizer.json" not in files:
        raise ModelError(
            f"{manifest.name} has no tokenizer.json", hint="only models with a fast tokenizer can be asked in text"
        )
    content = {name: await _fetch_file(requests, peers, manifest.root, files[name], cache) for name in sorted(files)}
    return Text(
        content["tokenizer.json"],
        config=content.get("tokenizer_config.json"),
        template=content.get("chat_template.jinja"),
    )


async def _fetch_file(requests: Requests, peers: Sequence[str], root: ModelRoot, file: ModelFile, cache: Path) -> bytes:
    path = cache / root.hex() / file.name
    try:
        kept = path.read_bytes()
    except OSError:
        kept = b""
    if _matches(file, kept):
        return kept

    def check(reply: bytes) -> bytes:
        if not _matches(file, reply):
            raise DishonestError(f"a provider handed out a {file.name} that is not the model's")
        return reply

    content = await _ask(requests, peers, encode(FileRequest(model=root, name=file.name)), file.name, check, FILE_S)
    _keep(path, content)
    return content


def _matches(file: ModelFile, content: bytes) -> bool:
    return len(content) == file.size and hashlib.sha256(content).digest() == file.sha256


def _keep(path: Path, content: bytes) -> None:
    with suppress(OSError):  # without it the next job fetches it again, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)


class Text:
    """Prompts to token ids and token ids to text, piece by piece: of one answer, since pieces depend on those before.

    Args:
        tokenizer_json, config, template: contents of tokenizer.json, tokenizer_config.json and chat_template.jinja.
    """

    def __init__(self, tokenizer_json: bytes, *, config: bytes | None = None, template: bytes | None = None) -> None:
        self._tokenizer = load_tokenizer(tokenizer_json)
        self._files = config, template
        self._bytes: TokenBytes | None = None
        self._stream = DecodeStream(skip_special_tokens=True)

    def again(self) -> Text:
        """The same tokenizer, for another answer."""
        other = object.__new__(Text)
        other._tokenizer, other._files, other._bytes = self._tokenizer, self._files, self._bytes
        other._stream = DecodeStream(skip_special_tokens=True)
        return other

    def template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one. Raises ModelError for one that cannot be used."""
        return find_template(*self._files)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: through the chat template where the model has one, unless raw text is asked for.

        It may take a tenth of a second and more: call it in a thread.

        Raises:
            ConfigurationError: the template refuses the messages.
            ModelError: the template does not work, or is needed and missing.
        """
        template = None if prompt.raw is not None else self.template()
        if template is not None:
            # The template has written all special tokens that are wanted.
            return self.encode_on(template.render(prompt.messages))
        if prompt.plain is None:
            raise ModelError("the model has no chat template", hint="ask one question, without --system or --messages")
        return self.encode(prompt.plain)

    def encode(self, prompt: str) -> list[int]:
        """Token ids, with the special tokens that the model wants around a prompt. Raises ModelError."""
        with strangers_code(_FAILS):
            ids: list[int] = self._tokenizer.encode(prompt).ids
        return ids

    def encode_on(self, text: str) -> list[int]:
        """Token ids of text that has all special tokens that are wanted, or goes on from other. Raises ModelError."""
        with strangers_code(_FAILS):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def piece(self, token: int) -> str:
        """The text that one more token adds; empty while a character is incomplete. Raises ModelError."""
        with strangers_code(_FAILS):
            return self._stream.step(self._tokenizer, token) or ""

    def bytes_of(self, token: int) -> bytes:
        """What one token stands for, also where that is a part of a character. Raises ModelError."""
        with strangers_code(_FAILS):
            self._bytes = self._bytes or TokenBytes(self._tokenizer)
            return self._bytes.of(token)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of all these tokens. Raises ModelError."""
        with strangers_code(_FAILS):
            text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text
