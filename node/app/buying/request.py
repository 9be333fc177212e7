"""What somebody wants of a model, before anybody is asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from node.app.buying.continuing import Earlier
from node.pipeline.buying.job import JobResult
from protocol.session.shaping import begun_with
from protocol.session.terms import SamplingTerms

__all__ = ["Request", "going_on"]

PROMPT_CHUNK = 128
"""Prompt tokens in one window, at most: with several windows ahead, each leg works on another chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer that somebody wants. What is None is as the client's settings say."""

    prompt: tuple[int, ...]
    """Token ids, as the model takes them."""
    model: str | None = None
    """A name, or the beginning of a root in hex; None for the only one that can be served."""
    most: int | None = None
    """Generated tokens at most; cut to what the model's context leaves."""
    window: int | None = None
    """Generated tokens in one window."""
    chunk: int = PROMPT_CHUNK
    """Prompt tokens in one window, at most."""
    sampling: SamplingTerms | None = None
    grammar: bytes = b""
    """Text of what the answer is held to; empty for nothing."""
    policy: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Fields of `Policy` that are not as the settings say, such as ``{"max_price_out": 2_000_000}``."""
    trusted_ends: tuple[str, ...] = ()
    """Addresses of providers that alone may serve the first and the last blocks; of those in the settings, where there
    are some."""
    end_blocks: int = 1
    """At each end, or as many as the settings say where that is more."""
    exclude: frozenset[bytes] = frozenset()
    """Public keys of providers that are not wanted."""
    credit: bool = True
    """Whether to ask for the credit that earlier payments may have earned."""
    backups: int = 0
    """Routes that are sought besides the best one, each of other providers."""
    earlier: Earlier | None = None
    """A session to go on from: its legs are preferred, since they may still hold what they computed."""


def going_on(request: Request, result: JobResult) -> Request:
    """What is still wanted of a request once a job for it broke off: tokens that came stand.

    They are drawn by position, so those that follow are the ones that would have come.
    """
    tab = result.tab
    if not tab.generated:
        return request
    earlier = Earlier.of(result) or request.earlier
    terms = result.deal.terms
    shaping = terms.sampling.shaping
    answered = tab.generated + (0 if shaping is None else shaping.answered)
    sampling = terms.sampling.replace(shaping=begun_with(shaping, answered))
    most = terms.plan.most - tab.generated
    return replace(request, prompt=tuple(tab.tokens), most=most, sampling=sampling, earlier=earlier)
