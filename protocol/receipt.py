"""Receipts held against one another: the same check for a client while a job runs and for a verifier years later.

In every window all legs sign for the bytes that entered and left; what one says it sent, the next says it received. So
where two differ one of them signed something untrue. With the receipt after that come the sketches of those bytes under
a seed that nobody knew then (`draws`), and neighbours' sketches are equal to the bit.
docs/spec/receipt.md, clauses R5 to R8, and docs/spec/audit.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.codec import encode
from protocol.draws import check_nonce, window_seed
from protocol.eip712 import Domain, recover_typed
from protocol.errors import DishonestError, MalformedError, SignatureError, of_legs
from protocol.fingerprint import SKETCH_BYTES
from protocol.ids import keccak256
from protocol.merkle import Frontier, leaf_hash
from protocol.messages import UNMEASURED, Receipt, Session, SignedReceipt, session_id
from protocol.metering import served
from protocol.offer import Hardware, Provenance
from protocol.power import most_millijoules
from protocol.tariff import ONE_PUE
from protocol.terms import Assignment, Plan

__all__ = [
    "NO_HASH",
    "NO_RECEIPTS",
    "SKETCHES_BYTES",
    "Accepted",
    "ReceiptBook",
    "Window",
    "bytes_hash",
    "check_receipt",
    "check_spent",
    "fed_hash",
    "sketches_hash",
    "token_bytes",
    "yielded_by",
]

SKETCHES_BYTES = 2 * SKETCH_BYTES
"""Of what a receipt reveals of the window before: the sketch of what entered, then of what left."""
NO_HASH = bytes(32)
NO_RECEIPTS = bytes(32)
"""What a voucher says before any receipt."""
NO_SKETCH = bytes(SKETCH_BYTES)
"""Of what entered the first leg: token ids have none."""
_PREFIX = b"joulemesh window\n"


def bytes_hash(*parts: bytes) -> bytes:
    """What a receipt names the bytes of a window by: SHA-256, over rows or token ids as they travel."""
    digest = hashlib.sha256(_PREFIX)
    for part in parts:
        digest.update(part)
    return digest.digest()


def token_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as they are hashed and sent: little-endian, 32 bits each."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def sketches_hash(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    """What a receipt names the sketches that it shows by, with the seeds that they were made under.

    A leg makes them under the seeds that its client tells it. So it has signed for no other: a client that told it a
    false one has evidence of nothing.

    Args:
        parts: for each window that is shown, oldest first, its seed and its two sketches.
    """
    return keccak256(b"".join(seed + sketches for seed, sketches in parts)) if parts else NO_HASH


def fed_hash(hashes: Sequence[bytes]) -> bytes:
    """What a leg that caught up names the rows by that it was fed (docs/spec/session.md, clause H4).

    Args:
        hashes: of each window up to the base, `bytes_hash` of what entered.
    """
    return keccak256(b"".join(hashes))


def yielded_by(plan: Plan, tokens: Sequence[int], start: int, end: int) -> Sequence[int]:
    """The tokens that positions ``[start, end)`` yield: the one after each, from the last prompt position on."""
    return tokens[max(start, plan.prompt - 1) + 1 : end + 1]


def check_receipt(domain: Domain, session: Session, signed: SignedReceipt) -> None:
    """Hold one receipt's signature against the leg that it speaks for. Raises SignatureError or DishonestError."""
    receipt = signed.receipt
    if receipt.leg >= len(session.legs) or receipt.session != session_id(session):
        raise DishonestError(f"a receipt for leg {receipt.leg} of another session, or of {len(session.legs)} legs")
    if recover_typed(domain, receipt, signed.signature) != session.legs[receipt.leg].provider:
        raise SignatureError(f"the receipt of leg {receipt.leg} is not signed by its provider for this ledger")


