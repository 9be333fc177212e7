"""What one forward pass sends to neighbours on the ring."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.outbox import Outbox
from node.pipeline.serving.places import Served
from node.pipeline.serving.rows import Onward as PassedOn
from protocol.encoding.codec import Message
from protocol.models.activations import ActivationType
from protocol.session.frames import MAX_ITEMS, Sampled, SampledToken, Step, StepItem

__all__ = ["Onward", "item_of", "sampled_frames"]

MOST_DRAFTS = 32 * 1024
"""Bytes of drafts in one frame, half of what a header may have: the rest of `MAX_ITEMS` items has room beside them."""


def item_of(job: LegJob, passed: PassedOn) -> StepItem:
    """A session's part of a step."""
    return StepItem(
        session=job.session,
        position=passed.position,
        length=passed.length,
        certain=passed.certain,
        route=len(job.reroutes),
        flight=passed.flight,
        drafts=passed.drafts,
    )


def sampled_frames(tokens: Sequence[SampledToken], said: bytes = b"") -> Iterator[tuple[Sampled, bytes]]:
    """As many frames as it takes to tell of all tokens that one pass drew.

    Args:
        said: of them, their log probabilities: as many bytes of each.
    """
    size = len(said) // max(1, len(tokens))
    for at in range(0, len(tokens), MAX_ITEMS):
        part = tuple(tokens[at : at + MAX_ITEMS])
        yield Sampled(tokens=part), said[at * size : (at + len(part)) * size]


class Onward:
    """What a pass sends to neighbours: what goes the same way travels in one frame."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Outbox, ActivationType], list[tuple[StepItem, bytes]]] = defaultdict(list)
        """Rows as they go over the wire, by neighbour and number format."""
        self.tokens: dict[Outbox, list[SampledToken]] = defaultdict(list)

    def add(self, served: Served, passed: PassedOn) -> tuple[SampledToken, ...]:
        """What the next leg needs of a session's part of the pass; the tokens that it has drawn."""
        job = served.job
        if passed.rows and served.downstream is not None:
            self.rows[served.downstream, job.terms.activations].append((item_of(job, passed), passed.rows))
        if not passed.tokens:
            return ()
        first, route = passed.position - len(passed.tokens) + 1, len(job.reroutes)
        tokens = tuple(
            SampledToken(session=job.session, position=at, token=drawn, route=route)
            for at, drawn in enumerate(passed.tokens, first)
        )
        if not job.is_first and served.downstream is not None:
            self.tokens[served.downstream].extend(tokens[:-1] if job.ended else tokens)
        return tokens

    def frames(self) -> Iterator[tuple[Outbox, Message, bytes]]:
        """Each frame with its payload, and where it goes."""
        for outbox, tokens in self.tokens.items():
            for sampled, said in sampled_frames(tokens):
                yield outbox, sampled, said
        for (outbox, activations), rows in self.rows.items():
            for part in _frames_of(rows):
                step = Step(activations=activations, items=tuple(item for item, _ in part))
                yield outbox, step, b"".join(raw for _, raw in part)


def _frames_of(rows: list[tuple[StepItem, bytes]]) -> Iterator[list[tuple[StepItem, bytes]]]:
    """Cut so that each part goes into one frame: by the number of its items, and by the drafts in its header."""
    part: list[tuple[StepItem, bytes]] = []
    drafts = 0
    for item, raw in rows:
        if len(part) == MAX_ITEMS or (part and drafts + len(item.drafts) > MOST_DRAFTS):
            yield part
            part, drafts = [], 0
        part.append((item, raw))
        drafts += len(item.drafts)
    yield part
