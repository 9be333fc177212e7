"""Many chunks from many sources at once: who is slow loses nothing for the others, and who lies is asked no more.

Each source has a few workers, which take whatever is still wanted and was not refused by it. A chunk that is under way
at one source for long is asked of another, too, once nothing else is left. What comes is held against the chunk list
before it is written. A peer that sends another chunk is told of at once (`on_liar`) and never asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from node.fetching.disk import ChunkFile
from node.fetching.sources import Source
from protocol.errors import DishonestError, JoulemeshError, LocalError, RefusedError, UnreachableError
from protocol.identity.ids import ModelFile
from protocol.models.chunks import is_chunk, open_chunk_list

__all__ = ["OnLiar", "Swarm", "Want"]

OnLiar = Callable[[Source, str], None]
"""Told of a source that gave what is not the model's, and of what it was."""
FindSources = Callable[[], Awaitable[Sequence[Source]]]

MOST_FAILURES = 3
"""In a row, and a source is given up until sources are looked for anew."""
MOST_REFUSALS = 32
"""Likewise of chunks that it does not have: it serves other blocks."""
MOST_ASKED = 2
"""Sources of one chunk at a time."""
BUSY_S = 0.5
"""Between tries at a source that is busy."""
LOOK_S = 2.0
"""Between looks for other sources, where those at hand do not have what is wanted."""


@dataclass(frozen=True, slots=True)
class Want:
    """A chunk of a file."""

    file: ChunkFile
    index: int


@dataclass(eq=False, slots=True)
class _Asked:
    """How it went with a source."""

    source: Source
    refused: set[Want] = field(default_factory=set)
    failures: int = 0
    """In a row."""
    refusals: int = 0
    """Likewise, of chunks that it does not have."""

    @property
    def given_up(self) -> bool:
        """Until sources are looked for anew."""
        return self.failures >= MOST_FAILURES or self.refusals >= MOST_REFUSALS


def _next(asked: _Asked, open_wants: dict[Want, None], under_way: dict[Want, set[str]]) -> Want | None:
    """What nobody is asked for comes first; what one other is asked for, last."""
    second = None
    for want in open_wants:
        if want in asked.refused or asked.source.name in under_way[want]:
            continue
        if not under_way[want]:
            return want
        if second is None and len(under_way[want]) < MOST_ASKED:
            second = want
    return second


class Swarm:
    """Fetches chunks and chunk lists.

    Args:
        find: those who may have them; asked again while something is missing.
        on_liar: told of each source that is caught.
        on_chunk: told of the bytes of each chunk that was written.
        patience_s: seconds without any progress after which a fetch is given up.
        look_s: seconds between looks for sources, where those at hand do not have what is wanted.
    """

    def __init__(
        self,
        find: FindSources,
        *,
        on_liar: OnLiar,
        on_chunk: Callable[[int], None],
        patience_s: float = 60.0,
        look_s: float = LOOK_S,
    ) -> None:
        self._find = find
        self._on_liar = on_liar
        self._on_chunk = on_chunk
        self._patience_s = patience_s
        self._look_s = look_s
        self._banned: set[str] = set()
        self._reason = "nobody offers it"
        self._progress = 0.0

    async def chunk_list(self, file: ModelFile) -> bytes:
        """The hashes of a file's chunks, held against the manifest. Raises UnreachableError."""
        began = self._now()
        while True:
            for source in await self._sources():
                try:
                    data = await source.chunk_list(file)
                    open_chunk_list(file, data)
                except DishonestError as error:
                    self._ban(source, error.message)
                except JoulemeshError as error:
                    self._reason = error.message
                else:
                    return data
            if self._now() - began > self._patience_s:
                raise self._gave_up(f"the chunk list of {file.name}")
            await asyncio.sleep(self._look_s)

    async def fetch(self, wants: Sequence[Want]) -> None:
        """All of these chunks, on the disk. Raises UnreachableError where nobody has one, LocalError of the disk."""
        open_wants = dict.fromkeys(wants)
        self._progress = self._now()
        while open_wants:
            before = len(open_wants)
            await self._round([_Asked(source) for source in await self._sources()], open_wants)
            if not open_wants:
                break
            if len(open_wants) == before and self._now() - self._progress > self._patience_s:
                raise self._gave_up(f"{len(open_wants)} chunks of {next(iter(open_wants)).file.file.name}")
            await asyncio.sleep(self._look_s)
        for file in {want.file.path: want.file for want in wants}.values():
            await asyncio.to_thread(file.flush)

    async def _round(self, sources: Sequence[_Asked], open_wants: dict[Want, None]) -> None:
        """Until all is there, or no source has any of the rest."""
        under_way: dict[Want, set[str]] = {want: set() for want in open_wants}
        workers = [
            asyncio.create_task(self._work(asked, open_wants, under_way), name=f"fetch {asked.source.name}")
            for asked in sources
            for _ in range(asked.source.at_once)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, asked: _Asked, open_wants: dict[Want, None], under_way: dict[Want, set[str]]) -> None:
        while not asked.given_up and asked.source.name not in self._banned:
            want = _next(asked, open_wants, under_way)
            if want is None:
                return
            under_way[want].add(asked.source.name)
            try:
                await self._get(asked, want, open_wants)
            finally:
                under_way[want].discard(asked.source.name)

    async def _get(self, asked: _Asked, want: Want, open_wants: dict[Want, None]) -> None:
        source, file = asked.source, want.file
        try:
            chunk = await source.chunk(file.file, want.index)
        except RefusedError as error:
            self._reason = error.message
            if error.code == "busy":
                await asyncio.sleep(BUSY_S)
            else:
                asked.refused.add(want)
                asked.refusals += 1
            return
        except LocalError as error:
            asked.failures += 1
            self._reason = error.message
            if not isinstance(error, UnreachableError):
                raise
            return
        except JoulemeshError as error:
            asked.failures += 1
            self._reason = error.message
            return
        asked.failures = asked.refusals = 0
        if not is_chunk(chunk, file.hashes[want.index]):  # who lies is known by it also where another was quicker
            self._ban(source, f"chunk {want.index} of {file.file.name} is not the model's")
            return
        if want not in open_wants:
            return
        await asyncio.to_thread(file.write, want.index, chunk)
        if open_wants.pop(want, 0) is None:
            self._progress = self._now()
            self._on_chunk(len(chunk))

    async def _sources(self) -> list[Source]:
        return [source for source in await self._find() if source.name not in self._banned]

    def _ban(self, source: Source, what: str) -> None:
        if source.name not in self._banned:
            self._banned.add(source.name)
            self._reason = what
            self._on_liar(source, what)

    def _gave_up(self, what: str) -> UnreachableError:
        hint = "start again when others serve the model, or name a --mirror; what was fetched is kept"
        return UnreachableError(f"nobody hands out {what}: {self._reason}", hint=hint)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