def check_spent(receipt: Receipt, hardware: Hardware, us: int) -> None:
    """Hold a receipt's energy against what the leg's machine can have drawn in `us` microseconds (market.md, M14).

    Raises DishonestError: it says more.
    """
    most = most_millijoules(hardware.device, hardware.count, us)
    if UNMEASURED != receipt.millijoules > most:
        said = f"leg {receipt.leg} says that it has spent {receipt.millijoules / 1000:g} J"
        raise DishonestError(f"{said}, and its hardware can have drawn {most / 1000:g} J at most")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A receipt, and what it reveals of the window before."""

    signed: SignedReceipt
    sketches: bytes
    """`SKETCHES_BYTES`, or none where the leg did not serve that window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window that every leg has signed for."""

    index: int
    start: int
    """First position."""
    end: int
    """One past the last."""
    route: tuple[Assignment, ...]
    """Who served it."""
    receipts: tuple[Accepted, ...]
    """In the order of the route."""

    @property
    def nonces(self) -> tuple[bytes, ...]:
        """The legs' parts of its seed, in the order of the route."""
        return tuple(each.signed.receipt.nonce for each in self.receipts)


@dataclass(slots=True)
class _Leg:
    """What a leg has said so far."""

    nonce: bytes
    window: int = -1
    """Of the newest nonce; -1 where it is the anchor."""
    millijoules: int = 0
    rows: int = 0
    late: int = 0


