"""A spot check: what legs signed for, executed again up to a drawn window and leg, and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.model_directory import check_model
from protocol.errors import ConfigurationError, DishonestError, ModelError
from protocol.identity.ids import BlockSpan, ModelManifest
from protocol.models.precisions import precision_of
from protocol.receipts.audit import Draw, Judgement, Observation, Verdict, draw, judge
from protocol.receipts.bundle import Bundle, Verified, verify_bundle
from protocol.session.fingerprint import SKETCH_BYTES, distance_ppm
from protocol.session.messages import session_id
from protocol.session.receipt import Window
from protocol.session.terms import Assignment

if TYPE_CHECKING:
    from node.engine.audit import Replayed

__all__ = ["AuditReport", "audit_bundle"]

BUNDLED_MODEL = Path(__file__).parents[2] / "demo" / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What a spot check found."""

    verdict: Verdict
    """What it comes to."""
    convicts: int | None
    """The leg that it convicts; null where it convicts none."""
    reason: str
    """What the verdict rests on."""
    session: bytes
    """Id of the session in which that was."""
    window: int
    """Number of the window that decides, from 0."""
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


@dataclass(frozen=True, slots=True)
class _Part:
    """What is judged of one session: its bundle, and its windows from the first on."""

    bundle: Bundle
    verified: Verified
    windows: tuple[Window, ...]
    holders: Mapping[tuple[bytes, BlockSpan], bytes]
    """Providers that kept what they held of it until the newest session, by the blocks that they served in both."""


def audit_bundle(bundle: Bundle, model: Path | None, before: Sequence[Bundle] = ()) -> AuditReport:
    """Verify a bundle, draw a window and a leg from the checkpoint that it was settled in, and judge all up to there.

    Args:
        model: the model's directory; the bundled demo model where None.
        before: where the session continues another one, the bundles of that one and of those before it.

    Raises:
        PeerError: a bundle does not hold, or begins otherwise than the one that it continues.
        ModelError: the directory holds another model, or cannot be read.
        ConfigurationError: the engine extra is not installed, no tolerance is known for the model's precision, no
            window's sketches came, or a bundle of a session before is missing.
    """
    verified, manifest = verify_bundle(bundle), bundle.manifest
    for each in (bundle, *before):
        _tokens(each)
    precision = precision_of(manifest.precision)
    tolerance = None if precision is None else precision.tolerance
    if precision is None or tolerance is None or precision.activations != verified.terms.activations:
        raise ConfigurationError(
            f"a {manifest.precision} model cannot be judged: its honest noise has not been measured",
            hint="spot checks work for models that are served in fp32, int8 or int4",
        )
    if not verified.sketches:
        raise ConfigurationError("no window of this job was signed for to its end, so there is nothing to check")
    drawn = _draw(bundle, verified)
    parts = _parts(bundle, verified, verified.windows[: drawn.window + 1], before)
    route = parts[-1].windows[-1].route
    last = route[min(drawn.leg, len(route) - 1)].span.end
    directory = BUNDLED_MODEL if model is None else model
    _require_same_model(directory, manifest, last)
    again, redrawn = [], 0
    for part in parts:
        observed, count = _execute(directory, part, last)
        again += observed
        redrawn += count
    return _report(parts, judge(again, tolerance), drawn, redrawn)


def _draw(bundle: Bundle, verified: Verified) -> Draw:
    return draw(verified.seed, session_id(bundle.session), len(verified.sketches), len(verified.terms.route))


def _parts(
    bundle: Bundle, verified: Verified, windows: tuple[Window, ...], before: Sequence[Bundle]
) -> tuple[_Part, ...]:
    """What there is to judge of this session and of those that it continues, oldest first (clause F11)."""
    known: dict[bytes, Bundle] = {session_id(each.session): each for each in before}
    holders: dict[tuple[bytes, BlockSpan], bytes] = {
        (leg.provider, held.span): leg.provider
        for leg, held in zip(verified.session.legs, verified.terms.route, strict=False)
    }
    parts = [_Part(bundle, verified, windows, holders)]
    while verified.base:
        kept = {
            (verified.session.legs[leg].provider, each.span)
            for leg, each in enumerate(verified.terms.route)
            if verified.starts[leg] == verified.base
        }
        holders = {key: provider for key, provider in holders.items() if key in kept}
        earlier = known.get(verified.continues or b"")
        if earlier is None:
            raise ConfigurationError(
                f"the first {verified.base} positions of this job were served in another session,"
                f" {(verified.continues or b'').hex()[:12]}",
                hint="give the receipt of that session too, with --before",
            )
        older = verify_bundle(earlier)
        _require_beginning(bundle, verified, earlier, older)
        taken = tuple(window for window in older.windows[: len(older.sketches)] if window.start < verified.base)
        parts.insert(0, _Part(earlier, older, taken, holders))
        bundle, verified = earlier, older
    return tuple(parts)


