"""A whole job in memory: the node's own legs and the client's own tab, joined by a queue instead of a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from node.pipeline.serving.compute import worked
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.meter import Meter
from node.pipeline.serving.onward import item_of
from node.pipeline.serving.trail import Trails
from node.ports import Activations, StepInput, StepOutput
from protocol.encoding.codec import Message
from protocol.energy.energy_shares import Worked
from protocol.identity.ids import keccak256
from protocol.identity.signing import open_envelope, seal
from protocol.market.offer import Offer, Provenance
from protocol.models.activations import from_wire
from protocol.session.draws import NonceChain
from protocol.session.frames import (
    Attach,
    Discharged,
    Draw,
    Finish,
    Prompt,
    Receipted,
    Sampled,
    SampledToken,
    Step,
    Told,
)
from protocol.session.job import JobEvent, JobState
from protocol.session.messages import Session, SignedVoucher, Voucher, sign_voucher
from protocol.session.metering import window_count
from protocol.session.order import Acceptance, JobOrder, check_acceptance, check_order
from protocol.session.receipt import token_bytes
from protocol.session.shaping import look_back
from protocol.session.tab import Tab
from protocol.session.terms import Terms, terms_hash
from scripts.vectors.parties import CLIENT, DOMAIN, MANIFEST, NOW, PROVIDERS, WIDTH, row_after, said_of, token_after

__all__ = ["CLIENT_PARTY", "Frame", "Served", "Talk", "accept", "chain_of", "rows_of"]

CLIENT_PARTY = -1
"""The client among the legs' indexes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on the data plane."""

    sender: int
    receiver: int
    header: Message
    payload: bytes


class _Energy:
    """30 mJ a prompt position, 50 a generated one; or nothing is known."""

    def __init__(self, *, known: bool) -> None:
        self.source = Provenance.MODEL if known else Provenance.UNKNOWN
        self._spent: int | None = 0 if known else None

    def begin(self) -> None:
        pass

    def record(self, worked: Sequence[Worked]) -> None:
        if self._spent is not None:
            self._spent += sum(30 * each.prompt + 50 * each.generated for each in worked)

    def spent(self, session: bytes) -> int | None:
        return self._spent

    def end(self, session: bytes) -> int | None:
        return self._spent


@dataclass(slots=True)
class Served:
    """A leg that has taken its order."""

    job: LegJob
    chain: NonceChain
    acceptance: bytes
    """Sealed."""


def chain_of(name: str, terms_windows: int) -> NonceChain:
    """The nonces of a party: from the hash of its name, where a program takes 32 random bytes."""
    return NonceChain(keccak256(f"example {name}".encode()), terms_windows + 1)


def accept(sealed: bytes, name: str, leg: int) -> Served:
    """What a node does with an order, less its own affairs. Raises as `check_order`."""
    key = PROVIDERS[leg]
    order, signer = open_envelope(sealed, JobOrder)
    check_order(order, signer, me=key.public_key, domain=DOMAIN, manifest=MANIFEST, now=NOW)
    offer, _ = open_envelope(order.offer, Offer)
    chain = chain_of(f"{name} leg {order.leg}", window_count(order.terms.plan))
    known = order.leg == 0
    meter = Meter(account=_Energy(known=known), pue_milli=1_250)
    job = LegJob(
        order,
        offer,
        key,
        DOMAIN,
        chain=chain,
        meter=meter,
        trails=Trails(),
        width=WIDTH,
        stop_tokens=MANIFEST.stop_tokens,
    )
    acceptance = Acceptance(
        session=job.session, leg=order.leg, terms=terms_hash(order.terms), cached=0, replays=False, nonces=chain.anchor
    )
    return Served(job, chain, seal(acceptance, key))


def rows_of(leg: int, tokens: Sequence[int], start: int, end: int) -> Activations:
    """What leaves the blocks of a leg at positions from `start` to below `end`."""
    rows = [row_after(leg, at, tokens[at]) for at in range(start, end)]
    found: Activations = np.array(rows, dtype=np.float32) / np.float32(16)
    return found