class ReceiptBook:
    """Takes the windows of one session in order, and refuses the first thing that does not hold.

    Args:
        anchors: by leg, of its nonce chain, as its acceptance says; legs that are not here cannot sign for anything.
        client_nonce: the client's, by window.

    What it raises is what all its methods raise:
        SignatureError: a receipt is not its leg's.
        DishonestError: it names the first leg, or the pair of neighbours, whose word does not hold.
        MalformedError: sketches of another length.
    """

    def __init__(
        self,
        domain: Domain,
        session: Session,
        plan: Plan,
        anchors: Mapping[int, bytes],
        client_nonce: Callable[[int], bytes],
    ) -> None:
        self.windows: list[Window] = []
        self.seeds: list[bytes] = []
        """For each window, what it is sketched under."""
        self.sketches: list[dict[int, bytes]] = []
        """For each window whose sketches are in: by leg, what entered and what left."""
        self._domain = domain
        self._session = session
        self._id = session_id(session)
        self._plan = plan
        self._client_nonce = client_nonce
        self._legs = {leg: _Leg(anchor) for leg, anchor in anchors.items()}
        self._tree = Frontier()

    @property
    def positions(self) -> int:
        """Positions that every leg has signed for."""
        return self.windows[-1].end if self.windows else 0

    @property
    def root(self) -> bytes:
        """What a voucher names the receipts so far by: RFC 6962, by window and place in the route."""
        return self._tree.root if self._tree.size else NO_RECEIPTS

    def late(self, leg: int) -> int:
        """Tokens that a leg has signed were late."""
        return self._legs[leg].late if leg in self._legs else 0

    def rows(self, leg: int) -> int:
        """Rows that a leg has signed it computed."""
        return self._legs[leg].rows if leg in self._legs else 0

    def take_window(
        self, route: Sequence[Assignment], end: int, tokens: Sequence[int], receipts: Sequence[Accepted]
    ) -> Window:
        """Book the next window, which ends at position `end`.

        Args:
            route: who served it, first block to last.
            tokens: token ids of the whole sequence, prompt first; the one that position ``end - 1`` yields is among
                them.
            receipts: one for each leg of the route, in its order.
        """
        window = Window(
            index=len(self.windows), start=self.positions, end=end, route=tuple(route), receipts=tuple(receipts)
        )
        if len(receipts) != len(route):
            raise DishonestError(f"window {window.index} lacks the receipt of a leg")
        for assignment, accepted in zip(route, receipts, strict=True):
            with of_legs(assignment.leg):
                self._check(assignment.leg, window.index, window.end, accepted)
                self._check_nonce(assignment.leg, window.index, accepted.signed.receipt.nonce)
        self._check_bytes(window, tokens)
        self._take_sketches(route, receipts)
        self._append(receipts)
        self.windows.append(window)
        self.seeds.append(window_seed(self._id, window.index, self._client_nonce(window.index), window.nonces))
        return window

    def take_closing(self, receipts: Sequence[Accepted]) -> None:
        """Book the receipts after the last window: they bring its sketches, and fix no bytes."""
        if not self.windows:
            raise DishonestError("there is no window to close")
        last = self.windows[-1]
        if len(receipts) != len(last.route):
            raise DishonestError("the closing receipt of a leg is missing")
        for assignment, accepted in zip(last.route, receipts, strict=True):
            receipt = accepted.signed.receipt
            with of_legs(assignment.leg):
                self._check(assignment.leg, last.index + 1, last.end, accepted)
                if {receipt.input, receipt.output, receipt.tokens, receipt.nonce} != {NO_HASH}:
                    raise DishonestError(f"the closing receipt of leg {assignment.leg} fixes bytes of no window")
        self._take_sketches(last.route, receipts)
        self._append(receipts)

    def _check(self, leg: int, window: int, end: int, accepted: Accepted) -> None:
        receipt, before = accepted.signed.receipt, self._legs.get(leg)
        check_receipt(self._domain, self._session, accepted.signed)
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

    def _check_bytes(self, window: Window, tokens: Sequence[int]) -> None:
        receipts = [each.signed.receipt for each in window.receipts]
        if window.end >= len(tokens) and window.end >= self._plan.prompt:
            raise DishonestError("the receipts count more tokens than there are")
        with of_legs(receipts[0].leg):
            if receipts[0].input != bytes_hash(token_bytes(tokens[window.start : window.end])):
                raise DishonestError(f"leg {receipts[0].leg} signed for other tokens than it was sent")
        for left, right in pairwise(receipts):
            with of_legs(left.leg, right.leg):
                if left.output != right.input:
                    raise DishonestError(
                        f"what leg {left.leg} says it sent is not what leg {right.leg} says it received"
                    )
            with of_legs(left.leg):
                if left.tokens != NO_HASH:
                    raise DishonestError(f"leg {left.leg} draws no tokens, and signs for some")
        drawn = yielded_by(self._plan, tokens, window.start, window.end)
        with of_legs(receipts[-1].leg):
            if receipts[-1].tokens != bytes_hash(token_bytes(drawn)):
                raise DishonestError(f"leg {receipts[-1].leg} signed for other tokens than it sent")

    def _take_sketches(self, route: Sequence[Assignment], receipts: Sequence[Accepted]) -> None:
        """The sketches of the window before, of those who served both: a leg that was left has none to show."""
        if not self.windows:
            for assignment, accepted in zip(route, receipts, strict=True):
                with of_legs(assignment.leg):
                    if accepted.sketches or accepted.signed.receipt.sketches != NO_HASH:
                        raise DishonestError("there is nothing before the first window to show a sketch of")
            return
        last = self.windows[-1]
        shown = {}
        for assignment, accepted in zip(route, receipts, strict=True):
            served_before = any(each.leg == assignment.leg for each in last.route)
            with of_legs(assignment.leg):
                _check_sketches(assignment.leg, accepted, self.seeds[-1] if served_before else None)
            if served_before:
                shown[assignment.leg] = accepted.sketches
        with of_legs(last.route[0].leg):
            if last.route[0].leg in shown and shown[last.route[0].leg][:SKETCH_BYTES] != NO_SKETCH:
                raise DishonestError("the first leg shows a sketch of token ids")
        for left, right in pairwise(last.route):
            if left.leg in shown and right.leg in shown:
                with of_legs(left.leg, right.leg):
                    _check_meeting(left.leg, shown[left.leg], right.leg, shown[right.leg])
        self.sketches.append(shown)

    def _append(self, receipts: Sequence[Accepted]) -> None:
        for each in receipts:
            self._tree.append(leaf_hash(encode(each.signed)))


def _check_sketches(leg: int, accepted: Accepted, seed: bytes | None) -> None:
    """Of a window with this seed; None where the leg did not serve it."""
    named = accepted.signed.receipt.sketches
    if seed is None:
        if accepted.sketches or named != NO_HASH:
            raise DishonestError(f"leg {leg} shows sketches of a window that it did not serve")
        return
    if len(accepted.sketches) != SKETCHES_BYTES:
        raise MalformedError(f"sketches of {len(accepted.sketches)} bytes, not {SKETCHES_BYTES}")
    if sketches_hash([(seed, accepted.sketches)]) != named:
        raise DishonestError(f"leg {leg} shows other sketches than it signed, or made them under another seed")


def _check_meeting(left: int, sent: bytes, right: int, received: bytes) -> None:
    if sent[SKETCH_BYTES:] != received[:SKETCH_BYTES]:
        raise DishonestError(
            f"the sketches of legs {left} and {right} differ: one of them is not of the bytes signed for"
        )
