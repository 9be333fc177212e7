"""Answers from a model on this machine: no market, no money, no receipt.

Small requests are quicker here than anywhere across a network, and where there is no network there is this. What a
caller learns of it is that it was made here; nobody else signs for it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from node.app.buying.begun import Begun
from node.app.buying.calling import grammar_wanted
from node.app.buying.grammars import held_to_text
from node.app.buying.passes import Passes
from node.app.buying.sampling import require_known_tokens
from node.app.buying.saying import said_in
from node.app.buying.written import write
from node.app.models.held_model import HASHES_FILE
from node.app.models.obtaining import Text
from node.app.process.clock import clock
from node.config import GatewayConfig
from node.gateway import HERE, Costs, OfferedModel, Piece, ToolStyle, Wanted
from node.model_directory import HashMemory, held_manifest, read_text_file
from node.ports import SpanEngine
from node.worker import ThreadWorker
from protocol.errors import ConfigurationError, ModelError
from protocol.geography.jurisdictions import country_of, is_subdivision, may_stand_in, stands_in
from protocol.identity.ids import ModelManifest
from protocol.market.catalog import CLIENT_FILES, MAX_FILE_BYTES
from protocol.routing.choice import MIN_PREFIX
from protocol.session.shaping import LookBack, look_back
from protocol.session.terms import SamplingTerms

__all__ = ["EdgeAnswer", "EdgeAnswers", "open_edge"]

Sampling = Callable[[Wanted], SamplingTerms]


class EdgeAnswers:
    """Answers from an engine of one's own.

    Args:
        passes: of an engine with all of the model's blocks.
        text: the model's tokenizer.
        sampling: how a request's tokens are drawn.
        place: where this machine stands; None where that is not said.
        most: tokens of an answer, where a request does not say.
        small: tokens, prompt and answer, up to which a request is a small one.
        falls_back: whether larger ones are answered here while no market answers them.
    """

    def __init__(
        self,
        passes: Passes,
        manifest: ModelManifest,
        text: Text,
        *,
        sampling: Sampling,
        place: str | None,
        most: int,
        small: int,
        falls_back: bool,
    ) -> None:
        self.manifest = manifest
        self.falls_back = falls_back
        self._passes = passes
        self._text = text
        self._sampling = sampling
        self._place = place
        self._most = most
        self._small = small
        self._since = clock()

    @property
    def root(self) -> str:
        """The model's, in hex."""
        return self.manifest.root.hex()

    def means(self, model: str) -> bool:
        """Whether a request names this model."""
        return model == self.manifest.name or (len(model) >= MIN_PREFIX and self.root.startswith(model.lower()))

    def why_not(self, wanted: Wanted) -> str:
        """Why a request is not for this machine, in the middle of a sentence; empty where it may be."""
        limits = wanted.limits
        if not self.means(wanted.model):
            return f"has no model {wanted.model[:64]!r}"
        if wanted.schema is not None and not self._passes.masks:
            return "cannot hold answers to a schema"
        if limits.precision not in (None, self.manifest.precision):
            return f"computes in {self.manifest.precision}"
        if (limits.places or limits.deny) and self._place is None:
            return "does not say where it stands"
        if self._place is not None:
            stands = country_of(self._place), self._place if is_subdivision(self._place) else ""
            if (limits.places and not stands_in(limits.places, *stands)) or may_stand_in(limits.deny, *stands):
                return f"stands in {self._place}"
        return ""

    async def models(self) -> Sequence[OfferedModel]:
        """The one that is here."""
        manifest = self.manifest
        return (
            OfferedModel(
                name=manifest.name,
                root=self.root,
                license=manifest.license,
                precision=manifest.precision,
                places=() if self._place is None else (self._place,),
                price_in_micro=0,
                price_out_micro=0,
                millijoules_per_token=None,
                heard_at=self._since,
                market=HERE,
            ),
        )

    async def plan(self, wanted: Wanted, begun: Begun | None = None) -> EdgeAnswer:
        """An answer from here, or the rest of one that a market began.

        Raises:
            ConfigurationError: the prompt does not fit the model, or the schema cannot be used.
            RefusedError: there is no room now, or the schema takes too many steps.
        """
        if begun is not None:
            return await self._opened(
                begun.text,
                begun.prompt,
                begun.left,
                begun.drawn,
                begun.written.tool_style,
                begun.tokens,
                grammar=begun.grammar,
            )
        found = await self._planned(wanted, self.manifest.max_context)
        assert found is not None, "nothing is larger than the context"
        return found

    async def plan_small(self, wanted: Wanted) -> EdgeAnswer | None:
        """An answer from here, if the request is a small one. Raises as `plan`."""
        return await self._planned(wanted, self._small) if self._small else None

    async def _planned(self, wanted: Wanted, largest: int) -> EdgeAnswer | None:
        text, context = self._text.again(), self.manifest.max_context
        written = await write(wanted, text)
        ids = tuple(await asyncio.to_thread(written.ids, text))
        most = min(self._most if wanted.most is None else wanted.most, context - len(ids))
        if not ids or most < 1:
            raise ConfigurationError(
                f"the prompt has {len(ids)} tokens; the model takes 1 to {context - 1}, and at least one is generated",
                code="prompt",
            )
        if len(ids) + most > largest:
            return None
        grammar = grammar_wanted(wanted, written.tool_style)
        sampling = held_to_text(self._sampling(wanted), grammar)
        require_known_tokens(sampling, self.manifest)
        return await self._opened(text, ids, most, sampling, written.tool_style, grammar=grammar)

    async def _opened(
        self,
        text: Text,
        ids: tuple[int, ...],
        most: int,
        sampling: SamplingTerms,
        tool_style: ToolStyle | None,
        given: tuple[int, ...] = (),
        *,
        grammar: bytes,
    ) -> EdgeAnswer:
        before = look_back(sampling.shaping, (*ids, *given), grammar) if sampling.looks_back else None
        if before is not None and sampling.shaping is not None and sampling.shaping.grammar is not None:
            await self._passes.prepare(sampling.shaping.grammar, before)
        answer = EdgeAnswer(self._passes, self.manifest, text, ids, most, before, tool_style, given)
        await self._passes.open(answer.session, most=len(ids) + len(given) + most, sampling=sampling)
        return answer


