"""A whole job in memory, without engine, network or clock: played, paid and kept.

A `Play` goes through the windows of what was agreed as honest legs and an honest client would, with random rows, and
ends in a `Bundle` that verifies. Whoever wants to see a lie refused passes `alter`, which changes receipts before they
are signed, or replaces parts of the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from agreed_job import CLIENT, HIDDEN, VOCABULARY, Agreed

from protocol.encoding.codec import encode
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey, seal
from protocol.log.merkle import leaf_hash, root_of
from protocol.market.offer import Provenance
from protocol.receipts.bundle import Bundle
from protocol.receipts.bundle_text import seal_transcript
from protocol.session.draws import window_seed
from protocol.session.fingerprint import SKETCH_BYTES, sketch
from protocol.session.messages import (
    Discharge,
    Receipt,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    sign_discharge,
    sign_voucher,
)
from protocol.session.metering import (
    Stint,
    last_position,
    owed,
    rates_for,
    served,
    spans,
    stints,
    window_end,
    window_index,
    work_of,
)
from protocol.session.receipt import NO_HASH, NO_RECEIPTS, bytes_hash, sketches_hash, token_bytes, yielded_by
from protocol.session.terms import Assignment, Reroute, route_at
from protocol.settlement.operations import Close, Release, Settle

__all__ = ["Play"]

Row = tuple[tuple[SignedReceipt, bytes], ...]
Alter = Callable[[Receipt, bytes], tuple[Receipt, bytes]]


def unaltered(receipt: Receipt, sketches: bytes) -> tuple[Receipt, bytes]:
    """What honest legs do to their receipts."""
    return receipt, sketches


@dataclass(kw_only=True)
class _Counts:
    """What a leg has counted so far, and what it has yet to show."""

    rows: int = 0
    late: int = 0
    wasted: int = 0
    """Rows of drafts that were not taken."""
    owing: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Of windows that it served and has not shown: the seed, and the sketches."""


