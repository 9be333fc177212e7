"""How likely a model holds tokens to be, as the last leg says it and as an auditor holds it against its own.

Of the logits as the model gives them, in double precision (docs/spec/audit.md, clause F12).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ports import Activations
from protocol.session.logprobs import MOST_MILLIONTHS, LogProb, pack_said, unpack_said

__all__ = ["likeliest", "off_by", "say"]

MOST_LOGIT = 1e300
Scores = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Ids = np.ndarray[Any, np.dtype[np.int64]]


def likeliest(exact: Scores, count: int) -> Ids:
    """Ids of so many of the greatest of these numbers, by falling number, of equal ones the lowest id first."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    if count >= len(exact):
        return np.argsort(-exact, kind="stable")
    least = np.partition(exact, len(exact) - count)[len(exact) - count]
    among = np.flatnonzero(exact >= least)  # rising, so that a stable order keeps equal ones so
    if len(among) < count:  # some are no numbers, which a partition takes for the greatest
        return np.argsort(-exact, kind="stable")[:count]
    return among[np.argsort(-exact[among], kind="stable")][:count]


def say(logits: Activations, token: int, top: int) -> bytes:
    """What is said of a token that was drawn, and of so many of the likeliest."""
    exact = _exact(logits)
    ids = np.concatenate([[token], likeliest(exact, top)])
    return pack_said(LogProb(int(each), said) for each, said in zip(ids, _millionths(exact, ids), strict=True))


def off_by(logits: Activations, said: bytes) -> int:
    """In millionths of a logit, how far from these logits those must be that somebody says this of.

    The greatest difference between a number that was said and this one's, and the most that a token which is named
    among the likeliest lies below the last one that would be named here.
    """
    exact = _exact(logits)
    entries = unpack_said(said)
    ids = np.array([each.token for each in entries])
    found = max(abs(each.millionths - own) for each, own in zip(entries, _millionths(exact, ids), strict=True))
    if len(entries) > 1:
        least = exact[likeliest(exact, len(entries) - 1)[-1]]
        found = max(found, int(np.ceil((least - exact[ids[1:]].min()) * 1e6)))
    return found


def _exact(logits: Activations) -> Scores:
    """In double precision, and finite: a head may overflow where rows do not."""
    return np.nan_to_num(logits.astype(np.float64), nan=-MOST_LOGIT, posinf=MOST_LOGIT, neginf=-MOST_LOGIT)


def _millionths(exact: Scores, ids: Ids) -> list[int]:
    """Of the negative logarithms of these tokens' probabilities."""
    greatest = exact.max()
    whole = greatest + np.log(np.exp(exact - greatest).sum())
    return [int(each) for each in np.clip(np.rint((whole - exact[ids]) * 1e6), 0, MOST_MILLIONTHS)]
