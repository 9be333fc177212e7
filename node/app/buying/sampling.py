"""From a client's settings to how its tokens are drawn."""

from __future__ import annotations

from node.config.client import ClientConfig
from protocol.errors import ConfigurationError
from protocol.identity.ids import ModelManifest
from protocol.session.shaping import shaping_of
from protocol.session.terms import SamplingTerms

__all__ = ["require_known_tokens", "sampling_of"]


def sampling_of(config: ClientConfig) -> SamplingTerms:
    """As the settings say."""
    return SamplingTerms(
        temperature_milli=config.temperature_milli,
        seed=config.seed,
        top_p_ppm=config.top_p_ppm,
        top_k=config.top_k,
        shaping=shaping_of(
            repetition_milli=config.repetition_penalty_milli,
            frequency_milli=config.frequency_penalty_milli,
            presence_milli=config.presence_penalty_milli,
            biases=config.logit_bias,
        ),
    )


def require_known_tokens(sampling: SamplingTerms, manifest: ModelManifest) -> None:
    """Raises ConfigurationError: a bias is of a token that the model does not have, or more are asked for than are."""
    if (sampling.logprobs or 0) > manifest.vocabulary:
        raise ConfigurationError(
            f"{manifest.name} has {manifest.vocabulary} tokens: ask for the log probabilities of fewer", code="logprobs"
        )
    biases = () if sampling.shaping is None else sampling.shaping.biases
    if biases and biases[-1].token >= manifest.vocabulary:
        raise ConfigurationError(
            f"{manifest.name} has no token {biases[-1].token}: its ids are below {manifest.vocabulary}",
            code="logit_bias",
            hint="logit_bias takes the model's own token ids",
        )
