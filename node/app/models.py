"""How a client comes by a model's manifest and tokenizer: from a provider, held against the model root."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from node.durable import replace_file
from node.ports import Requests
from protocol.catalog import CLIENT_FILES, MAX_FILE_BYTES, FileRequest, ManifestRequest
from protocol.codec import decode, encode
from protocol.errors import DishonestError, JoulemeshError, MalformedError, ModelError, RefusedError, UnreachableError
from protocol.ids import ModelFile, ModelManifest, ModelRoot
from protocol.names import MODEL_PROTOCOL

__all__ = ["ModelServer", "Text", "fetch_manifest", "fetch_tokenizer"]


class ModelServer:
    """Answers clients' questions about the one model that a node serves."""

    def __init__(self, directory: Path, manifest: ModelManifest) -> None:
        self._directory = directory
        self._manifest = manifest
        self._root = manifest.root

    async def answer(self, _peer: bytes, data: bytes) -> bytes:
        """The manifest, or the content of one of `CLIENT_FILES`. Raises RefusedError."""
        question = decode(data, ManifestRequest, FileRequest)
        if question.model != self._root:  # type: ignore[attr-defined]
            raise RefusedError("this node serves another model", code="model")
        if isinstance(question, FileRequest):
            known = {file.name for file in self._manifest.files}
            if question.name not in CLIENT_FILES or question.name not in known:
                raise RefusedError(f"this node does not hand out {question.name!r}", code="file")
            return (self._directory / question.name).read_bytes()
        return encode(self._manifest)


async def _ask(requests: Requests, peers: Sequence[str], question: bytes, what: str) -> bytes:
    """The answer of the first peer that gives one. Raises UnreachableError with the last reason."""
    reason = "nobody offers it"
    for peer in peers:
        try:
            return await requests.request(peer, MODEL_PROTOCOL, question, timeout_s=20.0, max_reply=MAX_FILE_BYTES)
        except JoulemeshError as error:
            reason = error.message
    raise UnreachableError(f"no provider hands out {what}: {reason}", hint="try again; providers come and go")


async def fetch_manifest(requests: Requests, peers: Sequence[str], root: ModelRoot, cache: Path) -> ModelManifest:
    """The manifest with this root, from the cache or from a provider. Raises DishonestError, UnreachableError."""
    path = cache / root.hex() / "manifest"
    kept = _kept_manifest(path)
    if kept is not None and kept.root == root:
        return kept
    reply = await _ask(requests, peers, encode(ManifestRequest(model=root)), "the manifest")
    manifest = decode(reply, ModelManifest)
    if manifest.root != root:
        raise DishonestError("a provider handed out the manifest of another model")
    _keep(path, reply)
    return manifest


async def fetch_tokenizer(requests: Requests, peers: Sequence[str], manifest: ModelManifest, cache: Path) -> Text:
    """The model's tokenizer, held against the manifest. Raises DishonestError, ModelError, UnreachableError."""
    name = "tokenizer.json"
    file = next((each for each in manifest.files if each.name == name), None)
    if file is None:
        raise ModelError(
            f"{manifest.name} has no {name}", hint="only models with a fast tokenizer can be asked in text"
        )
    path = cache / manifest.root.hex() / name
    if path.exists() and _matches(file, path.read_bytes()):
        return Text(path.read_bytes())
    content = await _ask(requests, peers, encode(FileRequest(model=manifest.root, name=name)), name)
    if not _matches(file, content):
        raise DishonestError(f"a provider handed out a {name} that is not the model's")
    _keep(path, content)
    return Text(content)


def _kept_manifest(path: Path) -> ModelManifest | None:
    try:
        return decode(path.read_bytes(), ModelManifest)
    except (OSError, MalformedError):
        return None


def _matches(file: ModelFile, content: bytes) -> bool:
    return len(content) == file.size and hashlib.sha256(content).digest() == file.sha256


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)


class Text:
    """Prompts to token ids and token ids to text, piece by piece."""

    def __init__(self, tokenizer_json: bytes) -> None:
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a file that it cannot read
            raise MalformedError(f"the model's tokenizer cannot be read: {error}") from None
        self._stream = DecodeStream(skip_special_tokens=True)

    def encode(self, prompt: str) -> list[int]:
        """Token ids, with the special tokens that the model wants around a prompt."""
        ids: list[int] = self._tokenizer.encode(prompt).ids
        return ids

    def piece(self, token: int) -> str:
        """The text that one more token adds; empty while a character is incomplete."""
        return self._stream.step(self._tokenizer, token) or ""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of all these tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text
