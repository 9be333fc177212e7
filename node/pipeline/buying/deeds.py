"""What the legs of a job have done, to be remembered: taken down once the job is over, however it ended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from node.pipeline.buying.job import JobResult
from node.ports import PeerMemory
from protocol.errors import DishonestError, JoulemeshError, LocalError, RefusedError, SignatureError
from protocol.reputation.standing import Deed
from protocol.session.patience import crawl_s, is_adrift

__all__ = ["note_deeds"]

_SILENT = frozenset({"stalled", "unreachable", "lost-peer"})
_NO_FAULT = frozenset({"full", "no-room", "busy", "credit", "shutdown", "closing"})
"""Refusals that are of the moment: a node that has no place now, or is about to stop, has broken no promise."""
ENOUGH_TOKENS = 4
"""Fewer tell nothing of how fast they come."""


def note_deeds(result: JobResult, peers: PeerMemory) -> None:
    """Take down what each leg of a job did. Nothing is said of a leg whose part ended for the fault of another."""
    legs = result.deal.session.legs
    for leg, deed, amount, about in _deeds(result):
        peers.note(legs[leg].provider, deed, amount=amount, about=about)


def _deeds(result: JobResult) -> Iterator[tuple[int, Deed, int, str]]:
    for leg, gone in result.gone.items():
        yield leg, _deed_of(gone), 0, gone.message
    if result.failures:
        for leg in result.culprits:
            error = result.failures.get(leg) or result.first_failure
            if isinstance(error, RefusedError) and error.code in _NO_FAULT:
                continue
            yield leg, _deed_of(error), 0, error.message
    elif result.error is None or isinstance(result.error, LocalError):
        yield from _services(result)


def _services(result: JobResult) -> Iterator[tuple[int, Deed, int, str]]:
    """Of legs that did what they had taken on, up to where the client left."""
    tab = result.tab
    crawled, adrift = _crawled(result), _adrift(result)
    for leg in sorted(result.acceptances):
        if crawled is not None:
            yield leg, Deed.FAILED if len(result.acceptances) == 1 else Deed.DISPUTED, 0, crawled
        elif leg in result.discharges and leg not in result.gone and tab.generated:
            yield leg, Deed.SERVED, 0 if result.pay is None else result.pay.voucher.amounts[leg], ""
        late = tab.book.late(leg)
        if 2 * late > tab.generated:
            yield leg, Deed.LATE, 0, f"{late} of {tab.generated} tokens were late"
        elif adrift is not None:
            yield leg, Deed.ADRIFT, 0, adrift


def _crawled(result: JobResult) -> str | None:
    """Whether tokens came so slowly that some leg did not do what its offer says; by this client's clock."""
    if len(result.token_times_s) < ENOUGH_TOKENS:
        return None
    deal = result.deal
    each_s = median(later - before for before, later in pairwise(result.token_times_s))
    most_s = crawl_s(deal.terms, [deal.offer(leg) for leg in range(len(deal.terms.route))])
    return f"a token took {each_s:.1f} s, and {most_s:.1f} s would be late" if each_s > most_s else None


def _adrift(result: JobResult) -> str | None:
    """Whether tokens took much longer here than the legs of the route sign that they took with them."""
    if len(result.token_times_s) < ENOUGH_TOKENS or result.healed:
        return None
    took: dict[int, list[int]] = {}
    for window in result.tab.book.windows:
        for accepted in window.receipts:
            receipt = accepted.signed.receipt
            if receipt.p50_us:
                took.setdefault(receipt.leg, []).append(receipt.p50_us)
    if len(took) < len(result.deal.terms.route):
        return None
    signed_us = [round(median(each)) for each in took.values()]
    seen_us = round(1e6 * median(later - before for before, later in pairwise(result.token_times_s)))
    if not is_adrift(seen_us, signed_us):
        return None
    return f"a token took {seen_us / 1000:.0f} ms, and the legs signed for {sum(signed_us) / 1000:.0f} ms"


def _deed_of(error: JoulemeshError) -> Deed:
    if isinstance(error, DishonestError | SignatureError):
        return Deed.LIED if len(error.legs) < 2 else Deed.DISPUTED  # of two it is one, and nobody knows which
    return Deed.SILENT if error.code in _SILENT else Deed.FAILED
