"""Receipts held against one another: the same check for a client while a job runs and for a verifier years later.

In every window all legs sign for the bytes that entered and left; what one says it sent, the next says it received. So
where two differ one of them signed something untrue. With later receipts come the sketches of those bytes under a seed
that nobody knew then (`draws`), and neighbours' sketches are equal to the bit.
docs/spec/receipt.md, clauses R5 to R8, and docs/spec/audit.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from protocol.encoding.codec import encode
from protocol.energy.tariff import ONE_PUE
from protocol.errors import DishonestError, MalformedError, of_legs
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.log.merkle import Frontier, leaf_hash
from protocol.market.offer import Provenance
from protocol.session.draws import check_nonce, window_seed
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.messages import UNMEASURED, Session, session_id
from protocol.session.metering import served, window_index
from protocol.session.receipt import (
    NO_HASH,
    NO_RECEIPTS,
    NO_SKETCH,
    SKETCHES_BYTES,
    Accepted,
    Window,
    bytes_hash,
    check_receipt,
    drawn_hash,
    fed_hash,
    sketches_hash,
    token_bytes,
    yielded_by,
)
from protocol.session.terms import Assignment, Terms, route_at

__all__ = ["ReceiptBook"]


@dataclass(slots=True)
class _Leg:
    """What a leg has said so far."""

    nonce: bytes
    window: int = -1
    """Of the newest nonce; -1 where it is the anchor."""
    millijoules: int = 0
    rows: int = 0
    late: int = 0
    rejected: int = 0
    unshown: deque[int] = field(default_factory=deque)
    """Numbers of the windows that it served and has shown no sketches of."""


class ReceiptBook:
    """Takes the windows of one session in order, and refuses the first thing that does not hold.

    Windows are numbered from 0 as they are booked; the index in their receipts is another one once the route changed.

    Args:
        anchors: by leg, of its nonce chain, as its acceptance says; legs that are not here cannot sign for anything.
        client_nonce: the client's, by index of the window.
        base: position at which the first window begins, where the session continues another one.
        starts: by leg of the terms' route, the first position that it computes; 0 where empty.
        recover: finds signers.

    What it raises is what all its methods raise:
        SignatureError: a receipt is not its leg's.
        DishonestError: it names the first leg, or the pair of neighbours, whose word does not hold.
        MalformedError: sketches of another length.
    """

    def __init__(
        self,
        domain: Domain,
        session: Session,
        terms: Terms,
        anchors: Mapping[int, bytes],
        client_nonce: Callable[[int], bytes],
        *,
        base: int = 0,
        starts: Sequence[int] = (),
        recover: Recover = recover_typed,
    ) -> None:
        self.windows: list[Window] = []
        self.seeds: list[bytes] = []
        """For each window, what it is sketched under."""
        self.sketches: list[dict[int, bytes]] = []
        """For each window, by leg that has shown them: what entered and what left."""
        self.route = route_at(terms, (), 0)
        """Who serves the next window."""
        self.base = base
        self._domain = domain
        self._recover = recover
        self._session = session
        self._id = session_id(session)
        self._plan = terms.plan
        self._most_rejected = terms.speculation.depth * terms.speculation.flights
        self._client_nonce = client_nonce
        self._starts = dict(enumerate(starts))
        self._legs = {leg: _Leg(anchor) for leg, anchor in anchors.items()}
        self._reroutes = 0
        self._tree = Frontier()

    @property
    def positions(self) -> int:
        """Where the next window begins: every leg has signed for what comes before, from the base on."""
        return self.windows[-1].end if self.windows else self.base

    @property
    def earned(self) -> int:
        """Positions that the receipts show are owed: none before the first window, whatever the legs held before."""
        return self.windows[-1].end if self.windows else 0

    @property
    def next_index(self) -> int:
        """What the receipts of the next window have to say."""
        return window_index(self._plan, len(self.windows), self._reroutes)

    @property
    def shown(self) -> int:
        """So many windows, from the first on, have their sketches in: of all legs that serve still, or ever will."""
        serving = [self._legs[each.leg] for each in self.route if each.leg in self._legs]
        return min((leg.unshown[0] for leg in serving if leg.unshown), default=len(self.windows))

    @property
    def root(self) -> bytes:
        """What a voucher names the receipts so far by: RFC 6962, by window and place in the route."""
        return self._tree.root if self._tree.size else NO_RECEIPTS

    def late(self, leg: int) -> int:
        """Tokens that a leg has signed were late."""
        return self._legs[leg].late if leg in self._legs else 0

    def rejected(self, leg: int) -> int:
        """Rows of drafts that were not taken, as far as all legs of the route signed for them; of a leg that was left,
        as it was then (docs/spec/session.md, clause S6).
        """
        return self._legs[leg].rejected if leg in self._legs else 0

    def fed_hash(self, block: int) -> bytes | None:
        """What a leg that begins with this block has to say it was fed from the first position on; None where some of
        it nobody signed for (clause H4).
        """
        entered = [
            accepted.signed.receipt.input
            for window in self.windows
            for seat, accepted in zip(window.route, window.receipts, strict=True)
            if seat.span.start == block
        ]
        return fed_hash(entered) if not self.base and len(entered) == len(self.windows) else None

    def take_reroute(self, route: Sequence[Assignment]) -> None:
        """From here on these legs serve: what was signed for beyond `positions` is void, and so are its indices."""
        self._reroutes += 1
        self.route = tuple(route)

    def withdraw(self, count: int, route: Sequence[Assignment]) -> None:
        """So many reroutes, which nobody signed a receipt after, never were: this route serves."""
        self._reroutes -= count
        self.route = tuple(route)

    def accept(self, leg: int, anchor: bytes) -> None:
        """A leg that could not sign for anything until now."""
        self._legs[leg] = _Leg(anchor)

    def take_window(
        self, end: int, tokens: Sequence[int] | None, receipts: Sequence[Accepted], said: Sequence[bytes] = ()
    ) -> Window:
        """Book the next window, which ends at position `end`.

        Args:
            tokens: token ids of the whole sequence, prompt first; the one that position ``end - 1`` yields is among
                them. None where nobody shows them: then no hash is held against them.
            said: by generated token, its log probabilities, where the terms ask for them.
            receipts: one for each leg of the route, in its order.
        """
        route, index = self.route, self.next_index
        window = Window(index=index, start=self.positions, end=end, route=route, receipts=tuple(receipts))
        if len(receipts) != len(route):
            raise DishonestError(f"window {window.index} lacks the receipt of a leg")
        for assignment, accepted in zip(route, receipts, strict=True):
            with of_legs(assignment.leg):
                self._check(assignment.leg, window.index, window.end, accepted)
                self._check_nonce(assignment.leg, window.index, accepted.signed.receipt.nonce)
        self._check_bytes(window, tokens, said)
        self._take_sketches(receipts, unshown=self._plan.ahead - 1)
        self._append(receipts)
        for assignment in route:
            self._legs[assignment.leg].unshown.append(len(self.windows))
        self.windows.append(window)
        self.sketches.append({})
        self.seeds.append(window_seed(self._id, window.index, self._client_nonce(window.index), window.nonces))
        self._count_rejected(window)
        return window

    def take_closing(self, receipts: Sequence[Accepted]) -> None:
        """Book the receipts after the last window: they bring all sketches that are missing, and fix no bytes."""
        route = self.route
        if not self.windows:
            raise DishonestError("there is no window to close")
        if len(receipts) != len(route):
            raise DishonestError("the closing receipt of a leg is missing")
        for assignment, accepted in zip(route, receipts, strict=True):
            receipt = accepted.signed.receipt
            with of_legs(assignment.leg):
                self._check(assignment.leg, self.next_index, self.positions, accepted)
                if {receipt.input, receipt.output, receipt.tokens, receipt.nonce} != {NO_HASH}:
                    raise DishonestError(f"the closing receipt of leg {assignment.leg} fixes bytes of no window")
        self._take_sketches(receipts, unshown=0)
        self._append(receipts)

    def _check(self, leg: int, window: int, end: int, accepted: Accepted) -> None:
        receipt, before = accepted.signed.receipt, self._legs.get(leg)
        check_receipt(self._domain, self._session, accepted.signed, self._recover)
        if before is None or receipt.leg != leg or receipt.window != window:
            raise DishonestError(f"the receipt in the place of leg {leg} is for another leg or window")
        counts = served(self._plan, end)
        if (receipt.tokens_in, receipt.tokens_out) != counts:
            said = f"{receipt.tokens_in}+{receipt.tokens_out}"
            raise DishonestError(f"leg {leg} counts {said} tokens, not {counts[0]}+{counts[1]}")
        if receipt.millijoules < before.millijoules or receipt.rows < before.rows or receipt.late < before.late:
            raise DishonestError(f"leg {leg} takes back energy, rows or late tokens that it has signed for")
        if (receipt.millijoules == UNMEASURED) is not (receipt.source is Provenance.UNKNOWN):
            raise DishonestError(f"leg {leg} gives energy without a source, or a source without energy")
        if receipt.late - before.late > receipt.tokens_out - served(self._plan, self.positions)[1]:
            raise DishonestError(f"leg {leg} says that more tokens were late than there are")
        if receipt.pue_milli < ONE_PUE or receipt.p50_us > receipt.p95_us:
            raise DishonestError(f"leg {leg} signs for a PUE below 1, or for a median above the slowest times")
        before.millijoules, before.rows, before.late = receipt.millijoules, receipt.rows, receipt.late

    def _check_nonce(self, leg: int, window: int, nonce: bytes) -> None:
        before = self._legs[leg]
        try:
            check_nonce(before.nonce, nonce, steps=window - before.window)
        except DishonestError as error:
            raise DishonestError(f"leg {leg}: {error.message}") from None
        before.nonce, before.window = nonce, window

    def _check_bytes(self, window: Window, tokens: Sequence[int] | None, said: Sequence[bytes]) -> None:
        receipts = [each.signed.receipt for each in window.receipts]
        if tokens is not None:
            self._check_tokens(window, tokens, said)
        for left, right in pairwise(receipts):
            with of_legs(left.leg, right.leg):
                if left.output != right.input:
                    raise DishonestError(
                        f"what leg {left.leg} says it sent is not what leg {right.leg} says it received"
                    )
            with of_legs(left.leg):
                if left.tokens != NO_HASH:
                    raise DishonestError(f"leg {left.leg} draws no tokens, and signs for some")

    def _check_tokens(self, window: Window, tokens: Sequence[int], said: Sequence[bytes]) -> None:
        first, last = (each.signed.receipt for each in (window.receipts[0], window.receipts[-1]))
        if window.end >= len(tokens) and window.end >= self._plan.prompt:
            raise DishonestError("the receipts count more tokens than there are")
        with of_legs(first.leg):
            if first.input != bytes_hash(token_bytes(tokens[window.start : window.end])):
                raise DishonestError(f"leg {first.leg} signed for other tokens than it was sent")
        drawn = yielded_by(self._plan, tokens, window.start, window.end)
        beside = said[served(self._plan, window.start)[1] : served(self._plan, window.end)[1]]
        with of_legs(last.leg):
            if last.tokens != drawn_hash(drawn, beside):
                raise DishonestError(f"leg {last.leg} signed for other tokens than it sent")

    def _take_sketches(self, receipts: Sequence[Accepted], *, unshown: int) -> None:
        """What receipts show of windows before; of how many of those that it served a leg may still owe it."""
        legs = [each.leg for each in self.route]
        for leg, accepted in zip(legs, receipts, strict=True):
            with of_legs(leg):
                for number, sketches in zip(self._legs[leg].unshown, self._parts_of(leg, accepted), strict=False):
                    self.sketches[number][leg] = sketches
        for leg, accepted in zip(legs, receipts, strict=True):
            owing = self._legs[leg].unshown
            for _ in range(len(accepted.sketches) // SKETCHES_BYTES):
                self._check_meetings(owing.popleft(), leg)
            with of_legs(leg):
                if len(owing) > unshown:
                    raise DishonestError(f"leg {leg} does not show sketches of a window that it served")

    def _parts_of(self, leg: int, accepted: Accepted) -> list[bytes]:
        """Of the windows that the leg owes, oldest first: the sketches of those that are shown."""
        count, rest = divmod(len(accepted.sketches), SKETCHES_BYTES)
        if rest:
            raise MalformedError(f"sketches of {len(accepted.sketches)} bytes, not {SKETCHES_BYTES} for each window")
        owing = self._legs[leg].unshown
        if count > len(owing):
            raise DishonestError(f"leg {leg} shows sketches of a window that it did not serve")
        parts = [accepted.sketches[at : at + SKETCHES_BYTES] for at in range(0, count * SKETCHES_BYTES, SKETCHES_BYTES)]
        seeds = [self.seeds[number] for number, _ in zip(owing, parts, strict=False)]
        if sketches_hash(list(zip(seeds, parts, strict=True))) != accepted.signed.receipt.sketches:
            raise DishonestError(f"leg {leg} shows other sketches than it signed, or made them under another seed")
        return parts

    def _check_meetings(self, number: int, leg: int) -> None:
        """That what a leg shows of a window meets what its neighbours showed, as far as they have."""
        route, shown = self.windows[number].route, self.sketches[number]
        if leg == route[0].leg and shown[leg][:SKETCH_BYTES] != NO_SKETCH:
            with of_legs(leg):
                raise DishonestError("the first leg shows a sketch of token ids")
        for left, right in pairwise(each.leg for each in route):
            if leg in (left, right) and left in shown and right in shown:
                with of_legs(left, right):
                    _check_meeting(left, shown[left], right, shown[right])

    def _count_rejected(self, window: Window) -> None:
        if not self._most_rejected:
            return
        over = [self._legs[each.leg].rows - (window.end - self._starts.get(each.leg, 0)) for each in window.route]
        rejected = max(0, min(*over, self._most_rejected * served(self._plan, window.end)[1]))
        for each in window.route:
            self._legs[each.leg].rejected = rejected

    def _append(self, receipts: Sequence[Accepted]) -> None:
        for each in receipts:
            self._tree.append(leaf_hash(encode(each.signed)))


def _check_meeting(left: int, sent: bytes, right: int, received: bytes) -> None:
    if sent[SKETCH_BYTES:] != received[:SKETCH_BYTES]:
        raise DishonestError(
            f"the sketches of legs {left} and {right} differ: one of them is not of the bytes signed for"
        )
