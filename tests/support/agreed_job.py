"""A whole job in memory, without engine, network or clock: what is agreed, played, paid and kept.

`agree` opens a session on a `PaperLedger`; a `Play` goes through its windows as honest legs and an honest client would,
with random rows, and ends in a `Bundle` that verifies. Whoever wants to see a lie refused passes `alter`, which changes
receipts before they are signed, or replaces parts of the bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from market_offers import NOW, a_policy, an_offer, key_of, some_rates
from paper_ledger import PaperLedger

from protocol.agreement import Chosen, make_session, make_terms
from protocol.bundle import Bundle, seal_transcript
from protocol.codec import encode
from protocol.draws import NonceChain, window_seed
from protocol.eip712 import sign_typed
from protocol.fingerprint import SKETCH_BYTES, sketch
from protocol.ids import BlockSpan, ModelFile, ModelManifest
from protocol.merkle import leaf_hash, root_of
from protocol.messages import (
    Discharge,
    Receipt,
    Session,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.metering import Stint, last_position, owed, served, stints, window_end, work_of
from protocol.offer import Offer, Provenance
from protocol.operations import Close, Open, Release, Settle
from protocol.order import Acceptance
from protocol.receipt import NO_HASH, NO_RECEIPTS, bytes_hash, sketches_hash, token_bytes, yielded_by
from protocol.routing import RouteLeg
from protocol.signing import SigningKey, seal
from protocol.terms import Assignment, Continuation, Plan, Reroute, SamplingTerms, Terms, route_at, terms_hash

__all__ = ["CLIENT", "HIDDEN", "VOCABULARY", "Agreed", "Play", "agree"]

CLIENT = SigningKey(b"\x01" * 32)
HIDDEN = 8
VOCABULARY = 1000
MOST_WINDOWS = 300
RATES = {
    "opening": 7,
    "price_in": 1_000_000,
    "price_out": 2_500_001,
    "price_cached": 100_000,
    "late_discount_ppm": 250_000,
}
Spans = Sequence[tuple[int, int]]
Row = tuple[tuple[SignedReceipt, bytes], ...]
Alter = Callable[[Receipt, bytes], tuple[Receipt, bytes]]


@dataclass(kw_only=True)
class Agreed:
    """A session that is open, and what its parties hold."""

    ledger: PaperLedger
    manifest: ModelManifest
    keys: tuple[SigningKey, ...]
    """Of the legs."""
    offers: tuple[bytes, ...]
    terms: Terms
    session: Session
    acceptances: dict[int, bytes]
    cached: tuple[int, ...]
    chains: tuple[NonceChain, ...]
    """Of the legs."""
    client_chain: NonceChain
    opened: int
    """Place of the opening entry in the ledger's log."""

    @property
    def plan(self) -> Plan:
        return self.terms.plan

    @property
    def id(self) -> bytes:
        return session_id(self.session)

    def accept(self, leg: int, key: SigningKey | None = None, /, **changes: Any) -> bytes:
        """A leg's sealed acceptance."""
        acceptance = Acceptance(
            session=self.id,
            leg=leg,
            terms=terms_hash(self.terms),
            cached=self.cached[leg],
            nonces=self.chains[leg].anchor,
        )
        return seal(acceptance.replace(**changes), key or self.keys[leg])


def chain_of(name: str, length: int = MOST_WINDOWS) -> NonceChain:
    """Somebody's nonces, the same in every run."""
    return NonceChain(hashlib.sha256(name.encode()).digest(), length)


def manifest_of(blocks: int) -> ModelManifest:
    """A model that nobody has."""
    return ModelManifest(
        name="paper",
        precision="fp32",
        blocks=blocks,
        hidden_size=HIDDEN,
        vocabulary=VOCABULARY,
        max_context=4096,
        stop_tokens=(0,),
        files=(ModelFile(name="config.json", size=1, sha256=bytes(32)),),
    )


