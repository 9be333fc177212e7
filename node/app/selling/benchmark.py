"""What a machine makes of a model: tokens, joules and worth by precision and batch (`joule bench`)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from node.app.models.held_out import encoder_of, held_out
from node.app.selling.benched import BenchedModel, BenchedNode, Pace, PrecisionBench, SpanBench
from node.app.selling.measure import meter_of
from node.app.selling.provider_settings import pricing_of
from node.config import NodeConfig
from node.energy import DeclaredEnergy, Energy, MeteredEnergy, SpanSize, choose_energy
from node.energy.modelled import RooflineMeter
from node.engine.worth import Encode, Question, worth_of
from node.importing import importing
from node.model_directory import ModelFacts, model_facts, quantize_model
from node.ports import Activations, StepInput, StepOutput
from protocol.energy.power import most_millijoules
from protocol.errors import ConfigurationError, ModelError
from protocol.identity.ids import BlockSpan
from protocol.market.pricing import Costs, Supply
from protocol.units import MICRO, ceil_div

if TYPE_CHECKING:
    from node.engine.engine import Engine

__all__ = ["bench_model", "bench_node"]

QUANTIZED = {"int8": 8, "int4": 4}
PROMPT = 128
"""Positions of the prompt whose speed is measured."""
_UJ_PER_KWH = 3_600_000_000_000


def bench_model(
    config: NodeConfig,
    directory: Path,
    *,
    precisions: Sequence[str],
    batches: Sequence[int],
    context: int,
    least_s: float,
) -> BenchedModel:
    """Load the model in each precision, one after the other, and measure it.

    Args:
        precisions: empty for all that there are; int8 and int4 are made of a model in floating point.
        least_s: for which each kind of work is repeated.

    Raises ModelError, MeterError, and ConfigurationError for what cannot be measured.
    """
    facts = model_facts(directory)
    made = _makeable(facts)
    chosen = list(precisions) or list(made)
    for each in chosen:
        if each not in made:
            raise ModelError(f"the model cannot be had in {each}", hint=f"choose among {', '.join(made)}")
    encode, (questions, text) = encoder_of(directory), held_out()
    found: list[PrecisionBench] = []
    exact: Activations | None = None
    bench = None
    with ExitStack() as stack:
        for name in sorted(chosen, key=lambda each: each != "fp32"):
            home = directory
            if name not in facts.precisions:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory())) / name
                quantize_model(directory, home, QUANTIZED[name])
            bench = _Bench(config, home, name, BlockSpan(start=0, end=facts.blocks), batches, context, least_s)
            one, probabilities = bench.whole(encode, questions, text, exact)
            exact = probabilities if name == "fp32" else exact
            found.append(one)
    assert bench is not None
    found.sort(key=lambda each: chosen.index(each.precision))
    return BenchedModel(
        name=facts.name, device=bench.device, meter=bench.meter, context=bench.context, precisions=tuple(found)
    )


def bench_node(
    config: NodeConfig, supply: Supply, *, batches: Sequence[int], context: int, least_s: float
) -> BenchedNode:
    """Measure what this machine could sell of the model that the settings name.

    Raises ModelError, MeterError, and ConfigurationError for what cannot be measured or priced.
    """
    facts = model_facts(config.model)
    products: list[SpanBench] = []
    bench = None
    for precision in facts.precisions:
        for span in _spans(config, facts):
            bench = _Bench(config, config.model, precision, span, batches, context, least_s)
            products.extend(bench.products(config, supply))
    assert bench is not None
    return BenchedNode(
        name=facts.name,
        device=bench.device,
        meter=bench.meter,
        micro_per_kwh=supply.micro_per_kwh,
        context=bench.context,
        products=tuple(sorted(products, key=lambda each: -(each.takings if each.profit is None else each.profit))),
    )


def _makeable(facts: ModelFacts) -> tuple[str, ...]:
    own = facts.precisions
    return (*own, *QUANTIZED) if facts.quantization is None and facts.model_type != "gpt_oss" else own


def _spans(config: NodeConfig, facts: ModelFacts) -> Iterator[BlockSpan]:
    """Those that the settings name; all blocks and each half of them, where they name none."""
    if config.blocks is not None and not isinstance(config.blocks, str):
        start, end = config.blocks
        if end > facts.blocks:
            raise ConfigurationError(f"blocks {start}:{end} of a model of {facts.blocks}", hint="choose within")
        yield BlockSpan(start=start, end=end)
        return
    yield BlockSpan(start=0, end=facts.blocks)
    if facts.blocks > 1:
        yield BlockSpan(start=0, end=facts.blocks // 2)
        yield BlockSpan(start=facts.blocks // 2, end=facts.blocks)


class _Bench:
    """One engine, and the meter of what it uses."""

    def __init__(
        self,
        config: NodeConfig,
        directory: Path,
        precision: str,
        span: BlockSpan,
        batches: Sequence[int],
        context: int,
        least_s: float,
    ) -> None:
        with importing():
            from node.engine.device import compute_device
            from node.engine.engine import Engine

        facts = model_facts(directory)
        self.context = min(context, facts.max_context - 1)
        self._room = -(-(self.context + 1) // 16) * 16
        self._batches, self._least_s, self._span, self._precision = batches, least_s, span, precision
        kv_tokens = max(max(batches) * self._room, 1024)
        began = time.perf_counter()
        self._engine: Engine = Engine.load(
            directory, span.start, span.end, kv_tokens=kv_tokens, dtype=precision, threads=config.threads
        )
        self._load_ms = round(1000 * (time.perf_counter() - began))
        device = compute_device()
        self.device = str(device)
        parameters, weight_bytes = self._engine.span.size
        energy = choose_energy(
            meter_of(config),
            blocks=len(span),
            gpu=device.is_gpu,
            size=SpanSize(parameters=parameters, weight_bytes=weight_bytes),
            most_mw=most_millijoules(device.kind, device.count, 1_000_000),
        )
        if energy is None:
            raise ConfigurationError("nothing here says what a token costs", hint="give --joules-per-token, or a meter")
        self._energy: Energy = energy
        self.meter = f"declared, {energy.figures().meter}" if isinstance(energy, DeclaredEnergy) else _named(energy)

    def whole(
        self, encode: Encode, questions: Sequence[Question], text: str, exact: Activations | None
    ) -> tuple[PrecisionBench, Activations]:
        """A whole model: worth, prompt and answers."""
        worth, probabilities = worth_of(self._engine, encode, questions, text, exact)
        speed, joules = self._prompt()
        return PrecisionBench(
            precision=self._precision,
            weight_bytes=self._engine.span.size[1],
            kv_bytes=self._engine.span.position_bytes,
            load_ms=self._load_ms,
            milli_prompt_tokens_per_s=speed,
            prompt_microjoules=joules,
            worth=worth,
            paces=tuple(self._pace(batch) for batch in self._batches),
        ), probabilities

    def products(self, config: NodeConfig, supply: Supply) -> Iterator[SpanBench]:
        """What could be sold of these blocks."""
        prompt_speed, prompt_uj = self._prompt()
        alone = self._pace(1)
        if alone.microjoules is None:
            raise ConfigurationError("the meter did not move", hint="measure longer, with --seconds")
        costs = Costs(
            millijoules_in=ceil_div(prompt_uj or alone.microjoules, 1000),
            millijoules_out=ceil_div(alone.microjoules, 1000),
            prompt_us=_us(prompt_speed),
            position_us=_us(alone.milli_tokens_per_s),
        )
        pricing = pricing_of(config)
        ask = pricing.rates(supply, costs, utilisation_ppm=MICRO).price_out
        per_kwh = pricing.per_kwh(supply) * supply.pue_milli // 1000
        for batch in self._batches:
            pace = alone if batch == 1 else self._pace(batch)
            tokens = 3600 * pace.milli_tokens_per_s // 1000
            cost = None if pace.microjoules is None else ceil_div(tokens * pace.microjoules * per_kwh, _UJ_PER_KWH)
            yield SpanBench(
                precision=self._precision,
                blocks=str(self._span),
                pace=pace,
                sessions=config.kv_tokens // self._room,
                offered_microjoules=alone.microjoules,
                ask=ask,
                takings=tokens * ask // MICRO,
                power_cost=cost,
            )

    # Work

    def _prompt(self) -> tuple[int, int | None]:
        length = min(PROMPT, self._engine.facts.max_context, self._engine.kv_capacity)
        return self._measured(partial(self._fill, [b"prompt"], length, close=True))

    def _pace(self, batch: int) -> Pace:
        sessions = [f"bench {number}".encode() for number in range(batch)]
        self._fill(sessions, self.context, close=False)
        try:
            speed, joules = self._measured(partial(self._step, sessions))
        finally:
            for each in sessions:
                self._engine.close(each)
        return Pace(
            batch=batch,
            milli_tokens_per_s=speed,
            microjoules=joules,
            tokens_per_kwh=None if joules is None else _UJ_PER_KWH // joules,
        )

    def _fill(self, sessions: Sequence[bytes], length: int, *, close: bool) -> int:
        for session in sessions:
            self._engine.open(session, max_tokens=length + (0 if close else 1))
            for at in range(0, length, self._engine.max_rows):
                self._run([session], at, min(self._engine.max_rows, length - at), draws=0)
            if close:
                self._engine.close(session)
        return length * len(sessions)

    def _step(self, sessions: Sequence[bytes]) -> int:
        """A token for each: at the same position again and again, so that every step costs the same."""
        draws = 1 if self._span.end == self._engine.facts.blocks else 0
        for at in range(0, len(sessions), self._engine.max_rows):
            self._run(sessions[at : at + self._engine.max_rows], self.context, 1, draws=draws)
        return len(sessions)

    def _run(self, sessions: Sequence[bytes], position: int, length: int, *, draws: int) -> None:
        rows = np.ones((length, self._engine.facts.hidden_size), dtype="<f4")
        data = (1,) * length if self._span.start == 0 else rows
        items = [StepInput(session=s, position=position, length=length, data=data, draws=draws) for s in sessions]
        for output in self._engine.forward(items):
            if not isinstance(output, StepOutput):
                raise output

    def _measured(self, work: Callable[[], int]) -> tuple[int, int | None]:
        """Thousandths of a position a second, and microjoules of one; None where the meter stands still."""
        work()  # what only the first pass costs is no token's
        energy = self._energy
        meter = energy.meter if isinstance(energy, MeteredEnergy) else None
        least_s = max(self._least_s, 0 if meter is None else meter.settle_s)
        first, began = None if meter is None else meter.read(), time.perf_counter()
        positions = 0
        while (passed := time.perf_counter() - began) < least_s or not positions:
            done = work()
            positions += done
            if isinstance(meter, RooflineMeter):
                meter.passed(done)
        speed = max(1, round(1000 * positions / max(passed, 1e-9)))
        if meter is None or first is None:
            declared = energy.offered()
            return speed, None if declared is None else 1000 * declared.millijoules_out
        last = meter.read()
        spent = last.microjoules - first.microjoules
        return speed, max(1, ceil_div(spent, positions)) if last.epoch == first.epoch and spent > 0 else None


def _named(energy: Energy) -> str:
    assert isinstance(energy, MeteredEnergy)
    return f"{energy.meter.source}: {energy.meter.name}"


def _us(milli_per_s: int) -> int:
    """Microseconds of one position."""
    return max(1, 1_000_000_000 // milli_per_s)
