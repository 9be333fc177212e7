"""What guesses ahead at a node that serves the first block, as its settings say."""

from __future__ import annotations

from node.app.models.held_model import HASHES_FILE
from node.config import NodeConfig
from node.model_directory import HashMemory
from node.pipeline.serving.lookup import LookupDrafter
from node.ports import Drafter
from protocol.errors import ConfigurationError
from protocol.identity.ids import BlockSpan, ModelManifest

__all__ = ["load_drafter"]


def load_drafter(config: NodeConfig, manifest: ModelManifest, span: BlockSpan) -> Drafter | None:
    """None where nobody would ask it. It may take seconds: give it a thread of its own.

    Raises ModelError for a model that cannot guess for the one that is served, ConfigurationError without one.
    """
    if config.drafter == "none" or span.start != 0 or not config.draft_depth:
        return None
    if config.drafter == "ngram":
        return LookupDrafter()
    from node.engine.drafter import load_layers_drafter, load_model_drafter

    if config.drafter == "layers":
        return load_layers_drafter(
            config.model, config.draft_layers, kv_tokens=config.kv_tokens, dtype=manifest.precision
        )
    if config.draft_model is None:
        raise ConfigurationError(
            "drafter = model needs a smaller model", hint="name its directory with --draft-model, or use ngram"
        )
    return load_model_drafter(
        config.draft_model,
        config.model,
        kv_tokens=config.kv_tokens,
        dtype=manifest.precision,
        threads=config.threads,
        hashes=HashMemory(config.data_dir / HASHES_FILE),
    )