class EdgeAnswer:
    """One answer from this machine (`node.gateway.Answer`): it costs nothing, and has no receipt.

    Args:
        most: tokens that may come here.
        before: what draws look back on of what was there before; None where they look at nothing.
        given: tokens that came from a market, and are neither counted among those nor said again.
    """

    made = HERE
    tokens_held = 0
    reserved_micro = expected_micro = 0

    def __init__(
        self,
        passes: Passes,
        manifest: ModelManifest,
        text: Text,
        ids: tuple[int, ...],
        most: int,
        before: LookBack | None,
        tool_style: ToolStyle | None,
        given: tuple[int, ...] = (),
    ) -> None:
        self.id = secrets.token_hex(16)
        self.session = secrets.token_bytes(32)
        self.model = manifest.name
        self.root = manifest.root.hex()
        self.tokens_in = len(ids)
        self.tool_style = tool_style
        self._passes = passes
        self._stops = manifest.stop_tokens
        self._text = text
        self._ids = (*ids, *given)
        self._given = len(given)
        self._most = most
        self._before = before
        self._tokens: list[int] = []
        self._stream = self._pieces()

    @property
    def tokens_out(self) -> int:
        return self._given + len(self._tokens)

    @property
    def finished(self) -> str:
        return "stop" if self._tokens and self._tokens[-1] in self._stops else "length"

    def begun(self) -> None:
        """Nobody goes on from here: what fails is this machine."""

    def forgo(self) -> None:
        """It is given or closed; nobody compares it with others."""

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._stream

    async def _pieces(self) -> AsyncGenerator[Piece]:
        position, rows = 0, self._ids
        while len(self._tokens) < self._most:
            before = None if self._before is None else self._before.with_more(self._tokens)
            token, said = await self._passes.next(self.session, position, rows, before)
            position, rows = position + len(rows), (token,)
            self._tokens.append(token)
            yield Piece(self._text.piece(token), said_in(self._text, said))
            if token in self._stops:
                return

    async def close(self) -> Costs:
        await self._stream.aclose()
        await self._passes.close(self.session)
        return Costs(tokens_in=self.tokens_in, tokens_held=0, tokens_out=self.tokens_out, micro=0, receipts=())


@asynccontextmanager
async def open_edge(config: GatewayConfig, sampling: Sampling) -> AsyncIterator[EdgeAnswers | None]:
    """The model that this machine answers from; None where the settings name none.

    Raises ModelError, ConfigurationError: it cannot be served from its directory.
    """
    directory = config.edge_model
    if directory is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        worker = ThreadWorker("edge")
        stack.callback(worker.close)
        manifest, text, engine = await worker.run(partial(_load, directory, config))
        yield EdgeAnswers(
            Passes(engine, worker),
            manifest,
            text,
            sampling=sampling,
            place=config.edge_place,
            most=config.max_tokens,
            small=config.edge_tokens,
            falls_back=config.edge_fallback == "yes",
        )


def _load(directory: Path, config: GatewayConfig) -> tuple[ModelManifest, Text, SpanEngine]:
    from node.engine.engine import Engine  # torch takes seconds to load, and most gateways need none

    hashes = HashMemory(config.data_dir / HASHES_FILE)
    manifest = held_manifest(directory, precision=config.precision or "fp32", hashes=hashes)
    files = {
        each.name: read_text_file(directory / each.name, MAX_FILE_BYTES)
        for each in manifest.files
        if each.name in CLIENT_FILES
    }
    if "tokenizer.json" not in files:
        raise ModelError(
            f"{directory} has no tokenizer.json", hint="save the model's fast tokenizer into the directory"
        )
    text = Text(
        files["tokenizer.json"],
        config=files.get("tokenizer_config.json"),
        template=files.get("chat_template.jinja"),
    )
    engine = Engine.load(directory, 0, manifest.blocks, kv_tokens=config.edge_room, dtype=manifest.precision)
    _ = engine.masks  # made here, and not when the first request waits for them
    return manifest, text, engine
