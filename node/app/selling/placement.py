"""A node whose blocks the market chooses: how many it holds, where it joins, and when it goes elsewhere.

The rules are in `protocol.market.placement`; here are the machine's memory, the offers that were heard, and the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from node.app.models.held_model import HASHES_FILE
from node.app.models.survey import block_needs
from node.config import NodeConfig
from node.engine.device import compute_device
from node.events import BlocksChosen, BlocksKept, BlocksMoving, BlocksNotFetched, Events
from node.model_directory import (
    MANIFEST_FILE,
    HashMemory,
    load_config,
    model_facts,
    model_manifest,
    read_header,
    read_manifest,
    weight_files,
)
from protocol.errors import ConfigurationError, JoulemeshError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.market.holders import holders_of, priced_demand, supply
from protocol.market.offer import Offer
from protocol.market.placement import lightest, plan, turn

__all__ = ["Placement", "Room", "room_of"]

OF_MEMORY = 2
"""One part in so many of the machine's memory is for weights and attention cache: the rest of it has other work."""
HEARD_S = 2.0
"""For further offers, once some are heard."""
SILENCE_S = 5.0
"""For the first offer; then the node is taken to be the first."""
LATE_S = 1.0
"""After an epoch has begun: clocks differ."""
_WIDTHS = {"F32": 4, "fp32": 4}
"""Bytes of a number, where they are not 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Which windows of a model a node can hold."""

    manifest: ModelManifest
    length: int
    """Blocks that it holds."""
    windows: tuple[int, ...]
    """First blocks of those whose weights are here and fit, rising."""

    @property
    def moves(self) -> bool:
        """Whether it could hold any window of the model: others plan with that."""
        return len(self.windows) == self.manifest.blocks - self.length + 1 > 1


