"""A spot check: what legs signed for, executed again up to a drawn window and leg, and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.model_directory import check_model
from protocol.activations import FORMATS
from protocol.audit import Draw, Judgement, Observation, Verdict, draw, judge
from protocol.bundle import Bundle, Verified, verify_bundle
from protocol.checkpoint import open_checkpoint
from protocol.codec import decode
from protocol.errors import ConfigurationError, ModelError
from protocol.evidence import LogProof
from protocol.fingerprint import SKETCH_BYTES, distance_ppm
from protocol.ids import BlockSpan, ModelManifest
from protocol.messages import session_id
from protocol.note import VerifierKey
from protocol.receipt import Window

if TYPE_CHECKING:
    from node.engine.audit import Replayed

__all__ = ["AuditReport", "audit_bundle"]

BUNDLED_MODEL = Path(__file__).parents[1] / "demo" / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What a spot check found."""

    verdict: Verdict
    """What it comes to."""
    convicts: int | None
    """The leg that it convicts; null where it convicts none."""
    reason: str
    """What the verdict rests on."""
    window: int
    """Index of the window that decides."""
    windows: int
    """How many could be judged."""
    windows_judged: int
    """From the first on, how many were executed again."""
    legs_judged: int
    """From the first on, how many were executed again in each."""
    leg: int
    """Whose part of that window decides."""
    provider: bytes
    """Its address."""
    blocks: str
    """``START:END``, the end not included."""
    positions: str
    """First position of that window, and one past its last, as ``a:b``."""
    distance_ppm: int
    """Between the signed sketch and the one made again, in millionths."""
    inherited_ppm: int
    """The greatest distance of what had entered the leg until then."""
    limit_ppm: int
    """How far an honest leg can be off with such an input."""
    tokens_redrawn: int
    """Tokens that were drawn again."""


def audit_bundle(bundle: Bundle, model: Path | None) -> AuditReport:
    """Verify a bundle, draw a window and a leg from the checkpoint that it was settled in, and judge all up to there.

    Args:
        model: the model's directory; the bundled demo model where None.

    Raises:
        PeerError: the bundle does not hold.
        ModelError: the directory holds another model, or cannot be read.
        ConfigurationError: the engine extra is not installed, no tolerance is known for the model's precision, or no
            window's sketches came.
    """
    verified, manifest = verify_bundle(bundle), bundle.manifest
    tolerance = FORMATS[verified.terms.activations].tolerance
    if tolerance is None or manifest.precision != verified.terms.activations:
        raise ConfigurationError(
            f"a {manifest.precision} model cannot be judged: its honest noise has not been measured",
            hint="spot checks work for models that are served in fp32",
        )
    if not verified.sketches:
        raise ConfigurationError("no window of this job was signed for to its end, so there is nothing to check")
    drawn = _draw(bundle, verified)
    windows = verified.windows[: drawn.window + 1]
    last = windows[-1].route[min(drawn.leg, len(windows[-1].route) - 1)].span.end
    directory = BUNDLED_MODEL if model is None else model
    _require_same_model(directory, manifest, last)
    again, redrawn = _execute(directory, bundle, verified, windows, last)
    judgement = judge(again, tolerance)
    return _report(verified, judgement, drawn, redrawn)


def _draw(bundle: Bundle, verified: Verified) -> Draw:
    note = decode(bundle.settled, LogProof).checkpoint
    seed = open_checkpoint(note, VerifierKey.parse(bundle.verifier_key)).root
    return draw(seed, session_id(bundle.session), len(verified.sketches), len(verified.terms.route))


def _execute(
    directory: Path, bundle: Bundle, verified: Verified, windows: tuple[Window, ...], last: int
) -> tuple[list[list[Observation]], int]:
    """What is observed of each leg up to block `last`, and how many tokens were drawn again."""
    from node.engine.audit import Window as Span
    from node.engine.audit import replay
    from node.engine.sampling import Sampling

    terms = verified.terms
    ends = sorted({seat.span.end for window in windows for seat in window.route if seat.span.end <= last})
    replayed = replay(
        directory,
        ends,
        bundle.tokens,
        [Span(window.start, window.end, verified.seeds[window.index]) for window in windows],
        sampling=Sampling(terms.sampling.temperature_milli, terms.sampling.seed),
        dtype=bundle.manifest.precision,
    )
    observed, redrawn = [], 0
    for window, parts in zip(windows, replayed, strict=True):
        by_end = dict(zip(ends, parts, strict=True))
        shown = verified.sketches[window.index]
        row = []
        for seat in window.route:
            if seat.span.end <= last:
                part = by_end[seat.span.end]
                margins = _margins(part, terms.plan.prompt)
                redrawn += len(margins)
                row.append(Observation(seat, _distance(shown.get(seat.leg), part), max(margins, default=0)))
        observed.append(row)
    return observed, redrawn


def _distance(shown: bytes | None, part: Replayed) -> int | None:
    return None if shown is None else distance_ppm(shown[SKETCH_BYTES:], part.sketch)


def _margins(part: Replayed, prompt: int) -> list[int]:
    """In millionths of a logit, of the tokens that the leg drew: those of the prompt nobody drew."""
    drawn = (each.margin for each in part.drawn if each.position >= prompt)
    return [math.ceil(margin * 1_000_000) for margin in drawn if margin is not None]


def _report(verified: Verified, judgement: Judgement, drawn: Draw, redrawn: int) -> AuditReport:
    window = verified.windows[judgement.window]
    seat = next(seat for seat in window.route if seat.leg == judgement.leg)
    convicted = judgement.leg if judgement.verdict is Verdict.MISMATCH else None
    return AuditReport(
        verdict=judgement.verdict,
        convicts=convicted,
        reason=judgement.reason,
        window=judgement.window,
        windows=len(verified.sketches),
        windows_judged=drawn.window + 1,
        legs_judged=drawn.leg + 1,
        leg=judgement.leg,
        provider=verified.session.legs[judgement.leg].provider,
        blocks=str(seat.span),
        positions=f"{window.start}:{window.end}",
        distance_ppm=judgement.distance_ppm,
        inherited_ppm=judgement.inherited_ppm,
        limit_ppm=judgement.limit_ppm,
        tokens_redrawn=redrawn,
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