class Talk:
    """Runs one job to its end.

    Args:
        chain: the client's nonces.
        told: the prompt that the last leg is told of.
        grammar: text of what the answer is held to.
        first: the voucher in the orders.
    """

    def __init__(
        self,
        session: Session,
        terms: Terms,
        legs: Sequence[Served],
        *,
        chain: NonceChain,
        prompt: Sequence[int],
        told: Sequence[int],
        grammar: bytes,
        first: SignedVoucher,
    ) -> None:
        self.frames: list[Frame] = []
        self.vouchers = [first]
        self.lates: list[tuple[int, ...]] = [(0,) * len(legs)]
        """For each voucher: tokens that each leg had signed were late."""
        self.draws: list[Draw] = []
        self.discharges: dict[int, Discharged] = {}
        self.legs = legs
        accepted = {leg: check_acceptance(each.acceptance, session, terms, leg) for leg, each in enumerate(legs)}
        self.tab = Tab(
            session,
            terms,
            DOMAIN,
            acceptances=accepted,
            chain=chain,
            prompt=prompt,
            stop_tokens=MANIFEST.stop_tokens,
            vocabulary=MANIFEST.vocabulary,
        )
        self._told = look_back(terms.sampling.shaping, told, grammar).told
        self._tokens = list(prompt)
        """What the formulas go by: a leg may be ahead of what has reached the client."""
        self._queue: deque[Frame] = deque()
        self._finished = False
        self._ended = False
        self._now_us = 0

    def run(self) -> None:
        """The client's part follows docs/spec/session.md, section J."""
        tab = self.tab
        self._to_all(Attach(session=tab.id))
        if self._told:
            self._send(CLIENT_PARTY, len(self.legs) - 1, Told(session=tab.id, answer=False, last=True), self._told)
        self._pay_what_is_due()
        prompt = Prompt(session=tab.id, position=0, length=len(self._tokens))
        self._send(CLIENT_PARTY, 0, prompt, token_bytes(self._tokens))
        while self._queue:
            frame = self._queue.popleft()
            self._now_us += 300
            if frame.receiver == CLIENT_PARTY:
                self._at_client(frame)
            else:
                self._at_leg(self.legs[frame.receiver], frame)

    def _send(self, sender: int, receiver: int, header: Message, payload: bytes = b"") -> None:
        frame = Frame(sender, receiver, header, payload)
        self.frames.append(frame)
        self._queue.append(frame)

    def _to_all(self, header: Message) -> None:
        for leg in range(len(self.legs)):
            self._send(CLIENT_PARTY, leg, header)

    # The client

    def _at_client(self, frame: Frame) -> None:
        match frame.header:
            case Sampled():
                for token in frame.header.tokens:
                    self.tab.take_token(token, frame.payload)
            case Receipted():
                self.tab.take_receipt(frame.sender, frame.header.signed, frame.payload)
            case Discharged():
                self.discharges[frame.sender] = frame.header
        while (due := self.tab.next_draw()) is not None:
            self.draws.append(due[0])
            self._to_all(due[0])
        if not self.tab.ended:
            self._pay_what_is_due()
        elif not self._finished:
            self._finished = True
            self._to_all(Finish(session=self.tab.id, tokens_out=self.tab.generated))
        if self.tab.complete and not self._ended:
            self._ended = True
            self._pay(self.tab.last_voucher(honest=True))

    def _pay_what_is_due(self) -> None:
        voucher = self.tab.next_voucher()
        if voucher is not None:
            self._pay(voucher)

    def _pay(self, voucher: Voucher) -> None:
        self.vouchers.append(sign_voucher(DOMAIN, voucher, CLIENT))
        self.lates.append(tuple(self.tab.book.late(leg) for leg in range(len(self.legs))))
        self._to_all(self.vouchers[-1])

    # A leg

    def _at_leg(self, served: Served, frame: Frame) -> None:
        job, header = served.job, frame.header
        match header:
            case Attach():
                job.advance(JobEvent.ATTACH)
            case Told() | Prompt():
                self._take_ids(job, header, frame.payload)
            case Step():
                self._take_rows(served, header, frame.payload)
            case Sampled():
                for token in header.tokens:
                    job.arrive(token.position, (token.token,), now_us=self._now_us)
            case SignedVoucher():
                job.check_voucher(header)
                job.claim.count(header)
            case Draw():
                job.show(job.take_draw(header).run())
            case Finish():
                job.finish(header.tokens_out)
        self._work(served)
        if isinstance(header, SignedVoucher) and job.state is JobState.FINISHED:
            self._send(job.leg, CLIENT_PARTY, job.discharge())

    def _take_ids(self, job: LegJob, header: Told | Prompt, payload: bytes) -> None:
        if isinstance(header, Told):
            job.looking_back.take(header, payload, serves=True)
            job.looking_back.prepares = False  # the formula for tokens knows no masks
        else:
            tokens = tuple(np.frombuffer(payload, dtype="<u4").tolist())
            job.arrive(header.position, tokens, now_us=self._now_us)

    def _take_rows(self, served: Served, step: Step, payload: bytes) -> None:
        rows, at = from_wire(step.activations, payload, WIDTH), 0
        for item in step.items:
            served.job.arrive(item.position, rows[at : at + item.length], now_us=self._now_us)
            at += item.length

    def _work(self, served: Served) -> None:
        self._post_receipts(served)
        while (piece := served.job.next_piece(64)) is not None:
            self._compute(served, piece)
            self._post_receipts(served)

    def _compute(self, served: Served, piece: StepInput) -> None:
        job = served.job
        hidden = rows_of(job.leg, self._tokens, piece.position, piece.position + piece.length)
        last = piece.position + piece.length - 1
        drawn = (token_after(last, self._tokens[last]),) if piece.draws else ()
        said = tuple(said_of(token, last + 1, job.terms.sampling.logprobs) for token in drawn)
        output = StepOutput(
            session=job.session,
            position=piece.position,
            length=piece.length,
            hidden=hidden,
            tokens=drawn,
            said=tuple(filter(None, said)),
        )
        took_us = 3_000 if last % 3 == 0 else 1_000
        job.meter.account.record([worked(job, piece)])
        passed = job.complete(piece, output, now_us=self._now_us + took_us)
        if passed is not None and passed.rows:
            step = Step(activations=job.terms.activations, items=(item_of(job, passed),))
            self._send(job.leg, job.leg + 1, step, passed.rows)
        self._tokens.extend(drawn)
        for token in drawn:
            sampled = SampledToken(session=job.session, position=last + 1, token=token)
            self._send(job.leg, CLIENT_PARTY, Sampled(tokens=(sampled,)), b"".join(said))
            if not job.ended and job.is_first:
                job.arrive(last + 1, drawn, now_us=self._now_us)
            elif not job.ended:
                self._send(job.leg, 0, Sampled(tokens=(sampled,)))

    def _post_receipts(self, served: Served) -> None:
        while (due := served.job.next_receipt()) is not None:
            self._send(served.job.leg, CLIENT_PARTY, due.frame, due.sketches)