def room_of(config: NodeConfig) -> Room:
    """What the memory holds and the directory has; reads headers of weights, and hashes where no manifest is.

    Raises ModelError, and ConfigurationError where not even one block fits.
    """
    facts = model_facts(config.model)
    if (config.model / MANIFEST_FILE).is_file():
        manifest = read_manifest(config.model, precision=config.precision)
    else:
        hashes = HashMemory(config.data_dir / HASHES_FILE)
        manifest = model_manifest(config.model, precision=config.precision, hashes=hashes)
    sizes = list(_sizes(config))
    length, windows = _largest(sizes, compute_device().memory_bytes // OF_MEMORY, config.max_blocks or facts.blocks)
    if not windows:
        raise ConfigurationError(
            "no block of the model that is here fits into half of this machine's memory",
            hint="lower --kv-tokens, put more of the model's files here, or name the blocks with --blocks",
        )
    return Room(manifest=manifest, length=length, windows=windows)


def _sizes(config: NodeConfig) -> Iterator[int | None]:
    """For each block the bytes that it takes in memory, weights and attention cache; None where it is not here."""
    raw = load_config(config.model)
    heads = int(raw["num_attention_heads"])
    width = int(raw.get("head_dim") or int(raw["hidden_size"]) // heads)
    number = _WIDTHS.get(config.precision, 2)
    cache = 2 * int(raw.get("num_key_value_heads") or heads) * width * number * config.kv_tokens
    stored = next(
        (
            _WIDTHS.get(tensor.dtype, 2)
            for path in weight_files(config.model)
            if path.is_file()
            for tensor in read_header(path).values()
        ),
        2,
    )
    for needs in block_needs(config.model, model_facts(config.model)):
        yield None if needs.size is None else needs.size * number // stored + cache


def _largest(sizes: Sequence[int | None], memory: int, most: int) -> tuple[int, tuple[int, ...]]:
    """The most blocks of which every window that is here fits, else of which some do; and the windows that do."""
    best: tuple[int, tuple[int, ...]] = (0, ())
    for length in range(1, min(most, len(sizes)) + 1):
        here = [start for start in range(len(sizes) - length + 1) if None not in sizes[start : start + length]]
        fitting = tuple(start for start in here if sum(filter(None, sizes[start : start + length])) <= memory)
        if fitting and (len(fitting) == len(here) or not best[1]):
            best = length, fitting
    return best


class Placement:
    """Which blocks a node holds, by the offers of a model that it has heard.

    Args:
        node: its public key.
        offers: those in force of this model on the node's ledger.
        now_s: Unix seconds.
        epoch_s: seconds between looks at the plan; 0 never looks.
        prepare: gets other blocks ready while those of now are served still; where it fails, the node stays.
    """

    def __init__(
        self,
        room: Room,
        node: bytes,
        offers: Callable[[], Sequence[Offer]],
        *,
        epoch_s: int,
        events: Events,
        now_s: Callable[[], float] = time.time,
        prepare: Callable[[BlockSpan], Awaitable[None]] | None = None,
    ) -> None:
        self.room = room
        self._node = node
        self._offers = offers
        self._epoch_s = epoch_s
        self._events = events
        self._now_s = now_s
        self._prepare = prepare

    async def heard(self, waiting: asyncio.Event) -> None:
        """Wait until there are offers to go by, or it seems that there are none.

        Args:
            waiting: set whenever an offer came in.
        """
        began = time.monotonic()
        while (left := (HEARD_S if self._offers() else SILENCE_S) - (time.monotonic() - began)) > 0:
            waiting.clear()
            try:
                async with asyncio.timeout(left):
                    await waiting.wait()
            except TimeoutError:
                continue

    def join(self) -> BlockSpan:
        """The blocks that are lacking most, of those that can be held here."""
        blocks, offers = self.room.manifest.blocks, self._others()
        demand, holders = priced_demand(offers, blocks), holders_of(offers, blocks)
        start = lightest(holders, self.room.length, demand, node=self._node, here=self.room.windows)
        assert start is not None, "a room has windows"
        span, served = self._span(start), supply(holders, demand)
        self._events(
            BlocksChosen(
                blocks=str(span),
                of=blocks,
                offers=len(offers),
                uncovered=int((served == 0).sum()),
                scarcest=int(served[span.start : span.end].min()),
            )
        )
        return span

    async def moved(self, span: BlockSpan, reload_s: int) -> BlockSpan:
        """Wait until the plan has this node serve other blocks than these; for ever where it never does."""
        while True:
            if not self._epoch_s or not self.room.moves:
                await asyncio.Event().wait()
            now = self._now_s()
            epoch = int(now) // self._epoch_s + 1
            await asyncio.sleep(epoch * self._epoch_s - now + LATE_S)
            to = await self._look(epoch, span, reload_s)
            if to is not None and await self._ready(to):
                return to

    async def _ready(self, to: BlockSpan) -> bool:
        if self._prepare is None:
            return True
        try:
            await self._prepare(to)
        except JoulemeshError as error:
            self._events(BlocksNotFetched(blocks=str(to), code=error.code, reason=error.message))
            return False
        return True

    async def _look(self, epoch: int, span: BlockSpan, reload_s: int) -> BlockSpan | None:
        blocks, offers = self.room.manifest.blocks, self._offers()
        demand, holders = priced_demand(offers, blocks), holders_of(offers, blocks)
        if not any(holder.node == self._node and holder.start == span.start for holder in holders):
            return None  # its own offer is not out yet
        wanted = await asyncio.to_thread(partial(plan, holders, demand, epoch=epoch))
        moves = turn(holders, demand, wanted)
        own = next((move for move in moves if move.node == self._node), None)
        if own is None or own.start not in self.room.windows:
            self._events(BlocksKept(epoch=epoch, capacity=wanted.before, planned=wanted.after, moves=len(moves)))
            return None
        to = self._span(own.start)
        self._events(
            BlocksMoving(
                epoch=epoch,
                blocks=str(span),
                to=str(to),
                capacity=wanted.before,
                planned=wanted.after,
                reload_s=reload_s,
            )
        )
        return to

    def _others(self) -> list[Offer]:
        """Without what this node offered before it was started again."""
        return [offer for offer in self._offers() if offer.public_key != self._node]

    def _span(self, start: int) -> BlockSpan:
        return BlockSpan(start=start, end=start + self.room.length)