@dataclass
class Play:
    """The windows of one job, played in order.

    Args:
        alter: what each leg does to a receipt, and to the sketches that it shows, before it signs.
        forge: what it does, by leg and window, to the sketches that it shows, before it names their hash.
        tell: the seed that the client tells the legs, where it is not the window's own.
        lag: of the windows before, so many do not show in a receipt yet.
    """

    agreed: Agreed
    alter: Alter = unaltered
    forge: Callable[[int, int, bytes], bytes] = lambda leg, window, shown: shown
    tell: Callable[[bytes], bytes] = bytes
    lag: int = 0
    tokens: list[int] = field(default_factory=list)
    position: int = -1
    """Positions of whole windows; the base before the first."""
    rows: list[Row] = field(default_factory=list)
    reroutes: list[bytes] = field(default_factory=list)
    opened_reroutes: list[Reroute] = field(default_factory=list)
    windows: int = 0
    rejected: dict[int, int] = field(default_factory=dict)
    """By leg: rows of drafts that the voucher pays as rejected."""

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(len(self.agreed.keys))
        self._nonce = 0
        """Index of the newest window."""
        self._counts = [_Counts() for _ in self.agreed.keys]
        if self.position < 0:
            self.position = self.agreed.base
        if not self.tokens:
            self.tokens = self._random.integers(1, VOCABULARY, self.agreed.plan.prompt).tolist()

    @property
    def index(self) -> int:
        """What the receipts of the next window say."""
        return window_index(self.agreed.plan, self.windows, len(self.reroutes))

    @property
    def earned(self) -> int:
        """Positions that are owed: none before the first window."""
        return self.position if self.position > self.agreed.base else 0

    @property
    def route(self) -> tuple[Assignment, ...]:
        """Who serves the next window."""
        return route_at(self.agreed.terms, self.opened_reroutes, self.position)

    def reroute(self, *route: tuple[int, tuple[int, int]], key: SigningKey = CLIENT, **changes: Any) -> None:
        """From here on, other legs serve: index and blocks of each."""
        made = Reroute(
            session=self.agreed.id,
            number=len(self.reroutes) + 1,
            position=self.position,
            route=tuple(Assignment(leg=leg, span=BlockSpan(start=a, end=b)) for leg, (a, b) in route),
        ).replace(**changes)
        self.opened_reroutes.append(made)
        self.reroutes.append(seal(made, key))

    def run(self, *, generated: int | None = None, close: bool = True) -> Play:
        """All windows that are left, up to so many generated tokens where the answer is cut short."""
        plan = self.agreed.plan
        until = last_position(plan) if generated is None else plan.prompt - 1 + generated
        while self.position < until:
            self.window(end=min(until, window_end(plan, self.position)))
        if close and self.rows:
            self.close()
        return self

    def window(
        self, *, end: int | None = None, late: Mapping[int, int] | None = None, wasted: Mapping[int, int] | None = None
    ) -> None:
        """The next window.

        Args:
            end: its last position and one; None for where it ends by the plan.
            late: by leg, tokens of this window that were late.
            wasted: by leg, rows of drafts that were not taken.
        """
        plan, start = self.agreed.plan, self.position
        end = window_end(plan, start) if end is None else end
        route, count, index = self.route, end - start, self.index
        missing = max(0, end + 1 - len(self.tokens)) if end >= plan.prompt else 0
        self.tokens += self._random.integers(1, VOCABULARY, missing).tolist()
        sent = [self._random.standard_normal((count, HIDDEN)).astype(np.float32) for _ in route]
        signed = []
        for place, each in enumerate(route):
            counts, last = self._counts[each.leg], place == len(route) - 1
            counts.rows += count + (0 if counts.rows else start - self.agreed.starts[each.leg])
            counts.wasted += (wasted or {}).get(each.leg, 0)
            counts.late += (late or {}).get(each.leg, 0)
            entered = token_bytes(self.tokens[start:end]) if place == 0 else sent[place - 1].tobytes()
            drawn = token_bytes(yielded_by(plan, self.tokens, start, end))
            signed.append(
                self._sign(
                    each.leg,
                    end,
                    input=bytes_hash(entered),
                    output=bytes_hash(sent[place].tobytes()),
                    tokens=bytes_hash(drawn) if last else NO_HASH,
                    nonce=self.agreed.chains[each.leg].nonce(index),
                )
            )
        nonces = [receipt.receipt.nonce for receipt, _ in signed]
        seed = window_seed(self.agreed.id, index, self.agreed.client_chain.nonce(index), nonces)
        seed = self.tell(seed)
        entered = [bytes(SKETCH_BYTES), *(sketch(rows, seed) for rows in sent[:-1])]
        for place, each in enumerate(route):
            self._counts[each.leg].owing.append((seed, entered[place] + sketch(sent[place], seed)))
        self.rows.append(tuple(signed))
        self.position, self.windows, self._nonce = end, self.windows + 1, index

    def close(self) -> None:
        """The receipts after the last window."""
        self.lag = 0
        legs = [each.leg for each in self.route]
        nothing = dict.fromkeys(("input", "output", "tokens", "nonce"), NO_HASH)
        self.rows.append(tuple(self._sign(leg, self.position, **nothing) for leg in legs))

    def _sign(self, leg: int, end: int, **hashes: bytes) -> tuple[SignedReceipt, bytes]:
        counts = self._counts[leg]
        ready = len(counts.owing) - self.lag
        parts, counts.owing = counts.owing[: max(0, ready)], counts.owing[max(0, ready) :]
        shown = self.forge(leg, self.windows, b"".join(sketches for _, sketches in parts))
        size = 2 * SKETCH_BYTES
        parts = [(seed, shown[at * size : (at + 1) * size]) for at, (seed, _) in enumerate(parts)]
        tokens_in, tokens_out = served(self.agreed.plan, end)
        receipt = Receipt(
            session=self.agreed.id,
            leg=leg,
            window=self.index,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            rows=counts.rows + counts.wasted,
            sketches=sketches_hash(parts),
            millijoules=10 * counts.rows,
            source=Provenance.RAPL,
            pue_milli=1100,
            p50_us=900,
            p95_us=1000,
            late=counts.late,
            **hashes,  # type: ignore[arg-type]
        )
        receipt, shown = self.alter(receipt, shown)
        signature = sign_typed(self.agreed.ledger.domain, receipt, self.agreed.keys[leg])
        return SignedReceipt(receipt=receipt, signature=signature), shown

    # Money

    @property
    def root(self) -> bytes:
        """Over all receipts so far."""
        leaves = [leaf_hash(encode(signed)) for row in self.rows for signed, _ in row]
        return root_of(leaves) if leaves else NO_RECEIPTS

    def stints(self) -> tuple[Stint, ...]:
        """Of all legs, as things stand."""
        return stints(self.agreed.terms, self.opened_reroutes, self.agreed.starts, base=self.agreed.base)

    def amounts(self, positions: int) -> tuple[int, ...]:
        """What each leg has earned once the session stands at `positions`."""
        found, parts = [], spans(self.opened_reroutes)
        for leg, stint in enumerate(self.stints()):
            held = self.agreed.terms.legs[leg]
            work = work_of(
                self.agreed.plan, stint, positions, late=self._counts[leg].late, rejected=self.rejected.get(leg, 0)
            )
            price = owed(rates_for(held, parts.get(leg)), work)
            found.append(price if leg in self.agreed.acceptances else 0)
        return tuple(found)

    def voucher(self, positions: int | None = None, key: SigningKey = CLIENT, **changes: Any) -> SignedVoucher:
        """The client's, for what every leg has signed for, or for `positions`."""
        positions = self.earned if positions is None else positions
        tokens_in, tokens_out = served(self.agreed.plan, positions)
        made = Voucher(
            session=self.agreed.id,
            amounts=self.amounts(positions),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            receipts=self.root,
        )
        return sign_voucher(self.agreed.ledger.domain, made.replace(**changes), key)

    def discharge(self, leg: int, amount: int, key: SigningKey | None = None, /, **changes: Any) -> Any:
        """A leg's signed word that it claims no more."""
        made = Discharge(session=self.agreed.id, leg=leg, amount=amount).replace(**changes)
        return sign_discharge(self.agreed.ledger.domain, made, key or self.agreed.keys[leg])

    def bundle(
        self, pay: SignedVoucher | None = None, *, end: str = "release", text: tuple[str, str] | None = ("Q", "A")
    ) -> Bundle:
        """Settle, give back what is left, and keep the evidence.

        Args:
            end: ``release`` by the legs' discharges, ``close`` after the grace, or ``open`` for nothing of both.
        """
        agreed, ledger, pay = self.agreed, self.agreed.ledger, pay or self.voucher()
        settled = agreed.opened
        if any(pay.voucher.amounts):
            settled = ledger.act(CLIENT, Settle, vouchers=(pay,))
        released = self._end(end)
        cover = self.earned + (self.earned >= agreed.plan.prompt)
        return Bundle(
            verifier_key=ledger.verifier_key,
            manifest=agreed.manifest,
            terms=agreed.terms,
            session=agreed.session,
            offers=agreed.offers,
            acceptances=tuple(agreed.acceptances.get(leg, b"") for leg in range(len(agreed.keys))),
            reroutes=tuple(self.reroutes),
            tokens=tuple(self.tokens[:cover]),
            windows=tuple(self.rows),
            nonce=agreed.client_chain.nonce(self._nonce) if self.windows else None,
            pay=pay,
            opened=ledger.evidence(agreed.opened),
            settled=ledger.evidence(settled),
            released=None if released is None else ledger.evidence(released),
            transcript=None if text is None else seal_transcript(agreed.session, text, CLIENT),
            text=text,
        )

    def _end(self, how: str) -> int | None:
        agreed, ledger = self.agreed, self.agreed.ledger
        record = ledger.books.session(agreed.id)
        assert record is not None
        if how == "open" or record.closed:
            return None
        if how == "close":
            ledger.now = max(ledger.now, agreed.session.expiry + 200)
            return ledger.act(CLIENT, Close, session=agreed.id)
        standing = enumerate(zip(record.settled, record.ceilings, strict=True))
        words = tuple(self.discharge(leg, settled) for leg, (settled, ceiling) in standing if settled < ceiling)
        return ledger.act(CLIENT, Release, discharges=words)
