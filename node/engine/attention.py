"""Attention of packed rows over the paged KV store.

A `Pass` says where each session's rows are and where its keys and values lie. Heads of a key-value group are folded
into query rows, so keys and values are never copied per head (`enable_gqa` is 4.5 times as slow in bf16 on CPU).

Where the numbers lie and which kernels run is a `Backend`'s affair: its store, its pass, how weights are laid out,
rows' way in and out. `CpuBackend` makes one kernel call a session: what these cost is the reading of keys and values,
which no packing of sessions makes less. A GPU has another over the same `Batch`, whose page tables, positions and
lengths are what paged varlen kernels take.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention

from node.engine.attending import Attending, attended
from node.engine.kv import PAGE_TOKENS, Batch, Move, Segment
from node.engine.matrices import Matrix, laid_out
from node.ports import Activations
from protocol.errors import ConfigurationError

__all__ = ["Backend", "CpuBackend", "Pass", "Store"]


class Store(Protocol):
    """Keys and values of all pages; only the back end that made it looks inside."""


class Pass(Protocol):
    """One forward pass, as the layers see it."""

    @property
    def positions(self) -> torch.Tensor:
        """Of each packed row in its session, ``[rows]``."""

    def attend(
        self, block: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Attending
    ) -> torch.Tensor:
        """Store the new keys and values; ``[rows, heads, head_dim]``, of which inputs are too."""


class Backend(Protocol):
    """What computes: which memory holds keys and values, which kernels attend, and how rows get there and back."""

    def new_store(self, blocks: range, *, tokens: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> Store:
        """Room for so many positions through these blocks. Raises ConfigurationError where there is no memory."""

    def begin(self, batch: Batch, store: Store) -> Pass:
        """Work out once what all blocks need to know of a batch."""

    def move(self, store: Store, move: Move) -> None:
        """Copy keys and values of all blocks to other slots."""

    def laid_out(self, weight: torch.Tensor, bias: torch.Tensor | None, factors: torch.Tensor | None = None) -> Matrix:
        """A weight ``[out, in]`` as rows are multiplied with it fastest; its own rows times factors, if there are."""

    def take_in(self, host: torch.Tensor) -> torch.Tensor:
        """Token ids, rows or other weights, from this machine's memory to where they are computed with."""

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

    @property
    def first(self) -> int:
        """Index of the first block in the whole model."""
        return self._first

    def runs(self, slots: slice) -> tuple[torch.Tensor, ...]:
        """Views of slots that lie side by side: for each block its keys and its values, ``[1, kv_heads, n, d]``."""
        return self._store[:, :, :, slots].flatten(0, 1).unsqueeze(1).unbind()

    @cached_property
    def whole(self) -> tuple[torch.Tensor, ...]:
        """For each block its keys and its values, ``[kv_heads, slots, d]``."""
        return self._store.flatten(0, 1).unbind()

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
        segments = batch.segments
        self.positions = torch.tensor([at for s in segments for at in range(s.position, s.end)])
        self._segments = segments
        self._store = store
        slots = [slot for s in segments for slot in s.slots(s.position, s.end)]
        self._new_slots = torch.tensor(slots, dtype=torch.long)
        self._reaches: dict[int | None, list[_Reach]] = {}

    def attend(
        self, block: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Attending
    ) -> torch.Tensor:
        at = 2 * (block - self._store.first)
        self._store.whole[at].index_copy_(1, self._new_slots, key.transpose(0, 1))
        self._store.whole[at + 1].index_copy_(1, self._new_slots, value.transpose(0, 1))
        if (reaches := self._reaches.get(how.window)) is None:
            reaches = [_Reach(segment, self._store, how.window) for segment in self._segments]
            self._reaches[how.window] = reaches
        attend = _attend if how.is_plain else attended
        parts = [
            attend(query[s.row : s.row + s.length], reach.part(at), reach.part(at + 1), reach.mask, how)
            for s, reach in zip(self._segments, reaches, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


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

    def laid_out(self, weight: torch.Tensor, bias: torch.Tensor | None, factors: torch.Tensor | None = None) -> Matrix:
        """See `Backend`."""
        return laid_out(weight, bias, factors)

    def take_in(self, host: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return host

    def give_out(self, computed: torch.Tensor) -> Activations:
        """See `Backend`."""
        rows: Activations = computed.float().numpy()
        return rows


class _Reach:
    """The keys that one segment's rows may see, and which row may see which."""

    def __init__(self, segment: Segment, store: _CpuStore, window: int | None) -> None:
        # A row at position p sees positions p - window + 1 to p.
        start = 0 if window is None else max(0, segment.position - window + 1)
        self._store = store
        self._runs: tuple[torch.Tensor, ...] | None = None
        self._slots: torch.Tensor | None = None
        if segment.contiguous:
            first = segment.pages[0] * PAGE_TOKENS
            self._runs = store.runs(slice(first + start, first + segment.end))
        else:
            self._slots = torch.tensor(segment.slots(start, segment.end), dtype=torch.long)
        self.mask = None if segment.length == 1 else _mask(segment, start, window)

    def part(self, at: int) -> torch.Tensor:
        """Keys, or values, ``[1, kv_heads, n, d]``: a view where the pages are contiguous, else gathered."""
        if self._runs is not None:
            return self._runs[at]
        return self._store.whole[at].index_select(1, self._slots).unsqueeze(0)  # type: ignore[arg-type]


def _mask(segment: Segment, start: int, window: int | None) -> torch.Tensor:
    rows = torch.arange(segment.position, segment.end).unsqueeze(1)
    columns = torch.arange(start, segment.end).unsqueeze(0)
    seen = columns <= rows
    return seen if window is None else seen & (columns > rows - window)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, how: Attending
) -> torch.Tensor:
    """One segment: ``[rows, heads, d]`` over ``[1, kv_heads, keys, d]`` gives ``[rows, heads, d]``."""
    rows, heads, head_dim = query.shape
    kv_heads, seen = keys.shape[1:3]
    group = heads // kv_heads
    if rows == 1:  # the heads of a group become the rows of one query
        out = scaled_dot_product_attention(query.view(1, kv_heads, group, head_dim), keys, values, scale=how.scale)
        return out.reshape(1, heads, head_dim)
    shape = (kv_heads, group, seen, head_dim)  # expanded with stride 0: not a copy, and the mask is shared
    out = scaled_dot_product_attention(
        query.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3),
        keys.transpose(0, 1).expand(shape),
        values.transpose(0, 1).expand(shape),
        attn_mask=mask,
        scale=how.scale,
    )
    return out.permute(2, 0, 1, 3).reshape(rows, heads, head_dim)
