"""What one book of offers has that another lacks: questions and answers (docs/spec/wire.md, clause W11).

All offers are divided into parts by their keys, so that a question for one part stays short however many there are. Of
each offer that it has of that part the asker says a mark, by which the other sees what is missing there, or old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from protocol.catalog import MARK_BYTES, MAX_MARKS, LackingRequest
from protocol.errors import MalformedError
from protocol.offer import Offer, OfferKey, offer_key

__all__ = ["lacking_in", "mark_of", "parts_for", "request_for"]

_NAME_BYTES = MARK_BYTES // 2
"""Of the key, in a mark; the sequence takes as many."""
_FULL = MAX_MARKS // 2
"""Offers in a part, on average: what is drawn by chance varies."""


def parts_for(offers: int) -> int:
    """Into how many parts so many offers are divided for a question."""
    return 1 + offers // _FULL


def mark_of(offer: Offer) -> bytes:
    """Eight bytes that name what an offer is of, then its sequence."""
    return _name(offer_key(offer)) + offer.sequence.to_bytes(MARK_BYTES - _NAME_BYTES, "big")


def request_for(offers: Iterable[Offer], part: int, parts: int) -> LackingRequest:
    """The question of who has these offers; where a part holds too many, some are not marked, and come again."""
    held = (mark_of(offer) for offer in offers if _part(offer_key(offer), parts) == part)
    return LackingRequest(parts=parts, part=part, held=tuple(held)[:MAX_MARKS])


def lacking_in(request: LackingRequest, offers: Iterable[Offer]) -> list[Offer]:
    """Those of these offers that the asker lacks, or has an older one of.

    Raises MalformedError: there is no such part.
    """
    if request.part >= request.parts:
        raise MalformedError(f"part {request.part} of {request.parts}")
    held = {mark[:_NAME_BYTES]: mark[_NAME_BYTES:] for mark in sorted(request.held)}
    return [
        offer for offer in offers if _part(offer_key(offer), request.parts) == request.part and _is_new(offer, held)
    ]


def _is_new(offer: Offer, held: dict[bytes, bytes]) -> bool:
    mark = mark_of(offer)
    return held.get(mark[:_NAME_BYTES], b"") < mark[_NAME_BYTES:]


def _part(key: OfferKey, parts: int) -> int:
    return int.from_bytes(_name(key)[:4], "big") % parts


@lru_cache(maxsize=32_768)
def _name(key: OfferKey) -> bytes:
    public_key, model, start, end = key
    place = start.to_bytes(8, "big") + end.to_bytes(8, "big")
    return hashlib.sha256(public_key + model + place).digest()[:_NAME_BYTES]
