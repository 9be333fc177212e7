"""Nodes that run our own code on something else than they say: other weights, other joules, other blocks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from node.app.daemons import provider
from node.app.process.reload import Reload
from node.config import NodeConfig
from node.events import Event, JobBegun
from node.keystore import generate
from node.model_directory import model_manifest
from protocol.geography.jurisdictions import UNDECLARED
from protocol.identity.ids import BlockSpan, ModelManifest
from siege.attack import Target

__all__ = ["noisy_copy", "run_liar"]

NOISE = 0.05
TERAJOULE_MJ = 10**15


def noisy_copy(model: Path, folder: Path) -> Path:
    """The same model but for its weights."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder, dirs_exist_ok=True)
    weights = load_file(model / "model.safetensors")
    noise = torch.Generator().manual_seed(7)
    for name, each in weights.items():
        weights[name] = each + NOISE * torch.randn(each.shape, generator=noise).to(each.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class _Terajoules:
    """An energy account of another planet."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def spent(self, session: bytes) -> int:
        return TERAJOULE_MJ


async def run_liar(
    target: Target,
    number: int,
    ordered: Callable[[], None],
    *,
    weights: Path | None = None,
    terajoules: bool = False,
    span: tuple[int, int] | None = None,
) -> None:
    """A cheap node that serves until it is cancelled.

    Args:
        ordered: called for each job that it begins.
        weights: the directory whose weights it computes with; the real model's where it is None.
        span: the blocks that it offers, whatever it holds.
    """
    model = Path(target.model)
    manifest: ModelManifest = await asyncio.to_thread(model_manifest, model)
    offered = BlockSpan(start=0, end=manifest.blocks)
    held = offered if span is None else BlockSpan(start=span[0], end=span[1])
    measured = provider.load_and_measure

    def load(config: NodeConfig, _manifest: ModelManifest, _span: BlockSpan) -> Any:
        engine, energy, speed = measured(config, manifest, held)
        return engine, _Terajoules(energy) if terajoules else energy, speed

    provider.held_model = lambda _config, _chosen: (manifest, offered)
    provider.load_and_measure = load
    config = NodeConfig(
        ledger=target.ledger,
        model=weights or model,
        data_dir=Path(target.home) / f"liar{number}",
        jurisdiction=UNDECLARED,
        overhead_price_micro=0,
        capital_price_micro=0,
        margin_percent=0,
        energy_price_micro_per_kwh=1,
        listen="/ip4/127.0.0.1/tcp/0",
    )

    def hear(event: Event) -> None:
        if isinstance(event, JobBegun):
            ordered()

    await provider.run_node(config, generate(), hear, Reload(config, partial(_again, config), hear))


def _again(config: NodeConfig) -> NodeConfig:
    return config