def offered(number: int, span: tuple[int, int], manifest: ModelManifest, venue: bytes, **changes: Any) -> Offer:
    """What leg `number` offers."""
    values: dict[str, Any] = {
        "rates": some_rates(**{**RATES, "price_in": RATES["price_in"] + number}),
        "venue": venue,
        "model": manifest.root,
        "blocks": manifest.blocks,
    }
    return an_offer(number, span, **{**values, **changes})


def agree(
    *,
    spans: Spans = ((0, 2), (2, 4), (4, 6)),
    standbys: Spans = (),
    prompt: int = 10,
    most: int = 11,
    chunk: int = 4,
    window: int = 4,
    continues: int = 0,
    cached: Mapping[int, int] | None = None,
    silent: Iterable[int] = (),
    offers: Mapping[int, dict[str, Any]] | None = None,
    policy: dict[str, Any] | None = None,
    salt: int = 0,
    ledger: PaperLedger | None = None,
    change: Callable[[Terms], Terms] = lambda terms: terms,
) -> Agreed:
    """Make terms, open their session, and let the legs accept.

    Args:
        continues: positions of an earlier session; 0 for a job that begins anew.
        cached: by leg, how many of them it still holds.
        silent: legs that accept nothing.
        offers: changes to the offers, by leg.
        change: the last word on the terms.
    """
    ledger = ledger or PaperLedger(NOW)
    everybody = (*spans, *standbys)
    manifest = manifest_of(max(end for _, end in spans))
    chosen = []
    for leg, (start, end) in enumerate(everybody):
        offer = offered(leg, (start, end), manifest, ledger.domain.separator, **(offers or {}).get(leg, {}))
        span = BlockSpan(start=start, end=end)
        chosen.append(Chosen(RouteLeg(offer, span, 0, 0), seal(offer, key_of(leg))))
    client_chain = chain_of("client")
    terms = change(
        make_terms(
            chosen[: len(spans)],
            manifest=manifest,
            venue=ledger.domain.separator,
            policy=a_policy(**(policy or {})),
            plan=Plan(prompt=prompt, most=most, chunk=chunk, window=window),
            sampling=SamplingTerms(temperature_milli=700, seed=5),
            nonces=client_chain.anchor,
            standbys=chosen[len(spans) :],
            continues=Continuation(session=b"\x77" * 32, positions=continues) if continues else None,
        )
    )
    session = make_session(terms, client=CLIENT.address, expiry=NOW + 600, salt=salt.to_bytes(32, "big"))
    ledger.fund(CLIENT.address, sum(leg.cap for leg in session.legs) + 100)
    made = Agreed(
        ledger=ledger,
        manifest=manifest,
        keys=tuple(key_of(leg) for leg in range(len(everybody))),
        offers=tuple(each.sealed for each in chosen),
        terms=terms,
        session=session,
        acceptances={},
        cached=tuple((cached or {}).get(leg, 0) for leg in range(len(everybody))),
        chains=tuple(chain_of(f"leg {leg}") for leg in range(len(everybody))),
        client_chain=client_chain,
        opened=ledger.act(CLIENT, Open, session=session, signature=b""),
    )
    made.acceptances = {leg: made.accept(leg) for leg in range(len(everybody)) if leg not in set(silent)}
    return made


def unaltered(receipt: Receipt, sketches: bytes) -> tuple[Receipt, bytes]:
    """What honest legs do to their receipts."""
    return receipt, sketches


@dataclass(kw_only=True)
class _Counts:
    """What a leg has counted so far."""

    rows: int = 0
    late: int = 0


