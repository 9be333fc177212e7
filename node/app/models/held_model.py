"""The model that a node serves: the blocks that it chose, and its files, held against the manifest."""

from __future__ import annotations

from node.app.models.obtaining import Text
from node.config import NodeConfig
from node.model_directory import HashMemory, held_manifest, model_facts, read_text_file
from protocol.errors import ConfigurationError, MalformedError, ModelError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.market.catalog import MAX_FILE_BYTES

__all__ = ["HASHES_FILE", "held_model", "wanted_blocks"]

HASHES_FILE = "model-hashes.json"
"""In the data directory: hashes of files that were read before."""
TOKENIZER = "tokenizer.json"


def held_model(config: NodeConfig, chosen: BlockSpan | None = None) -> tuple[ModelManifest, BlockSpan]:
    """The manifest and the span to serve. Reads what it has not hashed before: at first that is all of the span.

    Args:
        chosen: the span, where the settings leave it to the market.

    Raises:
        ModelError: a file is missing or not the manifest's; the first block without a tokenizer that works.
        ConfigurationError: blocks that the model does not have.
    """
    facts = model_facts(config.model)
    span = wanted_blocks(config, facts.blocks) if chosen is None else chosen
    hashes = HashMemory(config.data_dir / HASHES_FILE)
    manifest = held_manifest(config.model, span, precision=config.precision, hashes=hashes)
    if span.start == 0:
        _require_tokenizer(config, manifest)
    return manifest, span


def wanted_blocks(config: NodeConfig, blocks: int) -> BlockSpan:
    """Those that the settings name, of a model of so many. Raises ConfigurationError."""
    start, end = (0, blocks) if config.blocks is None or isinstance(config.blocks, str) else config.blocks
    if end > blocks:
        raise ConfigurationError(f"blocks {start}:{end} of a model of {blocks}", hint=f"choose within 0:{blocks}")
    return BlockSpan(start=start, end=end)


def _require_tokenizer(config: NodeConfig, manifest: ModelManifest) -> None:
    """Clients get the tokenizer from whoever serves the first block."""
    if TOKENIZER not in {file.name for file in manifest.files}:
        raise ModelError(
            f"{config.model} has no {TOKENIZER}: nobody could ask this model anything",
            hint="save the model's fast tokenizer into the directory; a node without the first block needs none",
        )
    try:
        Text(read_text_file(config.model / TOKENIZER, MAX_FILE_BYTES))
    except MalformedError as error:
        raise ModelError(error.message, hint=f"download {TOKENIZER} again") from None
