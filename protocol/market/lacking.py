"""What one book of offers has that another lacks: questions and answers (docs/spec/wire.md, clause W11).

All offers are divided into parts by their keys, so that a question for one part stays short however many there are. Of
each offer that it has of that part the asker says a mark, by which the other sees what is missing there, or old.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from protocol.errors import MalformedError
from protocol.market.catalog import MARK_BYTES, MAX_MARKS, LackingRequest
from protocol.market.offer import Offer, OfferKey, offer_key

__all__ = ["BUCKETS", "bucket_of", "buckets_of", "lacking_in", "mark_of", "parts_for", "request_for"]

_NAME_BYTES = MARK_BYTES // 2
"""Of the key, in a mark; the sequence takes as many."""
_FULL = MAX_MARKS // 2
"""Offers in a part, on average: what is drawn by chance varies."""
BUCKETS = 256
"""By the first byte of an offer's name; a part is some of them, side by side."""


def parts_for(offers: int) -> int:
    """Into how many parts so many offers are divided for a question: 1, 2, 4 and so on."""
    return min(BUCKETS, 1 << (offers // _FULL).bit_length())


def bucket_of(key: OfferKey) -> int:
    """In which bucket an offer of this key is."""
    return _name(key)[0]


def buckets_of(part: int, parts: int) -> range:
    """The buckets of a part. Raises MalformedError where there is no such part."""
    if not 1 <= parts <= BUCKETS or parts & (parts - 1) or part >= parts:
        raise MalformedError(f"part {part} of {parts}")
    width = BUCKETS // parts
    return range(part * width, (part + 1) * width)


def mark_of(offer: Offer) -> bytes:
    """Eight bytes that name what an offer is of, then its sequence."""
    return _name(offer_key(offer)) + offer.sequence.to_bytes(MARK_BYTES - _NAME_BYTES, "big")


def request_for(offers: Iterable[Offer], part: int, parts: int) -> LackingRequest:
    """The question of who has these offers of a part; of too many some are not marked, and come again."""
    return LackingRequest(parts=parts, part=part, held=tuple(map(mark_of, offers))[:MAX_MARKS])


def lacking_in(request: LackingRequest, offers: Iterable[Offer]) -> list[Offer]:
    """Those of these offers of the part that the asker lacks, or has an older one of."""
    held = {mark[:_NAME_BYTES]: mark[_NAME_BYTES:] for mark in sorted(request.held)}
    return [offer for offer in offers if _is_new(offer, held)]


def _is_new(offer: Offer, held: dict[bytes, bytes]) -> bool:
    mark = mark_of(offer)
    return held.get(mark[:_NAME_BYTES], b"") < mark[_NAME_BYTES:]


@lru_cache(maxsize=32_768)
def _name(key: OfferKey) -> bytes:
    public_key, model, start, end = key
    place = start.to_bytes(8, "big") + end.to_bytes(8, "big")
    return hashlib.sha256(public_key + model + place).digest()[:_NAME_BYTES]