@dataclass
class Play:
    """The windows of one job, played in order.

    Args:
        alter: what each leg does to a receipt, and to the sketches that it shows, before it signs.
        forge: what it does, by leg and window, to the sketches that it shows, before it names their hash.
        tell: the seed that the client tells the legs, where it is not the window's own.
    """

    agreed: Agreed
    alter: Alter = unaltered
    forge: Callable[[int, int, bytes], bytes] = lambda leg, window, shown: shown
    tell: Callable[[bytes], bytes] = bytes
    tokens: list[int] = field(default_factory=list)
    position: int = 0
    """Positions of whole windows."""
    rows: list[Row] = field(default_factory=list)
    reroutes: list[bytes] = field(default_factory=list)
    opened_reroutes: list[Reroute] = field(default_factory=list)
    windows: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(len(self.agreed.keys))
        self._counts = [_Counts() for _ in self.agreed.keys]
        self._shown: dict[int, bytes] = {}
        self._seed = b""
        if not self.tokens:
            self.tokens = self._random.integers(1, VOCABULARY, self.agreed.plan.prompt).tolist()

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

    def window(self, *, end: int | None = None, late: Mapping[int, int] | None = None) -> None:
        """The next window.

        Args:
            end: its last position and one; None for where it ends by the plan.
            late: by leg, tokens of this window that were late.
        """
        plan, start = self.agreed.plan, self.position
        end = window_end(plan, start) if end is None else end
        route, count = self.route, end - start
        missing = max(0, end + 1 - len(self.tokens)) if end >= plan.prompt else 0
        self.tokens += self._random.integers(1, VOCABULARY, missing).tolist()
        sent = [self._random.standard_normal((count, HIDDEN)).astype(np.float32) for _ in route]
        signed = []
        for place, each in enumerate(route):
            counts, last = self._counts[each.leg], place == len(route) - 1
            counts.rows += count + (start if not counts.rows and start else 0)
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
                    nonce=self.agreed.chains[each.leg].nonce(self.windows),
                )
            )
        nonces = [receipt.receipt.nonce for receipt, _ in signed]
        seed = window_seed(self.agreed.id, self.windows, self.agreed.client_chain.nonce(self.windows), nonces)
        self._seed = seed = self.tell(seed)
        entered = [bytes(SKETCH_BYTES), *(sketch(rows, seed) for rows in sent[:-1])]
        self._shown = {each.leg: entered[place] + sketch(sent[place], seed) for place, each in enumerate(route)}
        self.rows.append(tuple(signed))
        self.position, self.windows = end, self.windows + 1

    def close(self) -> None:
        """The receipts after the last window."""
        legs = [each.receipt.leg for each, _ in self.rows[-1]]
        nothing = dict.fromkeys(("input", "output", "tokens", "nonce"), NO_HASH)
        self.rows.append(tuple(self._sign(leg, self.position, **nothing) for leg in legs))

    def _sign(self, leg: int, end: int, **hashes: bytes) -> tuple[SignedReceipt, bytes]:
        counts, shown = self._counts[leg], self.forge(leg, self.windows, self._shown.get(leg, b""))
        tokens_in, tokens_out = served(self.agreed.plan, end)
        receipt = Receipt(
            session=self.agreed.id,
            leg=leg,
            window=self.windows,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            rows=counts.rows,
            sketches=sketches_hash(self._seed, shown) if shown else NO_HASH,
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
        return stints(self.agreed.terms, self.opened_reroutes, self.agreed.cached)

    def amounts(self, positions: int) -> tuple[int, ...]:
        """What each leg has earned once the session stands at `positions`."""
        found = []
        for leg, stint in enumerate(self.stints()):
            work = work_of(self.agreed.plan, stint, positions, late=self._counts[leg].late)
            price = owed(self.agreed.terms.legs[leg].rates, work)
            found.append(price if leg in self.agreed.acceptances else 0)
        return tuple(found)

    def voucher(self, positions: int | None = None, key: SigningKey = CLIENT, **changes: Any) -> SignedVoucher:
        """The client's, for what every leg has signed for, or for `positions`."""
        positions = self.position if positions is None else positions
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
        cover = self.position + (self.position >= agreed.plan.prompt)
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
            nonce=agreed.client_chain.nonce(self.windows - 1) if self.windows else None,
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
