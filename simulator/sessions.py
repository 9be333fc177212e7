"""One request as a session by the shipped rules: terms, vouchers, windows, receipts, discharges; nothing is sent.

The client's side is `protocol.session.tab.Tab`, each leg's is `protocol.session.claim.Claim`, and money moves by
`protocol.settlement` (X24). All are honest here: what is tried is that these rules, on the simulator's counts and
prices, pay every leg to the unit what it earned, never let it work unpaid, and leave nothing behind.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from protocol.errors import ConfigurationError, RuleError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import MAX_TOKENS, BlockSpan
from protocol.market.offer import Provenance
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import Policy
from protocol.session.claim import Claim
from protocol.session.draws import NonceChain
from protocol.session.frames import SampledToken
from protocol.session.messages import (
    Leg,
    Receipt,
    Session,
    SignedDischarge,
    SignedReceipt,
    SignedVoucher,
    Voucher,
    session_id,
)
from protocol.session.metering import Work, most_owed, owed, served, window_count, window_end
from protocol.session.order import Acceptance
from protocol.session.receipt import NO_HASH, SKETCHES_BYTES, bytes_hash, sketches_hash, token_bytes, yielded_by
from protocol.session.tab import Tab, first_voucher
from protocol.session.terms import LegTerms, Plan, SamplingTerms, Speculation, Terms, terms_hash
from simulator.ledger import SessionLedger
from simulator.signers import Signers

__all__ = ["Part", "Sessions"]

_EXPIRES_S = 3600
_TOKEN, _STOP = 1, 0
_ONE_PUE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What one site did for a request."""

    site: str
    blocks: int
    """That it serves."""
    rates: Rates
    """For these."""
    joules: tuple[int, int]
    """Millijoules for a prompt and a generated token, at the machine, for these blocks."""
    late: bool = False
    """Whether each generated token took it longer than its offer says."""

    def owed(self, tokens_in: int, tokens_out: int) -> int:
        """Micro-units for so many tokens."""
        return owed(self.rates, Work(tokens_in=tokens_in, tokens_out=tokens_out, late=self.late_of(tokens_out)))

    def late_of(self, tokens_out: int) -> int:
        """Of so many generated tokens, those that were late."""
        return tokens_out if self.late else 0


class Sessions:
    """Plays sessions on one ledger.

    Args:
        window: generated tokens, and prompt tokens, in one window.
    """

    def __init__(self, ledger: SessionLedger, signers: Signers, window: int) -> None:
        self.ledger, self._signers, self._window, self._count = ledger, signers, window, 0

    def settle(self, client: str, policy: Policy, size: tuple[int, int], legs: Sequence[Part]) -> tuple[int, ...]:
        """Serve a request of so many prompt and generated tokens, and pay for it: micro-units of each leg.

        Raises:
            ConfigurationError: no session has such a size.
            RuleError: a leg would work before it is paid, or a rule of the ledger forbids something.
        """
        prompt, generated = size
        if not (prompt >= 1 and generated >= 1 and prompt + generated + self._window <= MAX_TOKENS):
            raise ConfigurationError(
                "a session has a prompt and an answer", hint=f"of {MAX_TOKENS:,} tokens at most; or leave ledger out"
            )
        self._count += 1
        made = _Made(
            self._signers, self.ledger.domain, self._plan(prompt, generated), client, policy, legs, self._count
        )
        session = made.open(self.ledger.now + _EXPIRES_S)
        self.ledger.open(client, session)
        last, discharges = _Play(made, generated).run()
        self.ledger.settle(client, last, discharges)
        return last.voucher.amounts

    def _plan(self, prompt: int, generated: int) -> Plan:
        """The client allows for a longer answer than comes."""
        return Plan(prompt=prompt, most=generated + self._window, chunk=self._window, window=self._window)


class _Made:
    """What is agreed for one session, and who signs in it."""

    def __init__(
        self,
        signers: Signers,
        domain: Domain,
        plan: Plan,
        client: str,
        policy: Policy,
        legs: Sequence[Part],
        number: int,
    ) -> None:
        self.signers, self.domain, self.plan, self.client, self.legs = signers, domain, plan, client, legs
        self._number = number
        windows = window_count(plan) + 1
        self.chain = NonceChain(self._secret("client"), windows)
        self.chains = [NonceChain(self._secret(str(leg)), windows) for leg in range(len(legs))]
        route, at = [], 0
        for each in legs:
            span = BlockSpan(start=at, end=at + each.blocks)
            key = signers.public_key(each.site)
            route.append(
                LegTerms(public_key=key, span=span, rates=each.rates, offer=bytes(32), offer_expires_at=2**40 - 1)
            )
            at = span.end
        self.terms = Terms(
            venue=domain.separator,
            model=bytes(32),
            policy=policy,
            route=tuple(route),
            standbys=(),
            plan=plan,
            sampling=SamplingTerms(temperature_milli=0, seed=0),
            activations=ActivationType.FP32,
            credit=0,
            speculation=Speculation(depth=0, flights=0),
            nonces=self.chain.anchor,
            continues=None,
        )

    def open(self, expiry: int) -> Session:
        """The session on these terms."""
        legs = tuple(
            Leg(provider=self.signers.address(each.site), cap=most_owed(terms, self.plan, standby=False))
            for each, terms in zip(self.legs, self.terms.route, strict=True)
        )
        self.session = Session(
            client=self.signers.address(self.client),
            expiry=expiry,
            terms=terms_hash(self.terms),
            salt=self._secret("salt"),
            legs=legs,
        )
        self.id = session_id(self.session)
        return self.session

    def _secret(self, whose: str) -> bytes:
        return hashlib.sha256(f"{self._number} {whose}".encode()).digest()


