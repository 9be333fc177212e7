"""A span measured before it is offered: how long a token takes in a session alone, and how many joules."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from node.app.selling.terms import Speed
from node.config import NodeConfig
from node.energy import Energy, MeterSettings, SpanSize, choose_energy, meters_folder
from node.heap import give_back
from node.importing import UNUSED_BY_ENGINES, importing, put_off
from node.ports import StepInput
from protocol.energy.power import most_millijoules
from protocol.errors import ConfigurationError
from protocol.identity.ids import BlockSpan, ModelManifest

if TYPE_CHECKING:
    from node.engine.engine import Engine

__all__ = ["load_and_measure", "meter_of"]

DECODED = 16
"""Positions decoded in one go, one after the other."""
PREFILLED = 64
"""Positions prefilled in one go."""
_SESSION = b"measurement"


def load_and_measure(config: NodeConfig, manifest: ModelManifest, span: BlockSpan) -> tuple[Engine, Energy, Speed]:
    """The engine, its energy and its speed. Takes seconds: give it a thread of its own.

    Raises ModelError, MeterError, and ConfigurationError where nothing is known of its energy.
    """
    put_off(*UNUSED_BY_ENGINES)
    with importing():
        from node.engine.device import compute_device
        from node.engine.engine import Engine

        engine = Engine.load(
            config.model,
            span.start,
            span.end,
            kv_tokens=config.kv_tokens,
            dtype=manifest.precision,
            threads=config.threads,
            max_rows=config.chunk,
        )
    device = compute_device()
    parameters, weight_bytes = engine.span.size
    energy = choose_energy(
        meter_of(config),
        blocks=len(span),
        gpu=device.is_gpu,
        size=SpanSize(parameters=parameters, weight_bytes=weight_bytes),
        most_mw=most_millijoules(device.kind, device.count, 1_000_000),
        folder=meters_folder(),
    )
    if energy is None:
        raise ConfigurationError(
            "what a token costs in energy is not known here", hint="declare it with --joules-per-token"
        )
    prefill = _Timed(partial(_prefill, engine, span))
    decode = _Timed(partial(_decode, engine, span))
    _prefill(engine, span)  # what only the first pass costs is no token's
    energy.calibrate(prefill, decode)
    give_back()
    return engine, energy, Speed(prompt_us=prefill.position_us, position_us=decode.position_us)


def meter_of(config: NodeConfig) -> MeterSettings:
    """What the settings say of the meter."""
    return MeterSettings(
        kind=config.meter,
        url=config.meter_url,
        path=config.meter_path,
        unit=config.meter_unit,
        command=config.meter_command,
        error_ppm=config.meter_error_ppm,
        declared_mj=config.millijoules_per_token,
        milliwatts_per_core=config.milliwatts_per_core,
        device_milliwatts=config.device_milliwatts,
        device_mflop_per_s=config.device_mflop_per_s,
        device_kb_per_s=config.device_kb_per_s,
    )


class _Timed:
    """Work on some positions, and the best time that one of them took."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._best_s: float | None = None

    def __call__(self) -> int:
        began = time.perf_counter()
        positions = self._work()
        took = (time.perf_counter() - began) / positions
        self._best_s = took if self._best_s is None else min(took, self._best_s)
        return positions

    @property
    def position_us(self) -> int:
        """Microseconds, at least 1; measured now where it has not been yet."""
        while self._best_s is None:
            self()
        return max(1, round(self._best_s * 1e6))


def _prefill(engine: Engine, span: BlockSpan) -> int:
    length = min(PREFILLED, engine.kv_capacity, engine.facts.max_context)
    _run(engine, span, [length])
    return length


def _decode(engine: Engine, span: BlockSpan) -> int:
    length = min(DECODED, engine.kv_capacity, engine.facts.max_context)
    _run(engine, span, [1] * length)
    return length


def _run(engine: Engine, span: BlockSpan, lengths: list[int]) -> None:
    engine.open(_SESSION, max_tokens=sum(lengths))
    draws = 1 if span.end == engine.facts.blocks else 0
    try:
        position = 0
        for length in lengths:
            rows = np.zeros((length, engine.facts.hidden_size), dtype="<f4")
            data = (0,) * length if span.start == 0 else rows
            engine.forward([StepInput(session=_SESSION, position=position, length=length, data=data, draws=draws)])
            position += length
    finally:
        engine.close(_SESSION)
