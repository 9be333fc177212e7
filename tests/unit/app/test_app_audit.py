"""What an audit needs to see of the sessions that a job goes on from, before it executes anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from agreed_job import agree
from played_job import Play

from node.app.buying.audit import audit_bundle
from protocol.errors import ConfigurationError, DishonestError, ModelError
from protocol.receipts.bundle import Bundle

NOWHERE = Path("/nonexistent")
ALL = {0: 13, 1: 13, 2: 13}


def first(**changes: int) -> Play:
    return Play(agree(prompt=10, most=11, **changes)).run(generated=4)


def second(before: Play, tokens: list[int] | None = None, *, positions: int = 13) -> Bundle:
    """A job that goes on from the 13 positions of another one."""
    agreed = agree(prompt=20, most=5, continues=positions, cached=dict.fromkeys(range(3), positions), salt=1,
                   continued=before.agreed.id)  # fmt: skip
    prompt = (tokens or before.tokens)[:14] + [7] * 6
    return Play(agreed, tokens=prompt).run().bundle()


def test_a_job_that_continues_another_is_judged_with_it() -> None:
    before = first()
    with pytest.raises(ModelError):  # all that is needed is there, so the model is looked for
        audit_bundle(second(before), NOWHERE, [before.bundle()])


def test_without_the_receipt_before_nobody_is_judged() -> None:
    before = first()
    with pytest.raises(ConfigurationError, match="first 13 positions of this job were served in another session"):
        audit_bundle(second(before), NOWHERE)
    with pytest.raises(ConfigurationError, match="another session"):
        audit_bundle(second(before), NOWHERE, [first(salt=5).bundle()])


def test_a_client_that_claims_another_beginning_convicts_nobody() -> None:
    before = first()
    other = [before.tokens[0] ^ 1, *before.tokens[1:]]
    with pytest.raises(DishonestError, match="begins with other tokens"):
        audit_bundle(second(before, other), NOWHERE, [before.bundle()])


def test_receipts_that_do_not_reach_as_far_as_what_was_held() -> None:
    short = Play(agree(prompt=10, most=11))
    for _ in range(4):
        short.window()
    with pytest.raises(ConfigurationError, match=r"from position 13, and the receipts before it show 10 positions"):
        audit_bundle(second(short), NOWHERE, [short.bundle()])


def test_a_bundle_before_that_does_not_hold() -> None:
    before = first()
    forged = replace(before.bundle(), tokens=(1, *before.tokens[1:14]))
    with pytest.raises(DishonestError, match="signed for other tokens"):
        audit_bundle(second(before), NOWHERE, [forged])


def test_a_job_that_begins_anew_needs_none() -> None:
    with pytest.raises(ModelError):
        audit_bundle(first().bundle(), NOWHERE)
