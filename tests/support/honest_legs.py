"""Honest legs without I/O: what each signs for a window, and a whole job over them in any order of arrival.

`Legs` makes acceptances and receipts for a session; `Schedule` runs a `Tab` against them and their `Claim`s, with every
message on its way in a queue of its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from random import Random
from typing import Any

from taken import take_voucher

from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey
from protocol.market.offer import Evidence, Provenance
from protocol.market.rates import Rates
from protocol.models.activations import ActivationType
from protocol.policy.policy import LatencyClass, Policy
from protocol.session.claim import Claim
from protocol.session.draws import NonceChain, window_seed
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.frames import Draw, SampledToken
from protocol.session.messages import Leg, Receipt, Session, SignedReceipt, session_id, sign_voucher
from protocol.session.metering import most_owed, served, window_count, window_end
from protocol.session.order import Acceptance
from protocol.session.receipt import NO_HASH, NO_SKETCH, bytes_hash, sketches_hash, token_bytes, yielded_by
from protocol.session.tab import Tab, first_voucher
from protocol.session.terms import LegTerms, Plan, SamplingTerms, Speculation, Terms, terms_hash
from protocol.settlement import ledger_domain

DOMAIN = ledger_domain("one+00000000+AA==")
CLIENT = SigningKey(b"\x77" * 32)
STOP = 0
POLICY = Policy(
    latency_class=LatencyClass.CHAT,
    max_price_in=None,
    max_price_out=None,
    allow=(),
    deny=(),
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="fp32",
)


def rates(**changes: int) -> Rates:
    values = {
        "opening": 3,
        "price_in": 1_000_000,
        "price_out": 2_000_000,
        "price_cached": 100_000,
        "price_rejected": 0,
        "late_discount_ppm": 0,
    }
    return Rates(**(values | changes))


class Legs:
    """A session over some honest legs, and all that they sign in it.

    Args:
        answer: token ids that will be drawn; a `STOP`, or the last of the plan's, ends it.
    """

    def __init__(
        self, plan: Plan, answer: list[int], leg_rates: list[Rates], *, credit: int = 0, late: int = 0
    ) -> None:
        self.plan = plan
        self.keys = [SigningKey(bytes([number + 1]) * 32) for number in range(len(leg_rates))]
        self.tokens = [*range(11, 11 + plan.prompt), *answer]
        self.end = plan.prompt - 1 + len(answer)
        """Positions that the whole answer takes."""
        self.late = late
        """Of every so many generated tokens one is late; 0 for none."""
        length = window_count(plan) + 1
        self.chain = NonceChain(b"\x55" * 32, length)
        self.chains = [NonceChain(bytes([number + 100]) * 32, length) for number in range(len(leg_rates))]
        self.terms = Terms(
            venue=DOMAIN.separator,
            model=bytes(32),
            policy=POLICY,
            route=tuple(
                LegTerms(
                    public_key=key.public_key,
                    span=BlockSpan(start=number, end=number + 1),
                    rates=of_leg,
                    offer=bytes(32),
                    offer_expires_at=2_000_000_000,
                )
                for number, (key, of_leg) in enumerate(zip(self.keys, leg_rates, strict=True))
            ),
            standbys=(),
            plan=plan,
            sampling=SamplingTerms(temperature_milli=0, seed=0),
            activations=ActivationType.FP32,
            credit=credit,
            speculation=Speculation(depth=0, flights=0),
            nonces=self.chain.anchor,
            continues=None,
        )
        self.session = Session(
            client=CLIENT.address,
            expiry=2_000_000_000,
            terms=terms_hash(self.terms),
            salt=bytes(32),
            legs=tuple(
                Leg(provider=key.address, cap=most_owed(leg, plan, standby=False))
                for key, leg in zip(self.keys, self.terms.route, strict=True)
            ),
        )
        self.id = session_id(self.session)
        self.acceptances = {
            leg: Acceptance(
                session=self.id,
                leg=leg,
                terms=terms_hash(self.terms),
                cached=0,
                replays=False,
                nonces=self.chains[leg].anchor,
            )
            for leg in range(len(self.keys))
        }

    def tab(self, **changes: Any) -> Tab:
        values: dict[str, Any] = {
            "acceptances": self.acceptances,
            "chain": self.chain,
            "prompt": self.tokens[: self.plan.prompt],
            "stop_tokens": (STOP,),
            "vocabulary": 1 << 24,
        }
        return Tab(self.session, self.terms, DOMAIN, **(values | changes))

    def token(self, position: int) -> SampledToken:
        return SampledToken(session=self.id, position=position, token=self.tokens[position])

    def windows(self) -> list[tuple[int, int]]:
        """First position, and one past the last, of each window of the whole answer."""
        bounds, start = [], 0
        while start < self.end:
            bounds.append((start, min(window_end(self.plan, start), self.end)))
            start = bounds[-1][1]
        return bounds

    def late_at(self, positions: int) -> int:
        return served(self.plan, positions)[1] // self.late if self.late else 0

    def receipt(self, leg: int, window: int, /, **changes: Any) -> Receipt:
        """What a leg signs for a window; for the one after the last, its closing receipt."""
        bounds = self.windows()
        closing = window == len(bounds)
        start, end = bounds[window - 1] if closing else bounds[window]
        tokens_in, tokens_out = served(self.plan, end)
        yielded = yielded_by(self.plan, self.tokens, start, end)
        inside = [hashlib.sha256(f"{boundary} {start} {end}".encode()).digest() for boundary in range(len(self.keys))]
        values: dict[str, Any] = {
            "session": self.id,
            "leg": leg,
            "window": window,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "rows": end,
            "input": inside[leg - 1] if leg else bytes_hash(token_bytes(self.tokens[start:end])),
            "output": inside[leg],
            "tokens": bytes_hash(token_bytes(yielded)) if leg == len(self.keys) - 1 else NO_HASH,
            "nonce": self.chains[leg].nonce(window),
            "sketches": sketches_hash([(self.seed(window - 1), self.sketches(leg, window))] if window else []),
            "millijoules": 7 * end,
            "source": Provenance.WALL,
            "pue_milli": 1200,
            "p50_us": 0,
            "p95_us": 0,
            "late": self.late_at(end),
        }
        if closing:
            values |= dict.fromkeys(("input", "output", "tokens", "nonce"), NO_HASH)
        return Receipt(**(values | changes))

    def sketches(self, leg: int, window: int) -> bytes:
        """What the receipt of a window shows: the sketches of the window before."""
        if not window:
            return b""
        entered = bytes([window, leg]) * (SKETCH_BYTES // 2) if leg else NO_SKETCH
        return entered + bytes([window, leg + 1]) * (SKETCH_BYTES // 2)

    def signed(self, leg: int, window: int, /, **changes: Any) -> SignedReceipt:
        receipt = self.receipt(leg, window, **changes)
        return SignedReceipt(receipt=receipt, signature=sign_typed(DOMAIN, receipt, self.keys[leg]))

    def seed(self, window: int) -> bytes:
        return window_seed(self.id, window, self.chain.nonce(window), [each.nonce(window) for each in self.chains])


class Schedule:
    """One job, message by message, in an order that `chance` picks among all that could happen next."""

    def __init__(self, legs: Legs, chance: Random) -> None:
        self.legs = legs
        self.chance = chance
        self.tab = legs.tab()
        first = sign_voucher(DOMAIN, first_voucher(legs.session, legs.terms), CLIENT)
        self.claims = [Claim(DOMAIN, legs.session, legs.terms, leg, first) for leg in range(len(legs.keys))]
        self.vouchers = [first.voucher]
        self.draws: list[Draw] = []
        self.processed = [0] * len(self.claims)
        self._written = [0] * len(self.claims)
        """By leg: receipts that it has signed."""
        self._drawn = [0] * len(self.claims)
        """By leg: draws that have reached it."""
        self._finished = [False] * len(self.claims)
        self._said_finish = False
        self._to_leg: list[deque[Any]] = [deque() for _ in self.claims]
        self._to_client: list[deque[Any]] = [deque() for _ in self.claims]
        self._answer()

    def step(self) -> bool:
        """Let one thing happen; False where nothing can."""
        everyone = range(len(self.claims))
        possible = [(self._deliver, leg) for leg in everyone if self._to_leg[leg]]
        possible += [(self._arrive, leg) for leg in everyone if self._to_client[leg]]
        possible += [(self._process, leg) for leg in everyone if self._may_process(leg)]
        possible += [(self._sign, leg) for leg in everyone if self._may_sign(leg)]
        if not possible:
            return False
        act, leg = self.chance.choice(possible)
        act(leg)
        return True

    def _may_process(self, leg: int) -> bool:
        at = self.processed[leg]
        if at >= self.legs.end or at >= self.claims[leg].may_process:
            return False
        # Rows come from the leg before; tokens beyond the prompt round the ring.
        return at < self.processed[leg - 1] if leg else at < max(self.legs.plan.prompt, self.processed[-1] + 1)

    def _process(self, leg: int) -> None:
        self.processed[leg] += 1
        at = self.processed[leg]
        if leg == len(self.claims) - 1 and at >= self.legs.plan.prompt:
            self._to_client[leg].append(self.legs.token(at))

    def _may_sign(self, leg: int) -> bool:
        window, bounds = self._written[leg], self.legs.windows()
        if window > self._drawn[leg]:
            return False  # the sketches of the window before are of a seed that is not known here yet
        if window == len(bounds):
            return self._finished[leg]
        if window > len(bounds) or self.processed[leg] < bounds[window][1]:
            return False
        return bounds[window][1] == window_end(self.legs.plan, bounds[window][0]) or self._finished[leg]

    def _sign(self, leg: int) -> None:
        window = self._written[leg]
        self._written[leg] += 1
        self._to_client[leg].append((self.legs.signed(leg, window), self.legs.sketches(leg, window)))

    def _deliver(self, leg: int) -> None:
        match self._to_leg[leg].popleft():
            case Draw() as draw:
                assert draw.window == self._drawn[leg]
                self._drawn[leg] += 1
            case "finish":
                self._finished[leg] = True
            case voucher:
                take_voucher(self.claims[leg], voucher, late=self.late(leg))

    def late(self, leg: int) -> int:
        """Late tokens that a leg has signed for."""
        bounds = self.legs.windows()[: self._written[leg]]
        return self.legs.late_at(bounds[-1][1]) if bounds else 0

    def _arrive(self, leg: int) -> None:
        match self._to_client[leg].popleft():
            case SampledToken() as token:
                self.tab.take_token(token)
            case (signed, sketches):
                self.tab.take_receipt(leg, signed, sketches)
        self._answer()

    def _answer(self) -> None:
        """What a client does after each message (`node.pipeline.buying.conversation`)."""
        while (due := self.tab.next_draw()) is not None:
            self.draws.append(due[0])
            self._send_all(due[0])
        if self.tab.ended:
            if not self._said_finish:
                self._said_finish = True
                self._send_all("finish")
        elif (voucher := self.tab.next_voucher()) is not None:
            self.vouchers.append(voucher)
            self._send_all(sign_voucher(DOMAIN, voucher, CLIENT))

    def _send_all(self, message: Any) -> None:
        for queue in self._to_leg:
            queue.append(message)