def _require_beginning(bundle: Bundle, verified: Verified, earlier: Bundle, older: Verified) -> None:
    """That a session begins as the one that it continues, as far as its legs held that one."""
    base = verified.base
    if older.terms.model != verified.terms.model or older.session.client != verified.session.client:
        raise DishonestError("the session that is continued is another client's, or of another model")
    covered = older.windows[len(older.sketches) - 1].end if older.sketches else 0
    if covered < base:
        raise ConfigurationError(
            f"this job goes on from position {base}, and the receipts before it show {covered} positions to their end",
            hint="without receipts for all that was held nobody can be judged",
        )
    if _tokens(earlier)[:base] != _tokens(bundle)[:base]:
        raise DishonestError("the job begins with other tokens than the session that it continues")


def _tokens(bundle: Bundle) -> tuple[int, ...]:
    if bundle.tokens is None:
        hint = "audit the receipt that its client kept: nothing can be computed again from hashes"
        raise ConfigurationError("the tokens of this receipt are withheld", code="withheld", hint=hint)
    return bundle.tokens


def _execute(directory: Path, part: _Part, last: int) -> tuple[list[list[Observation]], int]:
    """What is observed of each leg up to block `last`, and how many tokens were drawn again."""
    from node.engine.audit import Window as Span
    from node.engine.audit import replay

    windows, verified, terms = part.windows, part.verified, part.verified.terms
    ends = sorted({seat.span.end for window in windows for seat in window.route if seat.span.end <= last})
    if not ends:
        return [[] for _ in windows], 0
    replayed = replay(
        directory,
        ends,
        _tokens(part.bundle),
        [Span(window.start, window.end, seed) for window, seed in zip(windows, verified.seeds, strict=False)],
        sampling=terms.sampling,
        prompt=terms.plan.prompt,
        said=part.bundle.said,
        dtype=part.bundle.manifest.precision,
    )
    observed, redrawn = [], 0
    for number, (window, parts) in enumerate(zip(windows, replayed, strict=True)):
        by_end = dict(zip(ends, parts, strict=True))
        shown = verified.sketches[number]
        row = []
        for seat in window.route:
            if seat.span.end <= last:
                again = by_end[seat.span.end]
                margins = _margins(again, terms.plan.prompt)
                redrawn += len(margins)
                distance = _distance(shown.get(seat.leg), again)
                row.append(Observation(seat, distance, max(margins, default=0), _holder(part, seat)))
        observed.append(row)
    return observed, redrawn


def _holder(part: _Part, seat: Assignment) -> bytes:
    """The provider, where it kept what it held until the newest session; else a name that is no other's."""
    provider = part.verified.session.legs[seat.leg].provider
    return part.holders.get((provider, seat.span)) or session_id(part.verified.session) + provider


def _distance(shown: bytes | None, part: Replayed) -> int | None:
    return None if shown is None else distance_ppm(shown[SKETCH_BYTES:], part.sketch)


def _margins(part: Replayed, prompt: int) -> list[int]:
    """In millionths of a logit, of the tokens that the leg drew (not of the prompt's), and of what it said of them."""
    drawn = [each for each in part.drawn if each.position >= prompt]
    return [max(math.ceil(each.margin * 1_000_000), each.off) for each in drawn if each.margin is not None]


def _report(parts: Sequence[_Part], judgement: Judgement, drawn: Draw, redrawn: int) -> AuditReport:
    number, part = judgement.window, parts[0]
    for part in parts:
        if number < len(part.windows):
            break
        number -= len(part.windows)
    window, session = part.windows[number], part.verified.session
    seat = next(seat for seat in window.route if seat.leg == judgement.leg)
    convicted = judgement.leg if judgement.verdict is Verdict.MISMATCH else None
    return AuditReport(
        verdict=judgement.verdict,
        convicts=convicted,
        reason=judgement.reason,
        session=session_id(session),
        window=number,
        windows=len(parts[-1].verified.sketches),
        windows_judged=drawn.window + 1,
        legs_judged=drawn.leg + 1,
        leg=judgement.leg,
        provider=session.legs[judgement.leg].provider,
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
