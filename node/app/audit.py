"""A spot check: one drawn window of one leg, executed again and compared with what the provider signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.model_directory import AUDITED, check_model
from protocol.audit import Verdict, draw
from protocol.bundle import Bundle, verify_bundle, window_bounds
from protocol.checkpoint import open_checkpoint
from protocol.errors import ConfigurationError, ModelError
from protocol.fingerprint import FP32_TOLERANCE_PPM, distance_ppm
from protocol.ids import BlockSpan, ModelManifest, checksum_address
from protocol.messages import session_id
from protocol.note import VerifierKey

__all__ = ["AuditReport", "audit_bundle"]

BUNDLED_MODEL = Path(__file__).parents[1] / "demo" / "model"
MARGIN_TOLERANCE = 1e-3
"""How far below the best score a drawn token's may lie in fp32; honest runs differ by rounding only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What a spot check found."""

    verdict: Verdict
    """What it comes to."""
    window: int
    """Index of the window that was drawn."""
    windows: int
    """How many there were."""
    leg: int
    """That was drawn."""
    provider: str
    """Its address."""
    blocks: str
    """``START:END``, the end not included."""
    positions: str
    """First and last position of the window, as ``a:b``."""
    distance_ppm: int
    """Between the signed sketch and the one made again, in millionths."""
    tolerance_ppm: int
    """How far apart honest ones may be."""
    tokens_redrawn: int | None
    """Tokens that were drawn again; None where the leg draws none."""
    tokens_differing: int | None
    """Those whose score lies further below the best one than rounding explains."""


def audit_bundle(bundle: Bundle, model: Path | None) -> AuditReport:
    """Verify a bundle, draw from the checkpoint that it was settled in, and execute the drawn window again.

    Args:
        model: the model's directory; the bundled demo model where None.

    Raises:
        PeerError: the bundle does not hold.
        ModelError: the directory holds another model, or cannot be read.
        ConfigurationError: the engine extra is not installed, or no tolerance is known for the model's precision.
    """
    from node.engine.audit import replay
    from node.engine.sampling import Sampling

    directory = BUNDLED_MODEL if model is None else model
    order = verify_bundle(bundle).order
    manifest = bundle.manifest
    if manifest.precision not in AUDITED:
        raise ConfigurationError(
            f"a {manifest.precision} model cannot be judged: its honest noise has not been measured",
            hint="spot checks work for models that are served in fp32",
        )
    seed = open_checkpoint(bundle.settled.checkpoint, VerifierKey.parse(bundle.verifier_key)).root
    legs = len(order.session.legs)
    drawn = draw(seed, session_id(order.session), len(bundle.windows), legs)
    signed, sketch = bundle.windows[drawn.window][drawn.leg]
    last = signed.receipt
    end = last.tokens_in if not last.tokens_out else order.plan.prompt - 1 + last.tokens_out
    start, end = window_bounds(order, end)[drawn.window]
    hop = order.hops[drawn.leg]
    _require_same_model(directory, manifest, hop.span.end)
    is_last = drawn.leg == legs - 1
    again = replay(
        directory,
        hop.span.end,
        bundle.tokens,
        (start, end),
        sampling=Sampling(order.sampling.temperature_milli, order.sampling.seed) if is_last else None,
        dtype=manifest.precision,
    )
    yielded = [token for token in again.drawn if token.position >= order.plan.prompt]
    differing = [token for token in yielded if token.margin is not None and token.margin > MARGIN_TOLERANCE]
    distance = distance_ppm(sketch, again.sketch)
    matches = distance <= FP32_TOLERANCE_PPM and not differing
    return AuditReport(
        verdict=Verdict.MATCH if matches else Verdict.MISMATCH,
        window=drawn.window,
        windows=len(bundle.windows),
        leg=drawn.leg,
        provider=checksum_address(order.session.legs[drawn.leg].provider),
        blocks=str(hop.span),
        positions=f"{start}:{end}",
        distance_ppm=distance,
        tolerance_ppm=FP32_TOLERANCE_PPM,
        tokens_redrawn=len(yielded) if is_last else None,
        tokens_differing=len(differing) if is_last else None,
    )


def _require_same_model(directory: Path, manifest: ModelManifest, end: int) -> None:
    """Hold the blocks up to `end`, which the check executes, against the receipt's manifest. Raises ModelError."""
    try:
        check_model(directory, manifest, BlockSpan(start=0, end=end))
    except ModelError as error:
        raise ModelError(
            f"{directory} does not hold the model of the receipt ({manifest.name}): {error.message}",
            hint="give the directory of the very same model with --model",
        ) from None