class _Play:
    """A session from its first voucher to its discharges: windows follow one another, and all is honest."""

    def __init__(self, made: _Made, generated: int) -> None:
        self._made, self._plan = made, made.plan
        self._tokens = [_TOKEN] * (made.plan.prompt + generated - 1) + [_STOP]
        self._end = made.plan.prompt - 1 + generated
        """Positions that the whole answer takes."""
        self._signed_for = 0
        """Generated tokens."""
        acceptances = {
            leg: Acceptance(
                session=made.id, leg=leg, terms=made.session.terms, cached=0, replays=False, nonces=chain.anchor
            )
            for leg, chain in enumerate(made.chains)
        }
        self._tab = Tab(
            made.session,
            made.terms,
            made.domain,
            acceptances=acceptances,
            chain=made.chain,
            prompt=self._tokens[: made.plan.prompt],
            stop_tokens=(_STOP,),
            vocabulary=_TOKEN + 1,
            recover=made.signers.recover,
        )
        first = self._signed(first_voucher(made.session, made.terms))
        self._claims = [
            Claim(made.domain, made.session, made.terms, leg, first, recover=made.signers.recover)
            for leg in range(len(made.legs))
        ]

    def run(self) -> tuple[SignedVoucher, tuple[SignedDischarge, ...]]:
        """The last voucher, and what legs give up."""
        start = 0
        while start < self._end:
            end = min(window_end(self._plan, start), self._end)
            self._serve(start, end)
            start = end
        self._sign(self._end, self._end)
        if not self._tab.complete:
            raise RuleError("a session did not end with its answer", code="conservation")
        last = self._signed(self._tab.last_voucher(honest=True))
        self._hand_out(last, last=True)
        return last, tuple(filter(None, map(self._discharge, self._claims, range(len(self._claims)))))

    def _serve(self, start: int, end: int) -> None:
        """One window: pay for it, compute it, sign for it."""
        while (voucher := self._tab.next_voucher()) is not None:
            self._hand_out(self._signed(voucher))
        if any(claim.may_process < end for claim in self._claims):
            raise RuleError("a leg would compute what nobody has paid", code="unpaid")
        for position in range(max(start + 1, self._plan.prompt), end + 1):
            self._tab.take_token(SampledToken(session=self._made.id, position=position, token=self._tokens[position]))
        self._sign(start, end)

    def _hand_out(self, signed: SignedVoucher, *, last: bool = False) -> None:
        """Every leg checks a voucher by what it has signed for."""
        for leg, claim in enumerate(self._claims):
            claim.check(signed, late=self._late(leg), last=last)
            claim.count(signed)

    def _late(self, leg: int) -> int:
        """Tokens of which a leg has signed that they were late."""
        return self._made.legs[leg].late_of(self._signed_for)

    def _sign(self, start: int, end: int) -> None:
        """Every leg's receipt for a window, or, where that is empty, the one that closes the session."""
        closing, window, made = start == end, len(self._tab.book.windows), self._made
        shown = bytes(SKETCHES_BYTES) if window else b""
        sketches = sketches_hash([(self._tab.book.seeds[-1], shown)]) if window else NO_HASH
        inner = NO_HASH if closing else hashlib.sha256(f"{start} {end}".encode()).digest()
        entered = NO_HASH if closing else bytes_hash(token_bytes(self._tokens[start:end]))
        drawn = NO_HASH if closing else bytes_hash(token_bytes(yielded_by(self._plan, self._tokens, start, end)))
        tokens_in, tokens_out = served(self._plan, end)
        for leg, each in enumerate(made.legs):
            receipt = Receipt(
                session=made.id,
                leg=leg,
                window=window,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                rows=end,
                input=inner if leg else entered,
                output=inner,
                tokens=drawn if leg == len(made.legs) - 1 else NO_HASH,
                nonce=NO_HASH if closing else made.chains[leg].nonce(window),
                sketches=sketches,
                millijoules=tokens_in * each.joules[0] + tokens_out * each.joules[1],
                source=Provenance.MODEL,
                pue_milli=_ONE_PUE,
                p50_us=0,
                p95_us=0,
                late=each.late_of(tokens_out),
            )
            signature = made.signers.sign(made.domain, receipt, each.site)
            self._tab.take_receipt(leg, SignedReceipt(receipt=receipt, signature=signature), shown)
        self._signed_for = tokens_out

    def _discharge(self, claim: Claim, leg: int) -> SignedDischarge | None:
        """None where the leg's cap is what it earned."""
        made, discharge = self._made, claim.discharge(self._end, late=self._late(leg))
        if discharge.amount == made.session.legs[leg].cap:
            return None
        signature = made.signers.sign(made.domain, discharge, made.legs[leg].site)
        return SignedDischarge(discharge=discharge, signature=signature)

    def _signed(self, voucher: Voucher) -> SignedVoucher:
        made = self._made
        return SignedVoucher(voucher=voucher, signature=made.signers.sign(made.domain, voucher, made.client))
