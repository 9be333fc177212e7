"""What cheats, and forgers who want an honest neighbour convicted, get from a spot check: the clauses of audit.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spot_checks import (
    ENDS,
    MODEL,
    WINDOW,
    Served,
    audit,
    observe,
    random_seeds,
    serve,
    tolerance,
)

from node.engine.loader import load_span
from node.engine.span import Span
from node.ports import Activations
from protocol.receipts.audit import Verdict, judge
from protocol.session.fingerprint import NUMBERS, distance_ppm, sketch
from scripts.measure_gain import Differentiable, entering, scaled, unscaled, worst_change

TOLERANCE = tolerance().distance_ppm


@pytest.fixture(scope="module")
def honest() -> Served:
    return serve()


def noise_like(rows: Activations, seed: int) -> Activations:
    """Noise of the same norm, row for row."""
    noise = np.random.default_rng(seed).standard_normal(rows.shape)
    noise *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return noise.astype(np.float32)


def quantize_to_int8(span: Span) -> None:
    for layer in span.layers:
        for matrix in layer.matrices:
            scale = matrix.weight.abs().amax(1, keepdim=True) / 127
            matrix.weight = (matrix.weight / scale).round() * scale


def signs(seed: bytes, count: int, width: int) -> np.ndarray:
    """``[numbers, count, width]``: how each entry counts, found as anyone would who knew the seed."""
    found = np.empty((NUMBERS, count, width))
    for row in range(count):
        for dimension in range(width):
            alone = np.zeros((count, width), dtype=np.float32)
            alone[row, dimension] = 1.0
            found[:, row, dimension] = np.sign(np.frombuffer(sketch(alone, seed), dtype="<f4"))
    return found


def test_honest_legs_match_under_every_seed(honest: Served) -> None:
    for start in range(5):
        judgement = audit(honest, random_seeds(len(honest.windows), start))
        assert judgement.verdict is Verdict.MATCH
        assert judgement.distance_ppm <= 2


@pytest.mark.parametrize("leg", [0, 1, 2])
def test_int8_weights_convict_the_leg_that_uses_them_and_no_other(leg: int) -> None:
    judgement = audit(serve(changes={leg: quantize_to_int8}), random_seeds(6))
    assert (judgement.verdict, judgement.leg, judgement.window) == (Verdict.MISMATCH, leg, 0)
    assert judgement.distance_ppm > 2000


@pytest.mark.parametrize("leg", [1, 2])
def test_int8_weights_convict_although_the_leg_before_hides_a_change_below_the_tolerance(leg: int) -> None:
    """Two legs together: the one stays just unseen, so that what the other does may be called inherited."""

    def shift(_: int, rows: Activations) -> Activations:
        return (rows * (1 + 12e-6 * noise_like(np.ones_like(rows), 3))).astype(np.float32)

    served = serve(changes={leg: quantize_to_int8}, tampers={leg - 1: shift})
    judgement = audit(served, random_seeds(6))
    assert 5 < judgement.inherited_ppm <= TOLERANCE
    assert (judgement.verdict, judgement.leg) == (Verdict.MISMATCH, leg)


def test_noise_in_one_early_window_only_convicts_its_maker_not_the_leg_that_remembers_it(honest: Served) -> None:
    """Leg 1 keeps the noise in its keys and values: its later windows are off, while leg 0 is honest again."""
    start, end = honest.windows[0][1], honest.windows[1][1]

    def early_noise(position: int, rows: Activations) -> Activations:
        return noise_like(rows, position) if start <= position < end else rows

    seeds = random_seeds(6)
    observed = observe(serve(tampers={0: early_noise}), seeds)
    assert observed[3][0].distance_ppm <= TOLERANCE
    assert observed[3][1].distance_ppm > 5000  # a check of this window alone would have convicted it
    judgement = judge(observed, tolerance())
    assert (judgement.verdict, judgement.leg, judgement.window) == (Verdict.MISMATCH, 0, 1)


def test_rows_forged_in_the_null_space_of_a_seed_that_was_guessed_convict_the_forger(honest: Served) -> None:
    """What matched while the matrix was public: each row keeps what the sketch sees, the rest is noise of its norm."""
    start, end = honest.windows[0]
    guess = random_seeds(1, 99)[0]
    seen = signs(guess, end, 192)

    def forge(position: int, rows: Activations) -> Activations:
        if position != start:
            return rows
        forged = np.empty_like(rows)
        for row, entries in enumerate(rows.astype(np.float64)):
            basis = np.linalg.svd(seen[:, row])[2][:NUMBERS]
            visible = basis.T @ (basis @ entries)
            unseen = np.random.default_rng(row).standard_normal(192)
            unseen -= basis.T @ (basis @ unseen)
            forged[row] = visible + unseen * np.linalg.norm(entries - visible) / np.linalg.norm(unseen)
        return forged

    forged = serve(tampers={0: forge}, answer=WINDOW)
    real, guessed = (observe(forged, [seed])[0] for seed in (random_seeds(1)[0], guess))
    assert guessed[0].distance_ppm <= TOLERANCE  # so much for a public matrix: leg 0 is clean,
    assert guessed[1].distance_ppm > 100_000  # and its honest neighbour is not
    assert real[0].distance_ppm > 100_000
    judgement = judge([real], tolerance())
    assert (judgement.verdict, judgement.leg) == (Verdict.MISMATCH, 0)


def cancelling(rows: Activations, first: int, second: int) -> Activations:
    """Two rows exchange a change: what one has more the other has less."""
    change = noise_like(rows[first : first + 1], 5)[0]
    changed = rows.copy()
    changed[first] += change
    changed[second] -= change
    return changed


def one_dimension(rows: Activations, first: int, second: int) -> Activations:
    """Two rows change alike in one dimension, by half of their norm."""
    changed = rows.copy()
    for row in (first, second):
        changed[row, 7] += 0.5 * np.linalg.norm(rows[row])
    return changed


@pytest.mark.parametrize("attack", [cancelling, one_dimension])
@pytest.mark.parametrize("apart", [1, 64])
def test_changes_made_to_cancel_are_seen_under_every_seed(attack: object, apart: int) -> None:
    rows = np.random.default_rng(8).standard_normal((80, 192)).astype(np.float32)
    changed = attack(rows, 3, 3 + apart)
    found = [distance_ppm(sketch(rows, seed), sketch(changed, seed)) for seed in random_seeds(300)]
    assert min(found) > 20_000


def test_rows_64_apart_that_cancel_convict_their_maker() -> None:
    words = " and a red kite" * 24
    served = serve(
        prompt=f"Write a story about Mia{words} in the park.",
        answer=WINDOW,
        tampers={0: lambda position, rows: rows if position else cancelling(rows, 3, 67)},
    )
    assert served.windows[0][1] > 68
    judgement = audit(served, random_seeds(2))
    assert (judgement.verdict, judgement.leg, judgement.window) == (Verdict.MISMATCH, 0, 0)


def test_a_change_below_the_tolerance_that_honest_blocks_enlarge_most_convicts_nobody(honest: Served) -> None:
    """Leg 0 sends what differs in the direction that leg 1 amplifies most: leg 1 is seen to be off, leg 0 is not."""
    start, end = honest.windows[0]
    whole = load_span(MODEL, 0, ENDS[-1], backend=Differentiable())
    entered = entering(whole, honest.tokens[:end], ENDS[0])
    gain, worst = worst_change(whole, entered, ENDS[0], ENDS[1])

    def push(position: int, rows: Activations) -> Activations:
        if position != start:
            return rows
        change = 0.8e-6 * TOLERANCE * worst
        return unscaled(scaled(torch.from_numpy(rows)) + change).numpy()

    observed = observe(serve(tampers={0: push}, answer=WINDOW), random_seeds(1))
    assert 2 < observed[0][0].distance_ppm <= TOLERANCE
    assert observed[0][1].distance_ppm > TOLERANCE  # without the gain this would be a conviction
    assert gain < tolerance().gain / 2
    judgement = judge(observed, tolerance())
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.distance_ppm < judgement.limit_ppm / 2


def test_a_last_leg_that_sends_another_token_than_it_drew_is_convicted(honest: Served) -> None:
    """All compute on with the token that came, so that every row is that of the text."""
    at = honest.prompt + 20
    served = serve(speaks=lambda position, token: (token + 1) % 500 if position == at else token)
    assert served.tokens[at] != honest.tokens[at]
    judgement = audit(served, random_seeds(6))
    assert (judgement.verdict, judgement.leg, judgement.window) == (Verdict.MISMATCH, 2, 2)
    assert judgement.distance_ppm <= TOLERANCE
    assert judgement.margin > judgement.margin_limit


def test_tokens_drawn_from_a_forgers_rows_do_not_convict_the_last_leg() -> None:
    served = serve(tampers={0: lambda position, rows: noise_like(rows, position)}, answer=2 * WINDOW)
    observed = observe(served, random_seeds(3))
    assert max(row[2].margin for row in observed) > 1_000_000
    judgement = judge(observed, tolerance())
    assert (judgement.verdict, judgement.leg) == (Verdict.MISMATCH, 0)


@pytest.mark.parametrize("times", [3, 10])
def test_a_change_of_some_tolerances_does_not_escape(honest: Served, times: int) -> None:
    """Over 10^5 seeds: scripts/measure_fingerprints.py."""
    rows = honest.sent[1][:WINDOW]
    exact = scaled(torch.from_numpy(rows))
    change = torch.from_numpy(noise_like(exact.numpy(), 6)) * (times * TOLERANCE * 1e-6)
    changed = unscaled(exact + change).numpy()
    found = [distance_ppm(sketch(rows, seed), sketch(changed, seed)) for seed in random_seeds(1000)]
    assert min(found) > TOLERANCE
