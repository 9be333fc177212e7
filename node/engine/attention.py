"""Attention of packed rows over the paged KV store: what the decoder layers call instead of transformers' own.

It is registered under a name of its own; a layer passes on the keyword ``span``, a `CpuPass`, which says where each
session's rows are and where its keys and values lie. Heads of a key-value group are folded into query rows, so keys
and values are never copied per head (`enable_gqa` is 4.5 times as slow in bf16 on CPU).

Where the numbers lie and which kernels run is a `Backend`'s affair: its store, its pass, rows' way in and out.
`CpuBackend` makes one kernel call a session. A GPU has another over the same `Batch`, whose page tables, positions and
lengths are what paged varlen kernels take.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention

from node.engine.kv import PAGE_TOKENS, Batch, Move, Segment
from node.ports import Activations
from protocol.errors import ConfigurationError

__all__ = ["ATTENTION", "Backend", "CpuBackend", "Pass", "Store", "register", "span_attention"]

ATTENTION = "joulemesh-span"
"""Name in transformers' attention registry."""


class Store(Protocol):
    """Keys and values of all pages; only the back end that made it looks inside."""


class Pass(Protocol):
    """One forward pass, as the layers see it."""

    @property
    def positions(self) -> torch.Tensor:
        """Of each packed row in its session, ``[1, rows]``."""

    def attend(
        self, block: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Store the new keys and values; ``[rows, heads, head_dim]`` from inputs ``[heads, rows, head_dim]``."""


class Backend(Protocol):
    """What computes: which memory holds keys and values, which kernels attend, and how rows get there and back."""

    def new_store(self, blocks: range, *, tokens: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> Store:
        """Room for so many positions through these blocks. Raises ConfigurationError where there is no memory."""

    def begin(self, batch: Batch, store: Store) -> Pass:
        """Work out once what all blocks need to know of a batch."""

    def move(self, store: Store, move: Move) -> None:
        """Copy keys and values of all blocks to other slots."""

    def take_in(self, host: torch.Tensor) -> torch.Tensor:
        """Token ids, rows or weights, from this machine's memory to where they are computed with."""

    def give_out(self, computed: torch.Tensor) -> Activations:
        """Rows as fp32 in this machine's memory."""


class _CpuStore:
    """Keys and values of all pages, per block: two tensors ``[kv_heads, slots, head_dim]`` each.

    Raises:
        ConfigurationError: there is no memory for them.
    """

    def __init__(self, blocks: range, *, tokens: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        slots = tokens // PAGE_TOKENS * PAGE_TOKENS
        shape = (len(blocks), 2, kv_heads, slots, head_dim)
        self._first = blocks.start
        try:
            self._store = torch.empty(shape, dtype=dtype)  # untouched memory costs nothing until it is written
        except RuntimeError as error:
            raise ConfigurationError(
                f"no memory for the keys and values of {slots} positions", hint="ask for room for fewer positions"
            ) from error

    def of_block(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one block, by its index in the whole model."""
        keys, values = self._store[block - self._first]
        return keys, values

    def move(self, move: Move) -> None:
        """Copy what lies in some slots to others, one block after the other: a copy of one is all that it takes."""
        source, target = (torch.tensor(slots, dtype=torch.long) for slots in move)
        for both in self._store.flatten(0, 1):
            both.index_copy_(1, target, both.index_select(1, source))


class _CpuPass:
    """What is worked out once for a batch and used in every block.

    Args:
        batch: the segments.
        store: where their keys and values lie.
    """

    def __init__(self, batch: Batch, store: _CpuStore) -> None:
        self.positions = torch.cat([torch.arange(s.position, s.end) for s in batch.segments]).unsqueeze(0)
        self._batch = batch
        self._store = store
        slots = [slot for s in batch.segments for slot in s.slots(s.position, s.end)]
        self._new_slots = torch.tensor(slots, dtype=torch.long)
        self._reach: dict[tuple[int, int | None], _Reach] = {}

    def attend(
        self, block: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        keys, values = self._store.of_block(block)
        keys.index_copy_(1, self._new_slots, key)
        values.index_copy_(1, self._new_slots, value)
        heads, rows, head_dim = query.shape
        out = query.new_empty((rows, heads, head_dim))
        for index, segment in enumerate(self._batch.segments):
            reach = self._reach_of(index, segment, window)
            first, last = segment.row, segment.row + segment.length
            attended = _attend(query[:, first:last], reach.view(keys), reach.view(values), reach.mask, scale)
            out[first:last] = attended.transpose(0, 1)
        return out

    def _reach_of(self, index: int, segment: Segment, window: int | None) -> _Reach:
        if (index, window) not in self._reach:
            self._reach[index, window] = _Reach(segment, window)
        return self._reach[index, window]


class CpuBackend:
    """Everything in this machine's memory, and torch's own kernels."""

    def new_store(self, blocks: range, *, tokens: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> Store:
        """See `Backend`."""
        return _CpuStore(blocks, tokens=tokens, kv_heads=kv_heads, head_dim=head_dim, dtype=dtype)

    def begin(self, batch: Batch, store: Store) -> Pass:
        """See `Backend`."""
        if not isinstance(store, _CpuStore):
            raise TypeError(f"a store of another back end: {type(store).__name__}")
        return _CpuPass(batch, store)

    def move(self, store: Store, move: Move) -> None:
        """See `Backend`."""
        if not isinstance(store, _CpuStore):
            raise TypeError(f"a store of another back end: {type(store).__name__}")
        store.move(move)

    def take_in(self, host: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return host

    def give_out(self, computed: torch.Tensor) -> Activations:
        """See `Backend`."""
        rows: Activations = computed.float().numpy()
        return rows


class _Reach:
    """The keys that one segment's rows may see, and which row may see which."""

    def __init__(self, segment: Segment, window: int | None) -> None:
        # A row at position p sees positions p - window + 1 to p.
        start = 0 if window is None else max(0, segment.position - window + 1)
        self._run: slice | None = None
        self._slots: torch.Tensor | None = None
        if segment.contiguous:
            first = segment.pages[0] * PAGE_TOKENS
            self._run = slice(first + start, first + segment.end)
        else:
            self._slots = torch.tensor(segment.slots(start, segment.end), dtype=torch.long)
        self.mask = None if segment.length == 1 else _mask(segment, start, window)

    def view(self, stored: torch.Tensor) -> torch.Tensor:
        """The keys, or values: a view where the pages are contiguous, else gathered."""
        if self._slots is None:
            return stored[:, self._run]
        return stored.index_select(1, self._slots)


def _mask(segment: Segment, start: int, window: int | None) -> torch.Tensor:
    rows = torch.arange(segment.position, segment.end).unsqueeze(1)
    columns = torch.arange(start, segment.end).unsqueeze(0)
    seen = columns <= rows
    return seen if window is None else seen & (columns > rows - window)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """One segment: ``[heads, rows, d]`` over ``[kv_heads, keys, d]`` gives ``[heads, rows, d]``."""
    heads, rows, head_dim = query.shape
    kv_heads, seen, _ = keys.shape
    group = heads // kv_heads
    if rows == 1:  # the heads of a group become the rows of one query
        folded = query.reshape(1, kv_heads, group, head_dim)
        out = scaled_dot_product_attention(folded, keys.unsqueeze(0), values.unsqueeze(0), scale=scale)
        return out.reshape(heads, 1, head_dim)
    shape = (kv_heads, group, seen, head_dim)  # expanded with stride 0: not a copy, and the mask is shared
    out = scaled_dot_product_attention(
        query.reshape(kv_heads, group, rows, head_dim),
        keys.unsqueeze(1).expand(shape),
        values.unsqueeze(1).expand(shape),
        attn_mask=mask,
        scale=scale,
    )
    return out.reshape(heads, rows, head_dim)


def span_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    span: Pass,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: ``[1, heads, rows, d]`` in, ``[1, rows, heads, d]`` out."""
    out = span.attend(int(module.layer_idx), query[0], key[0], value[0], scaling, sliding_window)  # type: ignore[arg-type]
    return out.unsqueeze(0), None


def register() -> None:
    """Make `ATTENTION` known to transformers; again does no harm."""
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(ATTENTION, span_attention)
